//! The networks in a file, found by the names of their tensors, and the one that is read.
//!
//! Programs wrap a backbone in modules and dictionaries of their own (`state_dict`, `module.`,
//! `teacher_backbone.vit.`, …). They are not listed here: every network of a kind has one tensor
//! whose name ends alike, and whatever precedes that end is the network's prefix.

use std::path::Path;

use super::hugging_face::{MARKS as HUGGING_FACE, resnet as hugging_face_resnet};
use super::resnet;
use super::{NetworkRole, bad};
use crate::{Error, Result};

/// The ends of names that identify a network: of a vision transformer's patch embedding, or else of its
/// class token, or else of a residual network's first block.
const MARKS: [&[&str]; 3] = [
    &["patch_embed.proj.weight", HUGGING_FACE[0], HUGGING_FACE[1]],
    &["cls_token"],
    &[resnet::MARK, hugging_face_resnet::MARK],
];
/// Modules that wrap a network, or a part of it, without changing it.
const WRAPPERS: [&str; 5] = [
    "module",
    "_orig_mod",
    "_forward_module",
    "_fsdp_wrapped_module",
    "_checkpoint_wrapped_module",
];
/// Words in a prefix that other programs use for a moving average.
const AVERAGES: [&str; 5] = ["ema", "momentum", "target", "averaged", "average"];
/// Words in a prefix that other programs use for the network being trained.
const LEARNERS: [&str; 1] = ["online"];
/// How many names an error shows.
const SHOWN: usize = 3;

/// A network's place among the names of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Network {
    /// Precedes the names of the backbone and of its head, without wrappers.
    root: String,
    /// Precede the names of other networks, likewise.
    others: Vec<String>,
    /// Its role in a training checkpoint; `None` in a file of one network.
    pub role: Option<NetworkRole>,
}

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
type Choice<'a> = (Vec<&'a str>, Option<NetworkRole>);

impl Network {
    /// Finds the network with `role` among the names of a file's tensors, or the only one there
    /// is. Without a role, that is the one that the file's metadata names as `evaluated`, else the
    /// teacher or another moving average, else the only one.
    ///
    /// # Errors
    /// [`Error::BadWeights`] if there is none, or not the evaluated one; [`Error::NoSuchNetwork`]
    /// if there are only networks of other roles; [`Error::SeveralNetworks`] if several may be
    /// meant.
    pub fn find<'a>(
        path: &Path,
        names: impl Iterator<Item = &'a str> + Clone,
        role: Option<NetworkRole>,
        evaluated: Option<&str>,
    ) -> Result<Self> {
        let prefixes = prefixes(names.clone());
        if prefixes.is_empty() {
            return Err(bad(path, none_found(names)));
        }
        let labelled = Labelled::new(&prefixes, evaluated.is_some());
        let (found, known) = match (role, evaluated) {
            (Some(role), _) => labelled
                .with_role(role)
                .ok_or_else(|| Error::NoSuchNetwork {
                    path: path.into(),
                    wanted: role,
                    found: labelled.roles(),
                })?,
            (None, Some(evaluated)) => labelled.below(evaluated).ok_or_else(|| {
                let prefixes = prefixes.join(", ");
                let reason = format!(
                    "its metadata names {evaluated} as the evaluated network, but it has only \
                     {prefixes}"
                );
                bad(path, reason)
            })?,
            (None, None) => labelled.best(),
        };
        let &[prefix] = found.as_slice() else {
            return Err(Error::SeveralNetworks {
                path: path.into(),
                wanted: role,
                prefixes: found.into_iter().map(str::to_owned).collect(),
            });
        };
        let marked = |name: &str| {
            let name = unwrapped(name);
            let mut marks = HUGGING_FACE.iter().chain([&hugging_face_resnet::MARK]);
            marks.any(|mark| name.strip_suffix(mark) == Some(prefix))
        };
        let hugging_face = names.clone().any(marked);
        let others = prefixes.iter().filter(|&other| {
            // The names of one whose prefix ours extends would include ours.
            other != prefix && !prefix.starts_with(other.as_str())
        });
        Ok(Self {
            root: root(prefix, hugging_face).to_owned(),
            others: others.cloned().collect(),
            role: known,
        })
    }

    /// A tensor's name as in a file that holds only this network; `None` if the tensor belongs to
    /// another one.
    pub fn local(&self, name: &str) -> Option<String> {
        let name = unwrapped(name);
        let rest = name.strip_prefix(&self.root)?;
        let others = self
            .others
            .iter()
            .any(|other| name.starts_with(other.as_str()));
        (!others && !is_of_training(&name)).then(|| rest.to_owned())
    }

    /// Whether names have nothing but wrappers before them.
    pub fn is_bare(&self) -> bool {
        self.root.is_empty()
    }
}

