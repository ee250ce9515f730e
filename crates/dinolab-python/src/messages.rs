//! Events of work that is not a run: what is worth knowing goes to Python's `logging`, what may be wrong
//! becomes a warning.

use std::sync::{Mutex, PoisonError};

use dinolab_run::{Event, Listener, Severity};
use pyo3::exceptions::PyUserWarning;
use pyo3::prelude::*;

use crate::wording::in_python;

/// Keeps messages until the interpreter's lock is held again.
#[derive(Default)]
pub struct Messages(Mutex<Vec<(Severity, String)>>);

impl Listener for Messages {
    fn hear(&self, event: Event<'_>) {
        let severity = event.severity();
        if severity > Severity::Progress {
            let text = event.to_string();
            let text = text.strip_prefix("warning: ").unwrap_or(&text);
            let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            kept.push((severity, in_python(text)));
        }
    }
}

impl Messages {
    /// Passes on what was kept.
    ///
    /// # Errors
    /// Warnings that are errors by the user's filters.
    pub fn tell(&self, py: Python<'_>) -> PyResult<()> {
        let kept = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        for (severity, text) in kept {
            match severity {
                Severity::Warning => warn(py, &text)?,
                _ => {
                    let logger = py
                        .import("logging")?
                        .call_method1("getLogger", ("dinolab",))?;
                    logger.call_method1("info", ("%s", text))?;
                }
            }
        }
        Ok(())
    }
}

/// Warns, as of the line of Python that called the package.
///
/// # Errors
/// A warning that is an error by the user's filters.
pub fn warn(py: Python<'_>, text: &str) -> PyResult<()> {
    let category = py.get_type::<PyUserWarning>();
    let warnings = py.import("warnings")?;
    warnings.call_method1("warn", (text, category, 2))?;
    Ok(())
}
