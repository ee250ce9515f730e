//! Arrays into networks, with an account of what went where.

use std::fmt;

use super::{Array, Weights};
use crate::param::Parameters;
use crate::position::{PositionRule, resample};
use crate::{Error, Param, Result};

/// What is allowed to differ.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LoadOptions {
    /// Resample position embeddings of another image size instead of refusing them.
    pub resize_positions: bool,
    /// Leave parameters that the file lacks at their initial values instead of refusing.
    pub allow_missing: bool,
}

/// Which tensors were loaded, resized, missing and unused.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoadReport {
    /// Taken as they are, with their shapes.
    pub loaded: Vec<(String, Vec<usize>)>,
    /// Resampled: name, shape in the file, shape in the network.
    pub resized: Vec<(String, Vec<usize>, Vec<usize>)>,
    /// In the network but not in the file.
    pub missing: Vec<String>,
    /// In the file but not in the network.
    pub left_over: Vec<String>,
}

impl fmt::Display for LoadReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |names: &[String]| match names {
            [] => "-".to_owned(),
            [first] => first.clone(),
            [first, .., last] => format!("{first} … {last}"),
        };
        let names =
            |rows: &[(String, Vec<usize>)]| rows.iter().map(|r| r.0.clone()).collect::<Vec<_>>();
        writeln!(f, "{:<10} {:>7}  names", "weights", "tensors")?;
        writeln!(
            f,
            "{:<10} {:>7}  {}",
            "loaded",
            self.loaded.len(),
            list(&names(&self.loaded))
        )?;
        for (name, from, to) in &self.resized {
            writeln!(f, "{:<10} {:>7}  {name} {from:?} to {to:?}", "resized", 1)?;
        }
        writeln!(
            f,
            "{:<10} {:>7}  {}",
            "missing",
            self.missing.len(),
            list(&self.missing)
        )?;
        write!(
            f,
            "{:<10} {:>7}  {}",
            "unused",
            self.left_over.len(),
            list(&self.left_over)
        )
    }
}

/// Loads `weights` into the part of a network whose names start with `prefix`
/// (`backbone` for a lone backbone, empty for backbone and head).
///
/// # Errors
/// [`Error::Shape`] where a tensor does not fit, [`Error::PositionSize`] where position embeddings
/// are of another image size, [`Error::Missing`] where one is not there
/// and must be. The network is unchanged after an error.
pub fn load(
    network: &mut (impl Parameters + ?Sized),
    prefix: &str,
    weights: &Weights,
    options: LoadOptions,
) -> Result<LoadReport> {
    let mut report = LoadReport::default();
    let mut problem = None;
    let mut total = 0;
    let mut plan = std::collections::BTreeMap::new();
    network.visit(prefix, &mut |name, param| {
        total += 1;
        match weights.arrays.get(name) {
            None => report.missing.push(name.to_owned()),
            Some(array) if fits(array, param) => {
                report.loaded.push((name.to_owned(), array.shape.clone()));
                plan.insert(name.to_owned(), array.data.clone());
            }
            Some(array) => {
                let resampled = resized(array, param).filter(|_| name.ends_with("pos_embed"));
                let (expected, found) = (param.shape().to_vec(), array.shape.clone());
                let name = name.to_owned();
                match resampled {
                    Some(data) if options.resize_positions => {
                        report.resized.push((name.clone(), found, expected));
                        plan.insert(name, data);
                    }
                    resampled if problem.is_none() => {
                        problem = Some(match resampled {
                            Some(_) => Error::PositionSize {
                                name,
                                expected,
                                found,
                            },
                            None => Error::Shape {
                                name,
                                expected,
                                found,
                            },
                        });
                    }
                    _ => {}
                }
            }
        }
    });
    if let Some(problem) = problem {
        return Err(problem);
    }
    if let Some(first) = report.missing.first().filter(|_| !options.allow_missing) {
        return Err(Error::Missing {
            missing: report.missing.len(),
            total,
            first: first.clone(),
        });
    }
    report.left_over = weights
        .arrays
        .keys()
        .filter(|name| !plan.contains_key(*name))
        .cloned()
        .collect();
    network.visit_mut(prefix, &mut |name, param| {
        if let Some(data) = plan.remove(name) {
            let device = param.flat().device();
            let len = data.len();
            param.set_flat(burn::tensor::Tensor::from_data(
                burn::tensor::TensorData::new(data, [len]),
                &device,
            ));
        }
    });
    Ok(report)
}

/// Same shape, or the same values laid out alike (`[1, K]` for `[K]`, a flat patch kernel).
fn fits(array: &Array, param: &Param) -> bool {
    let squeeze = |shape: &[usize]| {
        shape
            .iter()
            .copied()
            .filter(|&n| n != 1)
            .collect::<Vec<_>>()
    };
    array.data.len() == param.len() && squeeze(&array.shape) == squeeze(param.shape())
}

/// Position embeddings of another square grid.
fn resized(array: &Array, param: &Param) -> Option<Vec<f32>> {
    let (&[1, from, width], &[1, to, same_width]) = (array.shape.as_slice(), param.shape()) else {
        return None;
    };
    let (from_side, to_side) = ((from.checked_sub(1)?).isqrt(), (to.checked_sub(1)?).isqrt());
    let square = from_side * from_side + 1 == from && to_side * to_side + 1 == to;
    if width != same_width || !square {
        return None;
    }
    let (class, grid) = array.data.split_at(width);
    let mut data = class.to_vec();
    data.extend(resample(
        grid,
        width,
        from_side,
        to_side,
        to_side,
        PositionRule::Dino,
    ));
    Some(data)
}
