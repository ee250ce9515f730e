//! Training by self-distillation with no labels.
//!
//! [`step`] is DINO itself: read it top to bottom beside the paper's algorithm 1. The rest
//! feeds it ([`schedule`]), applies its gradients ([`optimiser`]), and keeps what it made
//! ([`checkpoint`], [`log`], [`mod@reference`]), sound or not ([`soundness`]); [`run`] is the loop.

pub mod checkpoint;
pub mod drop_path;
pub mod error;
pub mod log;
pub mod optimiser;
pub mod reference;
pub mod run;
pub mod schedule;
pub mod soundness;
pub mod step;

pub use crate::error::{Error, Result};
pub use crate::optimiser::{Optimiser, OptimiserKind};
pub use crate::schedule::{ScheduleConfig, Schedules, StepValues};
pub use crate::step::{Dino, DinoConfig, Outputs, Phases, StepReport, Views};
