//! The flags that an error may be about.

use std::collections::BTreeSet;

/// The flags of a command, without dashes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flags(BTreeSet<String>);

impl Flags {
    /// These.
    pub fn new<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        Self(names.into_iter().map(str::to_owned).collect())
    }

    /// Those of a command.
    pub fn of(command: &clap::Command) -> Self {
        Self::new(command.get_arguments().filter_map(|arg| arg.get_long()))
    }

    /// Whether there is such a flag.
    pub fn has(&self, name: &str) -> bool {
        self.0.contains(name)
    }
}
