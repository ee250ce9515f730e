//! Events of a run as a kind and named values, which the package makes classes of.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use dinolab_run::evaluation::Evaluation;
use dinolab_run::health::Warning;
use dinolab_run::{Event, Listener, Outcome, Session, Severity};
use dinolab_train::RunOutcome;
use pyo3::IntoPyObjectExt;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};
use serde_json::json;

use crate::handover::Handover;
use crate::settings::snake_keys;
use crate::wording::in_python;

/// Events from the thread that trains; at last how the run ended.
pub type Exchange = Handover<Told, (), Result<Told, dinolab_run::Error>>;

/// An event: its class, and what it says.
pub struct Told {
    kind: &'static str,
    fields: Vec<(&'static str, Value)>,
}

/// A value of an event.
pub enum Value {
    /// Also NaN, which JSON has no number for.
    Float(f64),
    /// A path.
    Path(PathBuf),
    /// Anything else.
    Json(serde_json::Value),
}

impl<T: Into<serde_json::Value>> From<T> for Value {
    fn from(value: T) -> Self {
        Self::Json(value.into())
    }
}

impl<'py> IntoPyObject<'py> for Told {
    type Target = PyAny;
    type Output = Bound<'py, PyAny>;
    type Error = PyErr;

    /// `(kind, dict)`.
    fn into_pyobject(self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let dict = PyDict::new(py);
        for (name, value) in self.fields {
            match value {
                Value::Float(value) => dict.set_item(name, value)?,
                Value::Path(path) => dict.set_item(name, path)?,
                Value::Json(value) => dict.set_item(name, of_json(py, &value)?)?,
            }
        }
        (self.kind, dict).into_bound_py_any(py)
    }
}

fn of_json<'py>(py: Python<'py>, value: &serde_json::Value) -> PyResult<Bound<'py, PyAny>> {
    use serde_json::Value as Json;
    match value {
        Json::Null => Ok(py.None().into_bound(py)),
        Json::Bool(value) => value.into_bound_py_any(py),
        Json::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(value), _) => value.into_bound_py_any(py),
            (None, Some(value)) => value.into_bound_py_any(py),
            (None, None) => number.as_f64().into_bound_py_any(py),
        },
        Json::String(text) => text.into_bound_py_any(py),
        Json::Array(values) => {
            let values = values.iter().map(|value| of_json(py, value));
            Ok(PyList::new(py, values.collect::<PyResult<Vec<_>>>()?)?.into_any())
        }
        Json::Object(values) => {
            let dict = PyDict::new(py);
            for (name, value) in values {
                dict.set_item(name, of_json(py, value)?)?;
            }
            Ok(dict.into_any())
        }
    }
}

/// Hands the events of a run over.
pub struct Teller<'a> {
    exchange: &'a Exchange,
    /// Steps of the whole run.
    steps: AtomicU64,
}

impl<'a> Teller<'a> {
    /// One that hands over to `exchange`.
    pub fn new(exchange: &'a Exchange) -> Self {
        let steps = AtomicU64::new(0);
        Self { exchange, steps }
    }
}

impl Listener for Teller<'_> {
    fn hear(&self, event: Event<'_>) {
        let told = match event {
            Event::Began {
                unit: "step",
                total,
                ..
            } => return self.steps.store(total.unwrap_or(0), Ordering::Relaxed),
            Event::Stepped {
                done,
                share,
                loss,
                lr,
                images_per_second,
                ..
            } => Told {
                kind: "step",
                fields: vec![
                    ("step", done.into()),
                    ("steps", self.steps.load(Ordering::Relaxed).into()),
                    ("share", Value::Float(share)),
                    ("loss", Value::Float(loss)),
                    ("lr", Value::Float(lr)),
                    ("images_per_second", Value::Float(images_per_second)),
                ],
            },
            Event::EpochEnded {
                health,
                warnings,
                seconds,
                data_wait,
            } => Told {
                kind: "epoch",
                fields: vec![
                    ("epoch", health.epoch.into()),
                    ("health", json!(health).into()),
                    (
                        "warnings",
                        warnings.iter().map(of_warning).collect::<Vec<_>>().into(),
                    ),
                    ("seconds", Value::Float(seconds)),
                    ("data_wait", Value::Float(data_wait)),
                ],
            },
            Event::Evaluated { epochs, figures } => Told {
                kind: "evaluation",
                fields: of_evaluation(epochs, &figures),
            },
            event if event.severity() == Severity::Progress => return,
            event => {
                let text = event.to_string();
                let text = text.strip_prefix("warning: ").unwrap_or(&text);
                let level = match event.severity() {
                    Severity::Warning => "warning",
                    _ => "note",
                };
                Told {
                    kind: "message",
                    fields: vec![("text", in_python(text).into()), ("level", level.into())],
                }
            }
        };
        self.exchange.tell(told);
    }
}

fn of_warning(warning: &Warning) -> serde_json::Value {
    let remedies = warning.remedies.iter().map(ToString::to_string);
    json!({
        "failure": warning.failure,
        "seen": warning.seen,
        "meaning": warning.meaning,
        "remedies": remedies.collect::<Vec<_>>(),
    })
}

fn of_evaluation(epochs: u64, figures: &Evaluation) -> Vec<(&'static str, Value)> {
    vec![
        ("epochs", epochs.into()),
        ("knn", figures.knn.into()),
        ("knn_whitened", figures.knn_whitened.into()),
        ("jaccard", figures.jaccard.into()),
    ]
}

/// A run that is open: where, on what, by which settings.
///
/// # Errors
/// Settings of the network out of their range.
pub fn started(session: &Session<'_>) -> dinolab_run::Result<Told> {
    let images = session.images();
    let choices = session.choices().iter();
    let choices = choices.map(|choice| in_python(&format!("--{}", choice.in_words(images))));
    let doubt = session.diverged_before();
    let doubt = doubt.map(|(aside, _)| aside.display().to_string());
    Ok(Told {
        kind: "started",
        fields: vec![
            ("folder", Value::Path(session.folder().to_owned())),
            ("images", images.into()),
            ("dataset", session.sources().description.clone().into()),
            ("headline", session.headline()?.into()),
            ("settings", snake_keys(json!(session.config())).into()),
            ("choices", choices.collect::<Vec<_>>().into()),
            (
                "resumed_from",
                session.resumed().map(|position| position.step).into(),
            ),
            ("diverged_after", doubt.into()),
            (
                "estimate",
                session
                    .estimate()
                    .map(|estimate| in_python(&estimate.to_string()))
                    .into(),
            ),
        ],
    })
}

/// How a run ended.
pub fn finished(outcome: &Outcome) -> Told {
    let evaluation = |(epochs, figures): &(u64, Evaluation)| {
        json!({
            "epochs": epochs,
            "knn": figures.knn,
            "knn_whitened": figures.knn_whitened,
            "jaccard": figures.jaccard,
        })
    };
    let evaluations = outcome.summary.evaluations.iter().map(evaluation);
    let ending = match outcome.ending {
        RunOutcome::Finished => "finished",
        RunOutcome::StoppedAsPlanned => "stopped as planned",
        RunOutcome::Interrupted => "interrupted",
    };
    let skipped = outcome.skipped.as_ref();
    Told {
        kind: "finished",
        fields: vec![
            ("ending", ending.into()),
            ("evaluations", evaluations.collect::<Vec<_>>().into()),
            ("report", Value::Path(outcome.report.clone())),
            ("skipped", skipped.map_or(0, |(count, _)| *count).into()),
        ],
    }
}
