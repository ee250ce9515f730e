//! The choice of labelled images.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use dinolab_data::random::{Purpose, Random};

use crate::{Error, Result};

/// The share of training images that is labelled.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Share {
    /// Percentage of each class, above 0 and at most 100, at least one image.
    Percent(f64),
    /// Number of images of each class, or all if there are fewer.
    PerClass(usize),
}

impl FromStr for Share {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        const WANTED: &str = "a percentage such as 5%, or a number of images per class";
        match text.strip_suffix('%') {
            Some(number) => match number.trim().parse::<f64>() {
                Ok(percent) if percent > 0.0 && percent <= 100.0 => Ok(Self::Percent(percent)),
                _ => Err(WANTED.into()),
            },
            None => match text.parse::<usize>() {
                Ok(count) if count > 0 => Ok(Self::PerClass(count)),
                _ => Err(WANTED.into()),
            },
        }
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Percent(percent) => write!(f, "{percent}%"),
            Self::PerClass(count) => write!(f, "{count}"),
        }
    }
}

impl Share {
    /// Draws this share of each group (class) at random, by `seed`, and returns the positions in ascending
    /// order. A larger share of the same seed contains the smaller one.
    ///
    /// # Errors
    /// [`Error::Invalid`] without images.
    pub fn draw(self, groups: &[usize], seed: u64) -> Result<Vec<usize>> {
        let mut members: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (place, &group) in groups.iter().enumerate() {
            members.entry(group).or_default().push(place);
        }
        if members.is_empty() {
            return Err(Error::invalid("training images", "must not be empty"));
        }
        let mut drawn = Vec::new();
        for (group, mut places) in members {
            let count = match self {
                Self::Percent(percent) => {
                    ((places.len() as f64 * percent / 100.0).round() as usize).max(1)
                }
                Self::PerClass(count) => count,
            };
            Random::new(seed, 0, group as u64, Purpose::Validation).shuffle(&mut places);
            places.truncate(count);
            drawn.append(&mut places);
        }
        drawn.sort_unstable();
        Ok(drawn)
    }
}
