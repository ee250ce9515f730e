//! What a classifier learns from, or is evaluated on.

use dinolab_eval::feature_rows::{FeatureRows, RowsInMemory};
#[cfg(feature = "parquet")]
use dinolab_eval::linear::StandardisedRows;
use dinolab_eval::linear::Standardiser;

use crate::environment::Environment;
use crate::error::{Context, Result};
use crate::feature_input::{FeatureInput, labelled};
use crate::feature_set::FeatureSet;
#[cfg(feature = "parquet")]
use crate::feature_set::parts::{LabelledParts, StoredRows};

/// Features whose images have classes.
pub(super) enum LabelledSet {
    InMemory(FeatureSet),
    /// In the parts of a folder, of which some rows are read at a time.
    #[cfg(feature = "parquet")]
    Parts(Box<LabelledParts>, StoredRows),
}

impl LabelledSet {
    /// The rows of a set that have a class.
    ///
    /// # Errors
    /// A set without classes.
    pub fn of(env: &Environment<'_>, set: FeatureSet, input: FeatureInput<'_>) -> Result<Self> {
        Ok(Self::InMemory(labelled(env, set, input)?))
    }

    /// Saved features: those of a file are read, those of a folder found.
    ///
    /// # Errors
    /// Features that cannot be read; a set without classes.
    pub fn open(env: &Environment<'_>, input: FeatureInput<'_>) -> Result<Self> {
        let FeatureInput { setting, path } = input;
        #[cfg(feature = "parquet")]
        if FeatureSet::is_folder(path, &env.remote).of_setting(setting, "")? {
            let parts = LabelledParts::open(env, input)?;
            let rows = parts.rows().of_setting(setting, "")?;
            return Ok(Self::Parts(Box::new(parts), rows));
        }
        let set = FeatureSet::load(path, &env.remote).of_setting(setting, "")?;
        Self::of(env, set, input)
    }

    /// Width of a feature.
    pub fn dim(&self) -> usize {
        match self {
            Self::InMemory(set) => set.dim,
            #[cfg(feature = "parquet")]
            Self::Parts(_, rows) => rows.dim(),
        }
    }

    /// The classes, sorted.
    pub fn classes(&self) -> Vec<String> {
        match self {
            Self::InMemory(set) => set.classes(),
            #[cfg(feature = "parquet")]
            Self::Parts(parts, _) => parts.classes.clone(),
        }
    }

    /// The rows' classes as indices into `classes`; others get numbers of their own.
    pub fn label_numbers(&self, classes: &[String]) -> Result<Vec<usize>> {
        match self {
            Self::InMemory(set) => set.label_numbers(classes),
            #[cfg(feature = "parquet")]
            Self::Parts(parts, _) => Ok(parts.numbers(classes)),
        }
    }

    /// Mean and deviation of the features.
    pub fn standardiser(&self) -> Result<Standardiser> {
        Ok(match self {
            Self::InMemory(set) => Standardiser::of(&set.data, set.dim)?,
            #[cfg(feature = "parquet")]
            Self::Parts(_, rows) => Standardiser::of_rows(rows)?,
        })
    }

    /// The rows, standardised if there are statistics.
    pub fn into_rows(self, standardiser: Option<&Standardiser>) -> Result<Box<dyn FeatureRows>> {
        Ok(match (self, standardiser) {
            (Self::InMemory(mut set), standardiser) => {
                if let Some(standardiser) = standardiser {
                    standardiser.apply(&mut set.data);
                }
                Box::new(RowsInMemory::new(set.data, set.dim)?)
            }
            #[cfg(feature = "parquet")]
            (Self::Parts(_, rows), Some(standardiser)) => Box::new(StandardisedRows {
                rows,
                standardiser: standardiser.clone(),
            }),
            #[cfg(feature = "parquet")]
            (Self::Parts(_, rows), None) => Box::new(rows),
        })
    }
}
