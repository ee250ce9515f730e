//! The images that cannot be used.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::{Error, Result};

/// An image that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnusableImage {
    /// Its index in the source.
    pub index: usize,
    /// Its name in the source.
    pub name: String,
    /// Why it cannot be used.
    pub reason: String,
}

pub(super) struct UnusableImages {
    total: usize,
    limit: f64,
    found: Mutex<BTreeMap<usize, UnusableImage>>,
}

impl UnusableImages {
    pub(super) fn new(total: usize, limit: f64) -> Self {
        Self {
            total,
            limit,
            found: Mutex::default(),
        }
    }

    fn found(&self) -> MutexGuard<'_, BTreeMap<usize, UnusableImage>> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn contains(&self, index: usize) -> bool {
        self.found().contains_key(&index)
    }

    pub(super) fn list(&self) -> Vec<UnusableImage> {
        self.found().values().cloned().collect()
    }

    /// Adds an image, once; fails when there are now too many.
    pub(super) fn add(&self, bad: UnusableImage) -> Result<()> {
        self.found().entry(bad.index).or_insert(bad);
        self.check()
    }

    /// Fails when none is left, or when there are more bad ones than allowed.
    pub(super) fn check(&self) -> Result<()> {
        let found = self.found();
        let Some((_, first)) = found.first_key_value() else {
            return Ok(());
        };
        let first = format!("{} ({})", first.name, first.reason);
        if found.len() == self.total {
            let reason = format!("all {} failed, the first: {first}", self.total);
            return Err(Error::NoImages {
                path: "source".into(),
                reason,
            });
        }
        if found.len() > (self.limit * self.total as f64).floor() as usize {
            return Err(Error::TooManyUnusable {
                bad: found.len(),
                total: self.total,
                limit_percent: self.limit * 100.0,
                first,
            });
        }
        Ok(())
    }
}
