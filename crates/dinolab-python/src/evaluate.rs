//! Evaluation of features in arrays.

use std::borrow::Cow;

use dinolab::Flags;
use dinolab_data::slice::SliceError;
use dinolab_eval::Error;
use dinolab_eval::knn::{Knn, Labelled, l2_normalise};
use dinolab_eval::linear::{EpochScore, LinearConfig, LinearRun, Problem, Standardiser, train};
use numpy::{PyReadonlyArray2, PyUntypedArrayMethods};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::arrays::shaped;
use crate::exceptions::{Exception, exception};
use crate::forked;

/// Features `[N, D]` with a class number of each row.
struct Set {
    dim: usize,
    features: Vec<f32>,
    labels: Vec<usize>,
}

impl Set {
    fn of(features: &PyReadonlyArray2<'_, f32>, labels: Vec<usize>) -> Self {
        let array = features.as_array();
        Self {
            dim: features.shape()[1],
            features: match array.as_slice() {
                Some(values) => values.to_vec(),
                None => array.iter().copied().collect(),
            },
            labels,
        }
    }

    fn labelled(&self) -> Labelled<'_> {
        Labelled {
            features: &self.features,
            dim: self.dim,
            labels: &self.labels,
        }
    }
}

fn same_width(py: Python<'_>, train: &Set, test: &Set) -> PyResult<()> {
    if train.dim == test.dim {
        return Ok(());
    }
    let message = format!(
        "the features are of different widths: {} and {}",
        train.dim, test.dim
    );
    Err(Exception::Error.raised(py, &message))
}

/// The exception of an error, whose settings are arguments here.
fn failed(py: Python<'_>, error: Error) -> PyErr {
    let error = match error {
        Error::BadSetting {
            field: "batch-size-per-gpu",
            reason,
        } => Error::BadSetting {
            field: "batch-size",
            reason,
        },
        error => error,
    };
    let arguments = Flags::new(["k", "temperature", "lr", "epochs", "batch-size"]);
    exception(py, error.into(), &arguments, Exception::Error)
}

/// Weighted k-NN on L2-normalised features, as `dinolab eval knn`: of each k its top-1 and top-5 accuracy in percent
/// and the class numbers predicted.
#[pyfunction]
pub fn knn(
    py: Python<'_>,
    train: PyReadonlyArray2<'_, f32>,
    train_labels: Vec<usize>,
    test: PyReadonlyArray2<'_, f32>,
    test_labels: Vec<usize>,
    k: Vec<usize>,
    temperature: f64,
) -> PyResult<Vec<(f64, f64, Vec<usize>)>> {
    let mut train = Set::of(&train, train_labels);
    let mut test = Set::of(&test, test_labels);
    forked::check(py)?;
    same_width(py, &train, &test)?;
    let scores = py.detach(|| {
        l2_normalise(&mut train.features, train.dim)?;
        l2_normalise(&mut test.features, test.dim)?;
        Knn { k, temperature }.evaluate(train.labelled(), test.labelled())
    });
    let scores = scores.map_err(|error| failed(py, error))?;
    let scores = scores.into_iter();
    Ok(scores
        .map(|score| (score.top1, score.top5, score.predicted))
        .collect())
}

/// Why a classifier did not learn to the end.
enum Stopped {
    Failed(Error),
    /// By Ctrl-C.
    Interrupted(PyErr),
}

impl From<Error> for Stopped {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl From<SliceError> for Stopped {
    fn from(error: SliceError) -> Self {
        Self::Failed(error.into())
    }
}

/// A linear classifier by SGD for each learning rate, as `dinolab eval linear`; for each rate a dict.
#[pyfunction]
#[allow(clippy::too_many_arguments, reason = "as Python has them")]
pub fn linear<'py>(
    py: Python<'py>,
    train_features: PyReadonlyArray2<'_, f32>,
    train_labels: Vec<usize>,
    test: PyReadonlyArray2<'_, f32>,
    test_labels: Vec<usize>,
    classes: usize,
    lrs: Vec<f64>,
    epochs: usize,
    batch_size: usize,
    seed: u64,
    standardise: bool,
) -> PyResult<(usize, Vec<Bound<'py, PyDict>>)> {
    let mut train_set = Set::of(&train_features, train_labels);
    let mut test = Set::of(&test, test_labels);
    forked::check(py)?;
    same_width(py, &train_set, &test)?;
    let config = LinearConfig {
        epochs,
        batch_size,
        seed,
        ..LinearConfig::default()
    };
    let learned = py.detach(|| -> Result<_, Stopped> {
        let standardiser = standardise
            .then(|| Standardiser::of(&train_set.features, train_set.dim))
            .transpose()?;
        if let Some(standardiser) = &standardiser {
            standardiser.apply(&mut train_set.features);
            standardiser.apply(&mut test.features);
        }
        let problem = Problem {
            dim: train_set.dim,
            classes,
            labels: &train_set.labels,
            validation: test.labelled(),
        };
        let mut features = |_: usize| -> Result<Cow<'_, [f32]>, Stopped> {
            Python::attach(|py| py.check_signals()).map_err(Stopped::Interrupted)?;
            Ok(Cow::Borrowed(&train_set.features))
        };
        let mut runs = train(&mut features, &problem, &lrs, &config, &mut |_| {})?;
        let predicted = runs
            .iter()
            .map(|run| predictions(run, &test.features))
            .collect::<Result<Vec<_>, _>>()?;
        if let Some(standardiser) = &standardiser {
            for run in &mut runs {
                run.classifier = standardiser.fold_into(&run.classifier);
            }
        }
        Ok((runs, predicted))
    });
    let (runs, predicted) = learned.map_err(|stopped| match stopped {
        Stopped::Failed(error) => failed(py, error),
        Stopped::Interrupted(interrupt) => interrupt,
    })?;
    let best = LinearRun::best_of(&runs).map_or(0.0, |best| best.lr);
    let chosen = runs.iter().position(|run| run.lr == best).unwrap_or(0);
    let dicts = runs
        .iter()
        .zip(predicted)
        .map(|(run, predicted)| described(py, run, predicted))
        .collect::<PyResult<Vec<_>>>()?;
    Ok((chosen, dicts))
}

/// The likeliest class of each row, the first of equals.
fn predictions(run: &LinearRun, features: &[f32]) -> dinolab_eval::Result<Vec<usize>> {
    let logits = run.classifier.logits(features)?;
    let best = |row: &[f32]| {
        let values = row.iter().enumerate();
        let best = values.reduce(|best, next| if next.1 > best.1 { next } else { best });
        best.map_or(0, |(class, _)| class)
    };
    Ok(logits
        .chunks_exact(run.classifier.classes())
        .map(best)
        .collect())
}

fn described<'py>(
    py: Python<'py>,
    run: &LinearRun,
    predicted: Vec<usize>,
) -> PyResult<Bound<'py, PyDict>> {
    let epoch = |score: &EpochScore| {
        let EpochScore {
            epoch,
            loss,
            accuracy,
        } = score;
        (*epoch, *loss, accuracy.top1, accuracy.top5)
    };
    let (classifier, dict) = (&run.classifier, PyDict::new(py));
    let shape = [classifier.classes(), classifier.dim];
    dict.set_item("lr", run.lr)?;
    dict.set_item("history", run.history.iter().map(epoch).collect::<Vec<_>>())?;
    dict.set_item("predicted", predicted)?;
    dict.set_item("weight", shaped(py, classifier.weight.clone(), &shape)?)?;
    dict.set_item("bias", shaped(py, classifier.bias.clone(), &shape[..1])?)?;
    Ok(dict)
}
