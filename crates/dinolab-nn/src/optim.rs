//! Optimisers and schedules, for training and fine-tuning alike.

mod optimiser;
pub mod schedule;

pub use self::optimiser::{Optimiser, OptimiserKind, ParamState, Rates, decays};
