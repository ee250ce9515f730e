//! The program, run within the interpreter.

use std::ffi::OsString;
use std::panic::catch_unwind;

use pyo3::prelude::*;

/// The exit code of a bug, as of the program itself.
const BUG: u8 = 101;

/// Runs the command line `args`, the program's name first, and returns its exit code; `program` are the words that
/// start the program in a process of its own.
#[pyfunction]
pub fn run_command_line(py: Python<'_>, program: Vec<OsString>, args: Vec<OsString>) -> u8 {
    py.detach(|| catch_unwind(|| dinolab::run_within(program, args)).unwrap_or(BUG))
}
