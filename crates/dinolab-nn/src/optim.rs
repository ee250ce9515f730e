//! Optimisers and schedules, for training and fine-tuning alike.

mod hidden;
mod layer_rates;
mod optimiser;
pub mod schedule;

pub use self::hidden::hidden_matrices;
pub use self::layer_rates::LayerRates;
pub use self::optimiser::{Optimiser, OptimiserKind, ParamState, Rates, decays};
