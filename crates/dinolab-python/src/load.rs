//! Weights as arrays.

use std::path::PathBuf;

use dinolab_nn::weights::NetworkRole;
use dinolab_run::Environment;
use dinolab_run::convert::{WeightFormat, state_dict};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::arrays::shaped;
use crate::exceptions::{Exception, plain};
use crate::forked;
use crate::messages::Messages;

/// The arrays of a backbone by the names `reference`, `timm` or `hf`: a dict of float32 arrays.
#[pyfunction]
#[pyo3(signature = (weights, names = "reference", checkpoint_key = None, heads = None))]
pub fn load<'py>(
    py: Python<'py>,
    weights: PathBuf,
    names: &str,
    checkpoint_key: Option<&str>,
    heads: Option<usize>,
) -> PyResult<Bound<'py, PyDict>> {
    forked::check(py)?;
    let to = match names {
        "reference" => WeightFormat::Reference,
        "timm" => WeightFormat::Timm,
        "hf" => WeightFormat::Hf,
        other => {
            let message = format!("names {other}: must be reference, timm or hf");
            return Err(Exception::Setting.raised(py, &message));
        }
    };
    let role = checkpoint_key.map(str::parse::<NetworkRole>).transpose();
    let role = role.map_err(|reason| {
        let given = checkpoint_key.unwrap_or_default();
        Exception::Setting.raised(py, &format!("checkpoint_key {given}: {reason}"))
    })?;
    let messages = Messages::default();
    let env = Environment::new(&messages);
    let arrays = py.detach(|| state_dict(&env, &weights, to, role, heads));
    messages.tell(py)?;
    let dict = PyDict::new(py);
    for (name, array) in arrays.map_err(|error| plain(py, error))? {
        dict.set_item(name, shaped(py, array.data, &array.shape)?)?;
    }
    Ok(dict)
}
