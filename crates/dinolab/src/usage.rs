//! Command lines that cannot be followed, beyond what clap refuses.

use std::fmt;

/// Returns with a [`Usage`] error.
macro_rules! bail_usage {
    ($($arg:tt)*) => {
        return Err($crate::usage::Usage::new(format!($($arg)*)).into())
    };
}

/// What is wrong with the command line: flags that contradict each other, a value out of range.
#[derive(Debug)]
pub struct Usage(String);

impl Usage {
    /// An error with this text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}
