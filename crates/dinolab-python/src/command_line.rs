//! The program, run within the interpreter.

use std::ffi::OsString;

use pyo3::prelude::*;

/// Runs the command line `args`, the program's name first, and returns its exit code.
#[pyfunction]
pub fn run_command_line(py: Python<'_>, args: Vec<OsString>) -> u8 {
    py.detach(|| dinolab::run(args))
}
