//! The variables that a launcher sets.

use super::{Expected, Launch, LaunchError};

/// An environment.
pub(super) struct Variables<'a>(pub(super) &'a dyn Fn(&str) -> Option<String>);

impl Variables<'_> {
    /// The value of a variable. An empty one counts as unset, as after `RANK= program`.
    pub(super) fn get(&self, name: &str) -> Option<String> {
        (self.0)(name).filter(|value| !value.is_empty())
    }

    pub(super) fn at_least(
        &self,
        least: usize,
        name: &'static str,
    ) -> Result<Option<usize>, LaunchError> {
        self.number(name, Expected::AtLeast(least), |number| number >= least)
    }

    fn below(&self, end: usize, name: &'static str) -> Result<Option<usize>, LaunchError> {
        self.number(name, Expected::Below(end), |number| number < end)
    }

    fn number(
        &self,
        name: &'static str,
        expected: Expected,
        is_expected: impl Fn(usize) -> bool,
    ) -> Result<Option<usize>, LaunchError> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        match value
            .trim()
            .parse()
            .ok()
            .filter(|&number| is_expected(number))
        {
            Some(number) => Ok(Some(number)),
            None => Err(LaunchError::Value {
                variable: name,
                value,
                expected,
            }),
        }
    }
}

/// The names of a launcher's variables.
pub(super) struct Family {
    pub(super) by: &'static str,
    pub(super) rank: &'static str,
    pub(super) size: &'static str,
    pub(super) local_rank: &'static str,
    pub(super) local_size: Option<&'static str>,
}

impl Family {
    /// The process that the variables describe, which may be a single one, if they are set.
    pub(super) fn find(&self, variables: &Variables<'_>) -> Result<Option<Launch>, LaunchError> {
        let missing = |missing, set| LaunchError::Missing {
            missing,
            set,
            value: variables.get(set).unwrap_or_default(),
        };
        let Some(size) = variables.at_least(1, self.size)? else {
            return match variables.get(self.rank) {
                Some(_) => Err(missing(self.size, self.rank)),
                None => Ok(None),
            };
        };
        let rank = variables
            .below(size, self.rank)?
            .ok_or_else(|| missing(self.rank, self.size))?;
        let local_size = match self.local_size {
            Some(name) => variables.at_least(1, name)?,
            None => None,
        };
        let local_rank = variables.below(local_size.unwrap_or(size), self.local_rank)?;
        let local_rank = match local_rank {
            Some(local_rank) => local_rank,
            // A single process is the first of its machine.
            None if size == 1 => 0,
            None => return Err(missing(self.local_rank, self.rank)),
        };
        Ok(Some(Launch {
            rank,
            size,
            local_rank,
            local_size,
            by: self.by,
        }))
    }
}
