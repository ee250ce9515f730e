//! The native module of the Python package `dinolab`.
//!
//! | module | what Python sees |
//! |---|---|
//! | `embedder` | features, tokens and attention maps of images |
//! | `run` | a training run, event by event |
//! | `load` | weights as arrays |
//! | `evaluate` | k-NN and a linear classifier on arrays |
//! | `pictures` | the built-in shapes, PNG files |
//! | `command_line` | the program |
//!
//! The package around it, in `python/dinolab`, holds what is easier said in Python: documented signatures,
//! event classes, exceptions, the scikit-learn transformer.
//!
//! Work is done without the interpreter's lock. It is taken to copy the pixels of an image, and to see
//! whether Ctrl-C was pressed.

#![deny(clippy::print_stdout, clippy::print_stderr)]

mod arrays;
mod command_line;
mod embedder;
mod evaluate;
mod events;
mod exceptions;
mod forked;
mod handover;
mod images;
mod load;
mod messages;
mod pictures;
mod run;
mod settings;
mod wording;

/// What the package imports.
#[pyo3::pymodule]
mod _dinolab {
    #[pymodule_export]
    use crate::command_line::run_command_line;
    #[pymodule_export]
    use crate::embedder::Embedder;
    #[pymodule_export]
    use crate::evaluate::{knn, linear};
    #[pymodule_export]
    use crate::load::load;
    #[pymodule_export]
    use crate::pictures::{shapes, write_png};
    #[pymodule_export]
    use crate::run::Run;
    #[pymodule_export]
    use crate::settings::train_settings;
}