/// The prefixes of a file with their labels.
struct Labelled<'a>(Vec<(&'a str, Label)>);

impl<'a> Labelled<'a> {
    /// `network` names a role only in files of this program: those that name the `evaluated`
    /// network, or have its average as well.
    fn new(prefixes: &'a [String], evaluated: bool) -> Self {
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
    fn with_role(&self, role: NetworkRole) -> Option<Choice<'a>> {
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
    fn below(&self, evaluated: &str) -> Option<Choice<'a>> {
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
    fn best(&self) -> Choice<'a> {
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
    fn roles(&self) -> Vec<NetworkRole> {
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

/// The prefix of each network, sorted, each once.
fn prefixes<'a>(names: impl Iterator<Item = &'a str> + Clone) -> Vec<String> {
    let names: Vec<String> = names
        .filter(|name| !is_of_training(name))
        .map(unwrapped)
        .collect();
    for marks in MARKS {
        let ends = |name: &String| {
            let prefix = marks.iter().find_map(|mark| name.strip_suffix(mark))?;
            (prefix.is_empty() || prefix.ends_with('.')).then(|| prefix.to_owned())
        };
        let mut found: Vec<String> = names.iter().filter_map(ends).collect();
        found.sort();
        found.dedup();
        if !found.is_empty() {
            return found;
        }
    }
    Vec::new()
}

/// What precedes the names of the backbone and of the parts next to it: its head, or a classifier.
fn root(prefix: &str, hugging_face: bool) -> &str {
    let before = prefix.strip_suffix('.').unwrap_or_default();
    let (outer, last) = before
        .rfind('.')
        .map_or(("", before), |at| before.split_at(at + 1));
    if last == "backbone" || hugging_face {
        outer
    } else {
        prefix
    }
}

/// A name without wrappers.
fn unwrapped(name: &str) -> String {
    let parts: Vec<&str> = parts(name)
        .filter(|part| !WRAPPERS.contains(part))
        .collect();
    parts.join(".")
}

/// Whether a tensor is of no use but to train on, though it may be named after a parameter: it belongs to
/// an optimiser, or to what a run adapts: the network it started from, and changes that its own weights
/// have already.
fn is_of_training(name: &str) -> bool {
    let adapting = |part: &str| part == "lora" || part == "original";
    let first_two: Vec<&str> = parts(name).take(2).collect();
    parts(name).any(|part| part.starts_with("optimi")) || first_two.into_iter().any(adapting)
}

fn parts(name: &str) -> impl Iterator<Item = &str> {
    name.split('.').filter(|part| !part.is_empty())
}

/// The reason for an error, with the names that there are.
fn none_found<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let mut names: Vec<&str> = names.filter(|name| !is_of_training(name)).collect();
    names.sort_unstable();
    let what = "holds no vision transformer";
    match names.len() {
        0 => format!("{what}: it has no tensors of floating-point numbers"),
        n if n <= SHOWN => format!(
            "{what}: no cls_token among its tensors ({})",
            names.join(", ")
        ),
        n => format!(
            "{what}: no cls_token among its {n} tensors ({}, …)",
            names[..SHOWN].join(", ")
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(prefixes: &[&str], role: impl Into<Option<NetworkRole>>) -> Result<Network> {
        find_evaluated(prefixes, role, None)
    }

    fn find_evaluated(
        prefixes: &[&str],
        role: impl Into<Option<NetworkRole>>,
        evaluated: Option<&str>,
    ) -> Result<Network> {
        let names: Vec<String> = prefixes
            .iter()
            .flat_map(|prefix| {
                ["cls_token", "patch_embed.proj.weight"].map(|n| format!("{prefix}{n}"))
            })
            .collect();
        let names = names.iter().map(String::as_str);
        Network::find("file".as_ref(), names, role.into(), evaluated)
    }

    #[test]
    fn teachers_and_students_of_other_programs_are_found() {
        // What names begin with, then what of them is the teacher's and the student's root.
        for (prefixes, teacher, student) in [
            (
                ["student.module.backbone.", "teacher.backbone."],
                "teacher.",
                "student.",
            ),
            (
                ["model.student.backbone.", "model.teacher.backbone."],
                "model.teacher.",
                "model.student.",
            ),
            (
                [
                    "state_dict.student_backbone.vit.",
                    "state_dict.teacher_backbone.vit.",
                ],
                "state_dict.teacher_backbone.vit.",
                "state_dict.student_backbone.vit.",
            ),
            (
                ["state_dict.backbone.", "state_dict.momentum_backbone."],
                "state_dict.momentum_backbone.",
                "state_dict.",
            ),
            (["model.", "model_ema."], "model_ema.", "model."),
            (
                ["state_dict.", "state_dict_ema."],
                "state_dict_ema.",
                "state_dict.",
            ),
            (
                ["encoder.module.", "target_encoder.module."],
                "target_encoder.",
                "encoder.",
            ),
            (
                ["module.encoder_q.", "module.encoder_k."],
                "encoder_k.",
                "encoder_q.",
            ),
            (
                ["module.base_encoder.", "module.momentum_encoder."],
                "momentum_encoder.",
                "base_encoder.",
            ),
            (
                ["online_network.0.", "target_network.0."],
                "target_network.0.",
                "online_network.0.",
            ),
            (
                ["_orig_mod.module.teacher.", "_orig_mod.module.student."],
                "teacher.",
                "student.",
            ),
        ] {
            for (role, root) in [
                (NetworkRole::Teacher, teacher),
                (NetworkRole::Student, student),
            ] {
                let found = find(&prefixes, role).unwrap();
                assert_eq!(
                    (found.root.as_str(), found.role),
                    (root, Some(role)),
                    "{prefixes:?}"
                );
            }
            assert_eq!(find(&prefixes, None).unwrap().root, teacher);
        }
    }

    #[test]
    fn an_unlabelled_lone_network_is_taken_for_every_role() {
        for prefix in [
            "",
            "state_dict.model.",
            "backbone.model.",
            "encoder.",
            "base_encoder.",
            "network.",
        ] {
            for role in NetworkRole::ALL.into_iter().map(Some).chain([None]) {
                let found = find(&[prefix], role).unwrap();
                assert_eq!((found.root.as_str(), found.role), (prefix, None));
            }
        }
        assert_eq!(
            find(&["backbone.module."], NetworkRole::Teacher)
                .unwrap()
                .root,
            ""
        );
        assert!(
            find(&["module._orig_mod."], NetworkRole::Teacher)
                .unwrap()
                .is_bare()
        );
        assert!(!find(&["model."], NetworkRole::Teacher).unwrap().is_bare());
    }

    #[test]
    fn absent_and_ambiguous_networks_are_refused() {
        assert!(matches!(
            find(&["student."], NetworkRole::Teacher),
            Err(Error::NoSuchNetwork {
                found,
                ..
            }) if found == [NetworkRole::Student]
        ));
        assert!(matches!(
            find(&["net.target_encoder."], NetworkRole::Student),
            Err(Error::NoSuchNetwork {
                found,
                ..
            }) if found == [NetworkRole::Teacher]
        ));
        let told = find(&["image.", "depth."], NetworkRole::Teacher)
            .unwrap_err()
            .to_string();
        assert!(
            told.contains("depth., image.") && told.contains("teacher"),
            "{told}"
        );
        let names = ["conv1.weight", "layer1.0.weight", "fc.weight", "fc.bias"];
        let told = Network::find("file".as_ref(), names.into_iter(), None, None)
            .unwrap_err()
            .to_string();
        assert!(
            told.contains("4 tensors (conv1.weight, fc.bias, fc.weight, …)"),
            "{told}"
        );
    }

    #[test]
    fn other_networks_and_moments_are_left_out() {
        let found = find(&["backbone.", "momentum_backbone."], NetworkRole::Student).unwrap();
        assert_eq!(
            found.local("backbone.cls_token").unwrap(),
            "backbone.cls_token"
        );
        assert_eq!(found.local("head.weight").unwrap(), "head.weight");
        assert_eq!(found.local("momentum_backbone.cls_token"), None);
        let found = find(
            &["teacher.backbone.", "optimiser.0.backbone."],
            NetworkRole::Teacher,
        )
        .unwrap();
        let head = found.local("teacher._orig_mod.head.module.mlp.0.weight");
        assert_eq!(head.unwrap(), "head.mlp.0.weight");
        assert_eq!(found.local("optimiser.0.backbone.cls_token"), None);
    }

    #[test]
    fn what_a_run_adapts_is_no_network() {
        let all = [
            "average.backbone.",
            "network.backbone.",
            "original.backbone.",
        ];
        let found = find_evaluated(&all, None, Some("average")).unwrap();
        assert_eq!(found.role, Some(NetworkRole::Average));
        let found = find(&all, NetworkRole::Network).unwrap();
        assert_eq!(found.local("network.norm.weight").unwrap(), "norm.weight");
        let of_run = [
            "network.lora.backbone.blocks.0.attn.qkv.base",
            "original.backbone.norm.weight",
        ];
        assert!(of_run.iter().all(|name| found.local(name).is_none()));
        let missing = find(&all, NetworkRole::Student).unwrap_err().to_string();
        assert!(missing.contains("student"), "{missing}");
    }

    #[test]
    fn roles_of_this_program_are_exact() {
        let own = ["average.backbone.", "network.backbone."];
        let dino = ["student.backbone.", "teacher.backbone."];
        for (prefixes, evaluated) in [(own, "network"), (own, "average"), (dino, "student")] {
            let evaluated = Some(evaluated);
            let found = find_evaluated(&prefixes, None, evaluated).unwrap();
            assert_eq!(found.role.map(NetworkRole::key), evaluated);
            assert_eq!(found.root.strip_suffix('.'), evaluated);
            for role in NetworkRole::ALL {
                let root = format!("{}.", role.key());
                let there = prefixes.iter().any(|prefix| prefix.starts_with(&root));
                // Whether the metadata says so or not.
                for evaluated in [evaluated, None] {
                    match find_evaluated(&prefixes, role, evaluated) {
                        Ok(found) if there => {
                            assert_eq!((found.root, found.role), (root.clone(), Some(role)));
                        }
                        Err(Error::NoSuchNetwork { wanted, found, .. }) if !there => {
                            assert_eq!((wanted, found.len()), (role, 2));
                        }
                        other => panic!("{prefixes:?} {role}: {other:?}"),
                    }
                }
            }
        }
        let refused = find(&own, NetworkRole::Teacher).unwrap_err().to_string();
        assert!(
            refused.ends_with("has no teacher, only average and network"),
            "{refused}"
        );
        // Of a method without an average, only the metadata shows the role.
        let lone = find_evaluated(
            &["network.backbone."],
            NetworkRole::Teacher,
            Some("network"),
        );
        assert!(matches!(
            lone,
            Err(Error::NoSuchNetwork { found, .. }) if found == [NetworkRole::Network]
        ));
    }

    #[test]
    fn by_default_the_best_network_is_taken() {
        let found = find(&["average.backbone.", "network.backbone."], None).unwrap();
        assert_eq!(
            (found.root.as_str(), found.role),
            ("average.", Some(NetworkRole::Average))
        );
        let found = find(&["student.backbone."], None).unwrap();
        assert_eq!(found.role, Some(NetworkRole::Student));
        assert!(matches!(
            find(&["teacher.", "average."], None),
            Err(Error::SeveralNetworks { wanted: None, .. })
        ));
        let wrong = find_evaluated(&["student.", "teacher."], None, Some("average"));
        let told = wrong.unwrap_err().to_string();
        assert!(
            told.contains("average") && told.contains("student., teacher."),
            "{told}"
        );
        // A name that only begins alike is another network's.
        assert!(find_evaluated(&["averaged."], None, Some("average")).is_err());
    }
}
