//! Self-supervised training.
//!
//! A [`Method`] is one objective with its networks: [`method::dino`] is DINO, read top to bottom
//! beside the paper's algorithm 1, [`method::lejepa`] LeJEPA. The [`Trainer`] runs any of them: it
//! reads views, follows a [`Schedule`], tells [observers](Observer) what happens, and keeps
//! [checkpoints](checkpoint), [sound](soundness) or not. [`update`] applies gradients, [`State`] holds
//! what a method learned as named tensors.

pub mod checkpoint;
pub mod divergence;
pub mod dropout;
pub mod error;
pub mod log;
pub mod method;
pub mod reference;
pub mod schedule;
pub mod soundness;
mod state;
pub mod trainer;
pub mod update;
mod views;

pub use crate::error::{Error, Result};
pub use crate::method::dino::{Centering, Dino, DinoConfig, DinoSchedule};
pub use crate::method::lejepa::{LeJepa, LeJepaConfig};
pub use crate::method::{BatchShape, Method, Outputs, PrototypeOutputs, StepReport, StepTimings};
pub use crate::schedule::{Schedule, ScheduleConfig, StepHyperparams};
pub use crate::state::State;
pub use crate::trainer::{Event, Observer, RunOutcome, StepTime, TrainConfig, Trainer};
pub use crate::views::Views;
pub use dinolab_nn::optim::OptimiserKind;
