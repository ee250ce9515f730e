//! A training step on noise.

use dinolab_nn::{Device, HeadConfig, Precision, VitConfig, check_patches};
use dinolab_train::{Dino, DinoConfig, OptimiserKind, Phases, StepValues, Views};

use super::{forward_operations, noise};
use crate::error::{Context, Result};

/// What a step is of.
#[derive(Clone, Debug, PartialEq)]
pub struct StepOptions {
    /// The backbone; its image size is the side of the global crops.
    pub vit: VitConfig,
    /// The head.
    pub head: HeadConfig,
    /// Side of the local crops.
    pub local_crops_size: usize,
    /// How many local crops an image has.
    pub local_crops_number: usize,
    /// Images in a step.
    pub batch_size: usize,
    /// Stochastic depth of the student.
    pub drop_path_rate: f64,
    /// Norm that gradients are clipped to; 0 disables.
    pub clip_grad: f64,
    /// Of activations and matrix products.
    pub precision: Precision,
}

/// The whole step of DINO, on views that are there already.
pub struct StepBench {
    dino: Dino,
    views: [Views; 1],
    step: u64,
    /// The parts of each step so far.
    pub timings: Vec<Phases>,
    /// Nominal operations of a step.
    pub operations: f64,
}

impl StepBench {
    /// Makes networks and views.
    ///
    /// # Errors
    /// Sizes out of their range.
    pub fn new(options: &StepOptions, device: &Device) -> Result<Self> {
        let (vit, head) = (&options.vit, &options.head);
        let (global, local) = (vit.image_size, options.local_crops_size);
        check_patches(local, local, vit.patch_size).of_setting("local-crops-size", "")?;
        let config = DinoConfig {
            vit: vit.clone(),
            head: head.clone(),
            optimizer: OptimiserKind::AdamW,
            clip_grad: options.clip_grad,
            freeze_last_layer: 0,
            student_temp: 0.1,
            center_momentum: 0.9,
            drop_path: options.drop_path_rate,
            seed: 0,
            precision: options.precision,
        };
        let dino = Dino::new(&config, device)?;
        let (batch, locals) = (options.batch_size, options.local_crops_number);
        let views = [Views {
            batch,
            global: noise(2 * batch, global, dino.device()),
            local: (locals > 0).then(|| noise(locals * batch, local, dino.device())),
        }];
        // The teacher is one forward pass, the student three times one.
        let global = 2.0 * forward_operations(vit, global);
        let local = locals as f64 * forward_operations(vit, local);
        let (d, h, b, k) = (
            vit.width as f64,
            head.hidden_dim as f64,
            head.bottleneck_dim as f64,
            head.out_dim as f64,
        );
        let head_row = 2.0 * (d * h + h * h + h * b + b * k);
        let rows = 2.0 + 3.0 * (2.0 + locals as f64);
        Ok(Self {
            dino,
            views,
            step: 0,
            timings: Vec::new(),
            operations: batch as f64 * (4.0 * global + 3.0 * local + rows * head_row),
        })
    }

    /// Does one step.
    ///
    /// # Errors
    /// A loss that is no longer a number.
    pub fn once(&mut self) -> Result<()> {
        let now = StepValues {
            step: self.step,
            epoch: 1,
            lr: 1e-4,
            weight_decay: 0.04,
            momentum: 0.996,
            teacher_temp: 0.04,
        };
        self.step += 1;
        let report = self.dino.step(&self.views, &now)?;
        self.timings.push(report.phases);
        Ok(())
    }
}
