//! Weighted k-nearest-neighbour accuracy of features.

#[cfg(feature = "parquet")]
mod stored;

use std::path::Path;

use dinolab_eval::knn::{Knn, Labelled};
use serde::Serialize;

use crate::environment::Environment;
#[cfg(feature = "parquet")]
use crate::error::Context;
use crate::error::Result;
use crate::feature_input::{FeatureInput, FeatureOptions, feature_sets, labelled};
#[cfg(feature = "parquet")]
use crate::feature_set::FeatureSet;
use crate::table::{Cell, Report, Table};
use crate::whitening::{WhiteningOptions, unit_rows};

/// What is evaluated, and how.
#[derive(Clone, Debug)]
pub struct KnnRequest<'a> {
    /// Labelled images whose features vote (class = first folder level), or saved features.
    pub train: &'a Path,
    /// Labelled images to classify, or saved features.
    pub val: &'a Path,
    /// The vote.
    pub knn: Knn,
    /// Whether features are whitened, fitted to those that vote.
    pub whitening: WhiteningOptions,
    /// How features are made.
    pub features: FeatureOptions<'a>,
}

/// The figures.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct KnnReport {
    /// For each number of neighbours.
    pub knn: Vec<KnnAccuracy>,
    /// Of the votes.
    pub temperature: f64,
    /// Whether features were whitened.
    pub whitened: bool,
    /// Images that vote.
    pub train_images: usize,
    /// Images that are classified.
    pub val_images: usize,
    /// Classes of the images that vote.
    pub classes: usize,
}

/// Accuracies for one number of neighbours.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct KnnAccuracy {
    /// Neighbours that vote.
    pub k: usize,
    /// In percent.
    pub top1: f64,
    /// In percent.
    pub top5: f64,
}

/// Evaluates.
///
/// # Errors
/// Images, features or weights that cannot be used; sets without labels.
pub fn evaluate(env: &Environment<'_>, request: &KnnRequest<'_>) -> Result<KnnReport> {
    #[cfg(feature = "parquet")]
    if FeatureSet::is_folder(request.train, &env.remote).of_setting("train", "")? {
        return stored::evaluate(env, request);
    }
    let inputs = [("train", request.train), ("val", request.val)]
        .map(|(setting, path)| FeatureInput { setting, path });
    let [train, val] = feature_sets(env, inputs, &request.features)?;
    let mut train = labelled(env, train, inputs[0])?;
    let mut val = labelled(env, val, inputs[1])?;
    let dim = train.dim;
    unit_rows([&mut train.data, &mut val.data], dim, &request.whitening)?;
    let classes = train.classes();
    let (train_labels, val_labels) = (train.label_numbers(&classes)?, val.label_numbers(&classes)?);
    let scores = request.knn.evaluate(
        Labelled {
            features: &train.data,
            dim: train.dim,
            labels: &train_labels,
        },
        Labelled {
            features: &val.data,
            dim: val.dim,
            labels: &val_labels,
        },
    )?;
    Ok(KnnReport {
        knn: scores
            .iter()
            .map(|score| KnnAccuracy {
                k: score.k,
                top1: score.top1,
                top5: score.top5,
            })
            .collect(),
        temperature: request.knn.temperature,
        whitened: request.whitening.is_on(),
        train_images: train.len(),
        val_images: val.len(),
        classes: classes.len(),
    })
}

impl Report for KnnReport {
    fn table(&self) -> Table {
        let mut table = Table::new(["k", "top-1 %", "top-5 %"]);
        for row in &self.knn {
            table.row([
                Cell::count(row.k),
                Cell::number(row.top1, 2),
                Cell::number(row.top5, 2),
            ]);
        }
        table
    }
}
