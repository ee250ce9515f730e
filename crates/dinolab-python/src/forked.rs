//! Processes that were forked after the threads that compute had started, which the fork does not have: work would
//! wait for them for ever.

use std::sync::OnceLock;

use pyo3::prelude::*;

use crate::exceptions::Exception;

/// The process in which work began.
static PROCESS: OnceLock<u32> = OnceLock::new();

/// Whether this process is a fork of one that has worked.
pub fn is_fork() -> bool {
    let this = std::process::id();
    *PROCESS.get_or_init(|| this) != this
}

/// To be called before work that is done by several threads.
///
/// # Errors
/// `Error` in a fork of a process that has worked.
pub fn check(py: Python<'_>) -> PyResult<()> {
    match is_fork() {
        false => Ok(()),
        true => Err(Exception::Error.raised(
            py,
            "this process was forked from one that had used dinolab, whose threads it does not have; start \
             processes with multiprocessing's method `spawn`",
        )),
    }
}
