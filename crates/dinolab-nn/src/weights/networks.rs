//! Which of the networks in a file is wanted, and what stands before its names.
//!
//! Programs wrap a backbone in modules and dictionaries of their own (`state_dict`, `module.`,
//! `teacher_backbone.vit.`, …). There is no list of them here: the one tensor that every vision
//! transformer has shows what stands before its names, whatever that is.

use std::path::Path;

use super::hugging_face::MARK;
use super::{Which, bad};
use crate::{Error, Result};

/// What a vision transformer is found by: its patch embedding, or else its class token.
const MARKS: [&[&str]; 2] = [&["patch_embed.proj.weight", MARK], &["cls_token"]];
/// Modules that wrap a network, or a part of it, and leave it as it is.
const WRAPPERS: [&str; 5] = [
    "module",
    "_orig_mod",
    "_forward_module",
    "_fsdp_wrapped_module",
    "_checkpoint_wrapped_module",
];
/// Words in a prefix that name a moving average.
const AVERAGES: [&str; 5] = ["teacher", "ema", "momentum", "target", "averaged"];
/// Words in a prefix that name the network that learns.
const LEARNERS: [&str; 2] = ["student", "online"];
/// How many names an error shows.
const SHOWN: usize = 3;

/// A network's place among the names of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Network {
    /// Stands before the names of the backbone and of its head, without wrappers.
    root: String,
    /// Stand before the names of other networks, likewise.
    others: Vec<String>,
    /// Which network of a training checkpoint it is; `None` in a file of one.
    pub which: Option<Which>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Average,
    Learner,
    Unknown,
}

impl Network {
    /// Finds the network `which` among the names of a file's tensors, or the only one there is.
    ///
    /// # Errors
    /// [`Error::BadWeights`] where there is none, [`Error::NoSuchNetwork`] where there is only the
    /// other one, and [`Error::SeveralNetworks`] where there are several that may be meant.
    pub fn find<'a>(
        path: &Path,
        names: impl Iterator<Item = &'a str> + Clone,
        which: Which,
    ) -> Result<Self> {
        let prefixes = prefixes(names.clone());
        if prefixes.is_empty() {
            return Err(bad(path, none_found(names)));
        }
        let of = |role| {
            let all = prefixes
                .iter()
                .filter(move |prefix| Role::of(prefix) == role);
            all.collect::<Vec<_>>()
        };
        let [averages, learners, unknown] = [Role::Average, Role::Learner, Role::Unknown].map(of);
        // Beside an average, a network without a role is the one that it is the average of.
        let found = match which {
            Which::Teacher if !averages.is_empty() => (averages, true),
            Which::Student if !learners.is_empty() => (learners, true),
            _ if !unknown.is_empty() => {
                let learns = which == Which::Student && !averages.is_empty();
                (unknown, learns)
            }
            _ => {
                return Err(Error::NoSuchNetwork {
                    path: path.into(),
                    wanted: which,
                    found: which.other(),
                });
            }
        };
        let (&[prefix], known) = (found.0.as_slice(), found.1) else {
            return Err(Error::SeveralNetworks {
                path: path.into(),
                wanted: which,
                prefixes: found.0.into_iter().cloned().collect(),
            });
        };
        let marked = |name: &str| unwrapped(name).strip_suffix(MARK) == Some(prefix);
        let hugging_face = names.clone().any(marked);
        let others = prefixes.iter().filter(|&other| {
            // One that stands before ours too would take ours away.
            other != prefix && !prefix.starts_with(other.as_str())
        });
        Ok(Self {
            root: root(prefix, hugging_face).to_owned(),
            others: others.cloned().collect(),
            which: known.then_some(which),
        })
    }

    /// A tensor's name as in a file that holds this network only; `None` for what belongs to
    /// others.
    pub fn local(&self, name: &str) -> Option<String> {
        let name = unwrapped(name);
        let rest = name.strip_prefix(&self.root)?;
        let others = self
            .others
            .iter()
            .any(|other| name.starts_with(other.as_str()));
        (!others && !is_moments(&name)).then(|| rest.to_owned())
    }

    /// Whether names have nothing before them but what leaves a network as it is.
    pub fn is_bare(&self) -> bool {
        self.root.is_empty()
    }
}

impl Role {
    fn of(prefix: &str) -> Self {
        let words = || parts(prefix).flat_map(|part| part.split(['_', '-']));
        let any =
            |of: &[&str]| words().any(|word| of.contains(&word.to_ascii_lowercase().as_str()));
        // MoCo's, of queries and of keys.
        if any(&AVERAGES) || parts(prefix).any(|part| part == "encoder_k") {
            Self::Average
        } else if any(&LEARNERS) {
            Self::Learner
        } else {
            Self::Unknown
        }
    }
}

