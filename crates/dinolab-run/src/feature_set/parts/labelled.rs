//! A folder of features whose images have classes.

use std::collections::BTreeMap;

use super::Stored;
use super::rows::StoredRows;
use crate::environment::Environment;
use crate::error::{Context, Result};
use crate::feature_input::{FeatureInput, no_labels, unlabelled};

/// Rows that are given at a time.
const ROWS: usize = 8192;

/// The number of no class.
const NONE: u32 = u32::MAX;

/// A folder of features, and the classes of its images.
pub(crate) struct LabelledParts {
    pub stored: Stored,
    /// Sorted.
    pub classes: Vec<String>,
    /// For each part, the class of each row, [`NONE`] for a row without; `None` for a part without classes.
    labels: Vec<Option<Vec<u32>>>,
    /// How many have a class.
    pub images: usize,
}

impl LabelledParts {
    /// The folder at a path or location.
    ///
    /// # Errors
    /// A folder that cannot be read; one without classes.
    pub fn open(env: &Environment<'_>, input: FeatureInput<'_>) -> Result<Self> {
        let stored = Stored::open(input.path, &env.remote).of_argument(input.setting)?;
        // Numbers in the order in which classes are met, until all are known.
        let mut numbers: BTreeMap<String, u32> = BTreeMap::new();
        let mut labels = Vec::with_capacity(stored.parts());
        let mut rows = 0;
        for part in 0..stored.parts() {
            let Some(names) = stored.labels(part).of_argument(input.setting)? else {
                rows += stored.names(part).of_argument(input.setting)?.len();
                labels.push(None);
                continue;
            };
            rows += names.len();
            let mut number = |name: Option<String>| match name {
                None => NONE,
                Some(name) => {
                    let next = numbers.len() as u32;
                    *numbers.entry(name).or_insert(next)
                }
            };
            labels.push(Some(names.into_iter().map(&mut number).collect::<Vec<_>>()));
        }
        if numbers.is_empty() {
            return Err(no_labels(input));
        }
        let mut sorted = vec![0; numbers.len()];
        for (place, number) in numbers.values().enumerate() {
            sorted[*number as usize] = place as u32;
        }
        let mut images = 0;
        for label in labels.iter_mut().flatten().flatten() {
            if *label != NONE {
                *label = sorted[*label as usize];
                images += 1;
            }
        }
        let classes = numbers.into_keys().collect();
        unlabelled(env, input, rows - images, rows);
        Ok(Self {
            stored,
            classes,
            labels,
            images,
        })
    }

    /// Gives all rows that have a class to `each`, [`ROWS`] or fewer at a time, with their classes.
    ///
    /// # Errors
    /// A part that is missing, damaged or of another folder; errors of `each`.
    pub fn for_rows(
        &self,
        dim: usize,
        mut each: impl FnMut(Vec<f32>, &[usize]) -> Result<()>,
    ) -> Result<()> {
        let (mut rows, mut classes) = (Vec::new(), Vec::new());
        for (part, labels) in self.labels.iter().enumerate() {
            let Some(labels) = labels else { continue };
            let mut next = 0;
            self.stored.for_features(part, |features, width| {
                ensure!(
                    width == dim,
                    "has features of width {width}, and those to classify have {dim}"
                );
                let here = labels.get(next..next + features.len() / dim);
                let here = here.context("has more features than labels")?;
                next += here.len();
                for (row, class) in features.chunks_exact(dim).zip(here) {
                    if *class != NONE {
                        rows.extend_from_slice(row);
                        classes.push(*class as usize);
                    }
                    if classes.len() == ROWS {
                        each(std::mem::take(&mut rows), &classes)?;
                        classes.clear();
                    }
                }
                Ok(())
            })?;
        }
        match classes.is_empty() {
            true => Ok(()),
            false => each(rows, &classes),
        }
    }

    /// The classes as indices into `classes`. Others get their own numbers from `classes.len()`.
    pub fn numbers(&self, classes: &[String]) -> Vec<usize> {
        let mut next = classes.len();
        let of_own: Vec<usize> = self
            .classes
            .iter()
            .map(|class| {
                classes.binary_search(class).unwrap_or_else(|_| {
                    next += 1;
                    next - 1
                })
            })
            .collect();
        let all = self.labels.iter().flatten().flatten();
        all.filter(|&&label| label != NONE)
            .map(|&label| of_own[label as usize])
            .collect()
    }

    /// The rows that have a class, to be read in any order.
    ///
    /// # Errors
    /// As [`Stored::rows`].
    pub fn rows(&self) -> Result<StoredRows> {
        let label = |part: usize, row: usize| self.labels[part].as_ref()?.get(row);
        self.stored
            .rows(|part, row| label(part, row).is_some_and(|&label| label != NONE))
    }
}
