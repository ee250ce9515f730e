//! The roles of the networks of a training checkpoint, by the words in their prefixes.

use super::parts;
use crate::weights::NetworkRole;

/// Words in a prefix that other programs use for a moving average.
const AVERAGES: [&str; 5] = ["ema", "momentum", "target", "averaged", "average"];
/// Words in a prefix that other programs use for the network being trained.
const LEARNERS: [&str; 1] = ["online"];

/// What a prefix implies about its network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Label {
    /// It names the role.
    Role(NetworkRole),
    /// A moving average by a word of [`AVERAGES`].
    Average,
    /// The network being trained, by a word of [`LEARNERS`].
    Learner,
    /// Nothing.
    None,
}

/// The prefixes that may be meant, and the role of their network.
pub(super) type Choice<'a> = (Vec<&'a str>, Option<NetworkRole>);

/// The prefixes of a file with their labels.
pub(super) struct Labelled<'a>(Vec<(&'a str, Label)>);

impl<'a> Labelled<'a> {
    /// `network` names a role only in files of this program: those that name the `evaluated`
    /// network, or have its average as well.
    pub fn new(prefixes: &'a [String], evaluated: bool) -> Self {
        let is_average = |prefix: &String| parts(prefix).any(|part| part == "average");
        let ours = evaluated || prefixes.iter().any(is_average);
        let label = |prefix: &'a String| (prefix.as_str(), Label::of(prefix, ours));
        Self(prefixes.iter().map(label).collect())
    }

    fn with(&self, wanted: impl Fn(Label) -> bool) -> Vec<&'a str> {
        let found = self.0.iter().filter(|(_, label)| wanted(*label));
        found.map(|(prefix, _)| *prefix).collect()
    }

    fn has_average(&self) -> bool {
        self.0.iter().any(|(_, label)| label.is_average())
    }

    /// The network with a role. `None` if there is none.
    pub fn with_role(&self, role: NetworkRole) -> Option<Choice<'a>> {
        let named = self.with(|label| label == Label::Role(role));
        if !named.is_empty() {
            return Some((named, Some(role)));
        }
        let (word, usual) = match role.is_average() {
            true => (Label::Average, NetworkRole::Teacher),
            false => (Label::Learner, NetworkRole::Student),
        };
        let found = self.with(|label| label == word);
        if !found.is_empty() {
            return Some((found, Some(usual)));
        }
        let unlabelled = self.with(|label| label == Label::None);
        match (role.is_average(), self.has_average()) {
            _ if unlabelled.is_empty() => None,
            (true, true) => None,
            // Next to an average, it is the network that is averaged.
            (false, true) => Some((unlabelled, Some(usual))),
            (_, false) => Some((unlabelled, None)),
        }
    }

    /// The network whose names begin with `evaluated`. `None` if there is none.
    pub fn below(&self, evaluated: &str) -> Option<Choice<'a>> {
        let below = |prefix: &str| {
            let rest = prefix.strip_prefix(evaluated);
            rest.is_some_and(|rest| rest.starts_with('.'))
        };
        let found: Vec<_> = self.0.iter().filter(|(prefix, _)| below(prefix)).collect();
        let (_, label) = found.first()?;
        let prefixes = found.iter().map(|(prefix, _)| *prefix).collect();
        Some((prefixes, label.role()))
    }

    /// The network whose features are best: a moving average, else the only one.
    pub fn best(&self) -> Choice<'a> {
        let mut best = self.with(Label::is_average);
        if best.is_empty() {
            best = self.with(|label| label == Label::None);
        }
        if best.is_empty() {
            best = self.with(|_| true);
        }
        let label = self.0.iter().find(|(prefix, _)| best.contains(prefix));
        let role = label.and_then(|(_, label)| label.role());
        (best, role)
    }

    /// The roles that there are.
    pub fn roles(&self) -> Vec<NetworkRole> {
        let has_average = self.has_average();
        let role = |label: Label| match label {
            Label::None if has_average => Some(NetworkRole::Student),
            label => label.role(),
        };
        let mut roles: Vec<_> = self
            .0
            .iter()
            .filter_map(|(_, label)| role(*label))
            .collect();
        roles.sort_unstable();
        roles.dedup();
        roles
    }
}

impl Label {
    fn of(prefix: &str, ours: bool) -> Self {
        let words = || parts(prefix).flat_map(|part| part.split(['_', '-']));
        let any =
            |of: &[&str]| words().any(|word| of.contains(&word.to_ascii_lowercase().as_str()));
        if any(&["teacher"]) {
            Self::Role(NetworkRole::Teacher)
        } else if parts(prefix).any(|part| part == "average") {
            Self::Role(NetworkRole::Average)
        // MoCo's, of queries and of keys.
        } else if any(&AVERAGES) || parts(prefix).any(|part| part == "encoder_k") {
            Self::Average
        } else if any(&["student"]) {
            Self::Role(NetworkRole::Student)
        } else if ours && parts(prefix).next() == Some("network") {
            Self::Role(NetworkRole::Network)
        } else if any(&LEARNERS) {
            Self::Learner
        } else {
            Self::None
        }
    }

    /// The role that it names, or the usual one for its word.
    fn role(self) -> Option<NetworkRole> {
        match self {
            Self::Role(role) => Some(role),
            Self::Average => Some(NetworkRole::Teacher),
            Self::Learner => Some(NetworkRole::Student),
            Self::None => None,
        }
    }

    fn is_average(self) -> bool {
        self.role().is_some_and(NetworkRole::is_average)
    }
}
