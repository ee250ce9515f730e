//! What is known about a run beside its figures.

use serde::{Deserialize, Serialize};

/// What [`super::diagnose`] needs about the run, to choose thresholds and suggest values.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Context {
    /// Images in the training set. With a single one a constant output is the right answer.
    pub images: usize,
    /// Length of the schedules, in epochs.
    pub epochs: f64,
    /// Epochs of learning-rate warm-up.
    pub warmup_epochs: f64,
    /// Epochs in which the head alone learns.
    pub freeze_backbone_epochs: f64,
    /// Peak learning rate for a batch of 256.
    pub lr: f64,
    /// What a method with a teacher and prototypes is set to.
    pub teacher: Option<TeacherContext>,
    /// The weight of SIGReg in the loss, of a method that has it.
    pub sigreg_weight: Option<f64>,
    /// The weight of VISReg's regulariser in the loss, of a method that has it.
    pub visreg_weight: Option<f64>,
    /// The weight of the coding rate in the loss, of a method that has it.
    pub coding_rate_weight: Option<f64>,
    /// Weight decay, the final one.
    pub weight_decay_end: f64,
    /// Largest norm of each parameter's gradient, where gradients are clipped.
    pub clip_grad: Option<f64>,
    /// Whether activations and matrix multiplications are in less than single precision.
    pub reduced_precision: bool,
}

/// Settings of a teacher and its outputs over prototypes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TeacherContext {
    /// Teacher temperature, the final one.
    pub teacher_temp: f64,
    /// Teacher momentum, the starting one.
    pub momentum_teacher: f64,
    /// Momentum of the centre.
    pub center_momentum: f64,
    /// Number of prototypes that suits the size of the training set.
    pub suited_out_dim: usize,
}
