//! Self-supervised training.
//!
//! A [`Method`] is one objective with its networks: [`method::dino`] is DINO, read top to bottom
//! next to the paper's algorithm 1; [`method::joint_embedding`] is the step of methods without a
//! teacher, [`method::lejepa`] and [`method::visreg`] are their losses; [`method::simdino`] is
//! SimDINO, [`method::dinov2`] DINOv2, [`method::distill`] learns from a frozen network. The [`Trainer`] runs any
//! of them: it reads views, follows a [`Schedule`], notifies [observers](Observer), and keeps [checkpoints](checkpoint), [sound](soundness) or not.
//! [`adapt`] is what all methods do with weights that they start from. [`update`] applies gradients, [`State`] holds what a method learned as named tensors.

pub mod adapt;
pub mod checkpoint;
pub mod divergence;
pub mod dropout;
pub mod error;
pub mod joints;
pub mod log;
pub mod masks;
pub mod method;
pub mod ranks;
pub mod reference;
pub mod schedule;
pub mod soundness;
mod state;
pub mod trainer;
pub mod update;
mod views;

pub use crate::adapt::AdaptConfig;
pub use crate::error::{Error, Result};
pub use crate::masks::{MaskConfig, StepMasks};
pub use crate::method::dino::{Centering, Dino, DinoConfig, DinoSchedule};
pub use crate::method::dinov2::{DinoV2, DinoV2Config, IbotConfig};
pub use crate::method::distill::{Distill, DistillConfig, FrozenTeacher, Normalised};
pub use crate::method::joint_embedding::{JointEmbedding, JointEmbeddingConfig};
pub use crate::method::lejepa::{LeJepa, LeJepaConfig, LeJepaObjective};
pub use crate::method::simdino::{SimDino, SimDinoConfig};
pub use crate::method::visreg::{VisReg, VisRegConfig, VisRegObjective};
pub use crate::method::{
    AverageSchedule, BatchShape, Method, Outputs, PatchOutputs, PrototypeOutputs, StepReport,
    StepTimings,
};
pub use crate::ranks::Ranks;
pub use crate::schedule::{Schedule, ScheduleConfig, StepHyperparams};
pub use crate::state::State;
pub use crate::trainer::{
    Event, Observer, RunOutcome, StepTime, TrainConfig, Trainer, steps_per_epoch,
};
pub use crate::views::Views;
pub use dinolab_nn::optim::OptimiserKind;
