//! Runs of dinolab as a library: what the program does between its command line and its output.
//!
//! | module | holds |
//! |---|---|
//! | [`settings`] | a run's settings, from what is given over a file over defaults |
//! | [`session`] | begins, resumes and trains a run |
//! | [`budget`] | how long a run takes on this machine, and which one takes a given time |
//! | [`run_folder`] | its folder: record, lock, images, checkpoints |
//! | [`health`], [`doctor`] | whether a run learns, has collapsed or has diverged, or its code is wrong |
//! | [`train_observer`], [`evaluator`], [`evaluation`], [`report`] | its metrics, evaluations and report |
//! | [`weights`], [`model`] | from a run folder, checkpoint or weight file to a network |
//! | [`sources`], [`image_files`], [`image_lookup`], [`class_masks`] | from an argument to images |
//! | [`visual_input`] | from an argument to images or a video |
//! | [`feature_input`], [`feature_index`] | from images or files to features |
//! | [`feature_set`], [`npy`] | features and arrays in files |
//! | [`result_folder`], [`result_names`], [`pictures`] | results, whole and by names of their own |
//! | [`evaluate`] | the protocols of evaluation, on weights and images |
//! | [`embed`], [`attend`], [`pca`], [`neighbours`], [`classify`], [`convert`] | uses of a trained network |
//! | [`data`] | image sets: fetched, inspected, packed |
//! | [`overfit`], [`mod@bench`] | tests of the method on one image, and of the machine's speed |
//! | [`mistakes`] | the classic mistakes of an implementation of DINO, trained beside the right step |
//! | [`table`] | reports as text tables |
//! | [`error`], [`environment`], [`event`] | errors, environment and events |
//!
//! Nothing here prints, parses a command line, or ends the process. Progress is reported as
//! [`Event`]s to a [`Listener`], failures as [`Error`]s.
//!
//! ```
//! use dinolab_run::Settings;
//!
//! // The settings that a run over 5,000 images follows, and which of them were chosen for it.
//! let (config, choices) = Settings::default().resolve(5000)?;
//! assert_eq!((config.out_dim, config.teacher_temp), (1024, 0.03));
//! assert!(choices.iter().any(|choice| choice.setting == "out-dim"));
//! # Ok::<(), dinolab_run::Error>(())
//! ```

#![forbid(unsafe_code)]
#![deny(clippy::print_stdout, clippy::print_stderr)]

#[macro_use]
pub mod error;

pub mod attend;
pub mod bench;
pub mod budget;
mod checksum;
pub mod class_masks;
mod classifier_file;
pub mod classify;
pub mod convert;
pub mod data;
pub mod doctor;
mod download;
pub mod embed;
pub mod environment;
pub mod evaluate;
pub mod evaluation;
pub mod evaluator;
pub mod event;
pub mod feature_index;
pub mod feature_input;
pub mod feature_set;
pub mod health;
pub mod hub;
pub mod image_files;
pub mod image_lookup;
pub mod mistakes;
pub mod model;
pub mod neighbours;
pub mod npy;
pub mod overfit;
mod patch_tokens;
pub mod pca;
pub mod pictures;
pub mod processes;
pub mod report;
pub mod result_folder;
pub mod result_names;
pub mod run_folder;
pub mod session;
pub mod settings;
pub mod sources;
pub mod table;
mod tensorboard;
pub mod train_observer;
pub mod values;
pub mod visual_input;
pub mod weights;
pub mod whitening;

pub use environment::Environment;
pub use error::{Error, Result, RunError, SettingValue};
pub use event::{Event, Listener, Severity};
pub use model::{Model, ModelOptions, Normalisation};
pub use processes::Processes;
pub use session::{Outcome, Session, Start, TrainRequest};
pub use settings::{Config, Settings};