/// What stands before the names of each vision transformer, sorted, each once.
fn prefixes<'a>(names: impl Iterator<Item = &'a str> + Clone) -> Vec<String> {
    let names: Vec<String> = names
        .filter(|name| !is_moments(name))
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

/// What stands before the names of the backbone and of what lies beside it: its head, or a
/// classifier.
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

/// A name without the modules that leave a network as it is.
fn unwrapped(name: &str) -> String {
    let parts: Vec<&str> = parts(name)
        .filter(|part| !WRAPPERS.contains(part))
        .collect();
    parts.join(".")
}

/// Whether a tensor is an optimiser's, which names some after the parameters.
fn is_moments(name: &str) -> bool {
    parts(name).any(|part| part.starts_with("optimi"))
}

fn parts(name: &str) -> impl Iterator<Item = &str> {
    name.split('.').filter(|part| !part.is_empty())
}

/// Says what is there instead.
fn none_found<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let mut names: Vec<&str> = names.filter(|name| !is_moments(name)).collect();
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

    fn find(prefixes: &[&str], which: Which) -> Result<Network> {
        let names: Vec<String> = prefixes
            .iter()
            .flat_map(|prefix| {
                ["cls_token", "patch_embed.proj.weight"].map(|n| format!("{prefix}{n}"))
            })
            .collect();
        Network::find("file".as_ref(), names.iter().map(String::as_str), which)
    }

    #[test]
    fn teachers_are_preferred_and_students_found() {
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
            for (which, root) in [(Which::Teacher, teacher), (Which::Student, student)] {
                let found = find(&prefixes, which).unwrap();
                assert_eq!(
                    (found.root.as_str(), found.which),
                    (root, Some(which)),
                    "{prefixes:?}"
                );
            }
        }
    }

    #[test]
    fn a_lone_network_is_taken_whatever_is_asked_for() {
        for prefix in [
            "",
            "state_dict.model.",
            "backbone.model.",
            "encoder.",
            "base_encoder.",
        ] {
            for which in [Which::Teacher, Which::Student] {
                let found = find(&[prefix], which).unwrap();
                assert_eq!((found.root.as_str(), found.which), (prefix, None));
            }
        }
        assert_eq!(
            find(&["backbone.module."], Which::Teacher).unwrap().root,
            ""
        );
        assert!(
            find(&["module._orig_mod."], Which::Teacher)
                .unwrap()
                .is_bare()
        );
        assert!(!find(&["model."], Which::Teacher).unwrap().is_bare());
    }

    #[test]
    fn what_is_not_clear_is_told() {
        assert!(matches!(
            find(&["student."], Which::Teacher),
            Err(Error::NoSuchNetwork {
                found: Which::Student,
                ..
            })
        ));
        assert!(matches!(
            find(&["net.target_encoder."], Which::Student),
            Err(Error::NoSuchNetwork {
                found: Which::Teacher,
                ..
            })
        ));
        let told = find(&["image.", "depth."], Which::Teacher)
            .unwrap_err()
            .to_string();
        assert!(
            told.contains("depth., image.") && told.contains("teacher"),
            "{told}"
        );
        let names = ["conv1.weight", "layer1.0.weight", "fc.weight", "fc.bias"];
        let told = Network::find("file".as_ref(), names.into_iter(), Which::Teacher)
            .unwrap_err()
            .to_string();
        assert!(
            told.contains("4 tensors (conv1.weight, fc.bias, fc.weight, …)"),
            "{told}"
        );
    }

    #[test]
    fn other_networks_and_moments_are_left_out() {
        let found = find(&["backbone.", "momentum_backbone."], Which::Student).unwrap();
        assert_eq!(
            found.local("backbone.cls_token").unwrap(),
            "backbone.cls_token"
        );
        assert_eq!(found.local("head.weight").unwrap(), "head.weight");
        assert_eq!(found.local("momentum_backbone.cls_token"), None);
        let found = find(
            &["teacher.backbone.", "optimiser.0.backbone."],
            Which::Teacher,
        )
        .unwrap();
        let head = found.local("teacher._orig_mod.head.module.mlp.0.weight");
        assert_eq!(head.unwrap(), "head.mlp.0.weight");
        assert_eq!(found.local("optimiser.0.backbone.cls_token"), None);
    }
}
