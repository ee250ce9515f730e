//! Keyword arguments as settings, by the parser of the command line.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{ArgAction, Args, Command, FromArgMatches};
use dinolab::Flags;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyList, PyString, PyTuple};

use crate::exceptions::Exception;
use crate::wording::{in_python, snake};

/// The flag of `train` that only a run of the command line has.
const PAGE: &str = "view";

/// Parses keyword arguments, and `positional`, as the flags of `T`; arguments that are `None` are left out.
///
/// # Errors
/// `SettingError` for an unknown name or a value that the flag does not take, in the words of the command line.
pub fn parse<T: Args + FromArgMatches>(
    py: Python<'_>,
    positional: Option<PathBuf>,
    settings: &Bound<'_, PyDict>,
) -> PyResult<T> {
    let mut command = T::augment_args(Command::new("dinolab").no_binary_name(true));
    let mut line = Vec::new();
    for (name, value) in settings {
        let name: String = name.extract()?;
        if name == PAGE {
            let sentence =
                format!("`{PAGE}` is of the command line: dinolab view RUN, beside the run");
            return Err(Exception::Setting.raised(py, &sentence));
        }
        line.extend(flag(&command, &name, &value)?);
    }
    if let Some(positional) = positional {
        line.extend(["--".into(), positional.into_os_string()]);
    }
    let parsed = command
        .try_get_matches_from_mut(line)
        .and_then(|matches| T::from_arg_matches(&matches));
    parsed.map_err(|error| Exception::Setting.raised(py, &sentence(&error)))
}

/// The flags of `T`.
pub fn flags_of<T: Args>() -> Flags {
    Flags::of(&T::augment_args(Command::new("dinolab")))
}

/// The names of the settings of `train`, with their descriptions, in the order of its help.
#[pyfunction]
pub fn train_settings() -> Vec<(String, String)> {
    let command = dinolab::TrainArgs::augment_args(Command::new("dinolab"));
    let shown = |arg: &&clap::Arg| !arg.is_hide_set() && arg.get_id() != PAGE;
    let shown = command.get_arguments().filter(shown);
    let described = |arg: &clap::Arg| {
        let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
        Some((snake(arg.get_long()?), in_python(&help)))
    };
    shown.filter_map(described).collect()
}

/// A keyword argument as a flag; `None` if it is not given.
fn flag(command: &Command, name: &str, value: &Bound<'_, PyAny>) -> PyResult<Option<OsString>> {
    if value.is_none() {
        return Ok(None);
    }
    let long = name.replace('_', "-");
    let arg = command
        .get_arguments()
        .find(|arg| arg.get_long() == Some(&long));
    let is_switch = arg.is_some_and(|arg| matches!(arg.get_action(), ArgAction::SetTrue));
    if is_switch {
        return match value.extract::<bool>() {
            Ok(on) => Ok(on.then(|| format!("--{long}").into())),
            Err(_) => Err(refused(value, name, "must be True or False")),
        };
    }
    let is_size = arg
        .and_then(clap::Arg::get_value_names)
        .is_some_and(|names| names.iter().any(|name| name.as_str() == "PX"));
    let mut flag = OsString::from(format!("--{long}="));
    flag.push(text(name, value, if is_size { "x" } else { "," })?);
    Ok(Some(flag))
}

/// A value as the command line takes it; parts of a sequence with `separator` between them.
fn text(name: &str, value: &Bound<'_, PyAny>, separator: &str) -> PyResult<OsString> {
    if let Ok(on) = value.cast::<PyBool>() {
        return Ok(if on.is_true() { "true" } else { "false" }.into());
    }
    if value.is_instance_of::<PyString>() || value.hasattr("__fspath__")? {
        return Ok(value.extract::<PathBuf>()?.into_os_string());
    }
    if value.is_instance_of::<PyList>() || value.is_instance_of::<PyTuple>() {
        let parts = value.try_iter()?.map(|part| text(name, &part?, separator));
        let parts = parts.collect::<PyResult<Vec<_>>>()?;
        return Ok(parts.join(separator.as_ref()));
    }
    // Numbers, also NumPy's.
    if value.extract::<f64>().is_ok() {
        return Ok(value.str()?.extract::<String>()?.into());
    }
    let kind = value.get_type().name()?;
    Err(refused(value, name, &format!("cannot be of type {kind}")))
}

fn refused(value: &Bound<'_, PyAny>, name: &str, reason: &str) -> PyErr {
    Exception::Setting.raised(value.py(), &format!("{name}: {reason}"))
}

/// What clap refuses, in one line.
fn sentence(error: &clap::Error) -> String {
    let text = error.to_string();
    let mut line = String::new();
    for part in text.lines().map(str::trim) {
        if part.starts_with("Usage:") || part.starts_with("For more information") {
            break;
        }
        match part.strip_prefix("tip: ") {
            Some(tip) => line += &format!("; {tip}"),
            None if part.is_empty() || line.is_empty() => line += part,
            None => line += &format!(" {part}"),
        }
    }
    let line = line.strip_prefix("error: ").unwrap_or(&line);
    in_python(line).replace(" argument ", " setting ")
}

/// JSON whose keys are names of settings, with the names of arguments.
pub fn snake_keys(value: serde_json::Value) -> serde_json::Value {
    match value {
        serde_json::Value::Object(map) => {
            let renamed = map.into_iter().map(|(name, value)| (snake(&name), value));
            serde_json::Value::Object(renamed.collect())
        }
        other => other,
    }
}
