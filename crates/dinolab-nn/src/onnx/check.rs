//! A structural check of a graph. Tests compute files in an ONNX runtime and compare the results
//! with the network's.

use std::collections::HashSet;

use super::proto::{GraphProto, TensorProto, data_type};

/// Checks that a graph can be computed: every value has a name of its own and is made before it is
/// used, every constant has finite values for all of its shape, and all outputs are made.
///
/// # Errors
/// Names the first value for which that is not so.
pub(super) fn check(graph: &GraphProto) -> Result<(), String> {
    let mut known = HashSet::new();
    let define = |known: &mut HashSet<String>, name: &str| match known.insert(name.to_owned()) {
        true => Ok(()),
        false => Err(format!("two values have the name {name}")),
    };
    for input in &graph.input {
        define(&mut known, &input.name)?;
    }
    for constant in &graph.initializer {
        define(&mut known, &constant.name)?;
        check_constant(constant)?;
    }
    for node in &graph.node {
        if let Some(input) = node.input.iter().find(|input| !known.contains(*input)) {
            return Err(format!(
                "{} uses {input}, which is not made before",
                node.name
            ));
        }
        for output in &node.output {
            define(&mut known, output)?;
        }
    }
    let missing = graph
        .output
        .iter()
        .find(|output| !known.contains(&output.name));
    missing.map_or(Ok(()), |output| {
        Err(format!("output {} is not made", output.name))
    })
}

fn check_constant(constant: &TensorProto) -> Result<(), String> {
    let width = match constant.data_type {
        data_type::FLOAT => 4,
        _ => 8,
    };
    let count: i64 = constant.dims.iter().product();
    if usize::try_from(count).ok() != Some(constant.raw_data.len() / width) {
        return Err(format!(
            "constant {} of shape {:?} has {} bytes",
            constant.name,
            constant.dims,
            constant.raw_data.len()
        ));
    }
    let (values, _) = constant.raw_data.as_chunks();
    let floats = constant.data_type == data_type::FLOAT;
    if floats
        && !values
            .iter()
            .all(|bytes| f32::from_le_bytes(*bytes).is_finite())
    {
        return Err(format!("{} has values that are not finite", constant.name));
    }
    Ok(())
}
