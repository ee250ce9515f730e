//! What can be wrong with a launcher's variables.

use std::fmt;

/// Incomplete or unreadable variables of a launcher.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LaunchError {
    /// A variable is missing among those of its launcher.
    #[error("{set}={value} is set, but {missing} is not; set both or neither")]
    Missing {
        /// The missing variable.
        missing: &'static str,
        /// A variable of the same launcher.
        set: &'static str,
        /// The value of `set`.
        value: String,
    },
    /// The value of a variable is not a number, or out of range.
    #[error("{variable}={value} is not {expected}; correct or unset it")]
    Value {
        /// The variable.
        variable: &'static str,
        /// Its value.
        value: String,
        /// What it should be.
        expected: Expected,
    },
    /// A rank without a number of processes.
    #[error(
        "PMIX_RANK={0} is set, but no variable holds the number of processes; start them by `mpirun` or \
         `srun`, or unset it"
    )]
    UnknownSize(String),
}

/// What a variable should hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Expected {
    /// A number, at least this.
    AtLeast(usize),
    /// A number smaller than this.
    Below(usize),
    /// Slurm's list of numbers of tasks, such as `4(x2),3`, in which this node has more than a number.
    Tasks {
        /// The node.
        node: usize,
        /// The number: a local rank.
        above: usize,
    },
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Expected::AtLeast(least) => write!(f, "a number of at least {least}"),
            Expected::Below(end) => write!(f, "a number below {end}"),
            Expected::Tasks { node, above } => {
                write!(
                    f,
                    "a list of numbers of tasks with more than {above} for node {node}"
                )
            }
        }
    }
}
