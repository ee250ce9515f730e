//! The roles of networks in training checkpoints.

use std::fmt;
use std::str::FromStr;

/// A network of a training checkpoint, by the name before its tensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum NetworkRole {
    /// The moving average that makes a student's targets, and is evaluated.
    Teacher,
    /// The network trained against a teacher.
    Student,
    /// The moving average that is evaluated, of a method without a teacher.
    Average,
    /// The network being trained, of a method without a teacher.
    Network,
}

impl NetworkRole {
    /// All roles.
    pub const ALL: [Self; 4] = [Self::Teacher, Self::Student, Self::Average, Self::Network];

    /// Its name in checkpoints.
    pub fn key(self) -> &'static str {
        match self {
            Self::Teacher => "teacher",
            Self::Student => "student",
            Self::Average => "average",
            Self::Network => "network",
        }
    }

    /// Whether it is a moving average of a network being trained.
    pub(super) fn is_average(self) -> bool {
        matches!(self, Self::Teacher | Self::Average)
    }
}

impl fmt::Display for NetworkRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.key())
    }
}

impl FromStr for NetworkRole {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|role| role.key() == text)
            .ok_or_else(|| format!("one of {}", Self::ALL.map(Self::key).join(", ")))
    }
}
