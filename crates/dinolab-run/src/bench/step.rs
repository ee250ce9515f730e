//! A training step on noise.

use dinolab_nn::{Device, HeadConfig, Precision, ProjectionConfig, VitConfig, check_patches};
use dinolab_train::{
    Dino, DinoConfig, DinoSchedule, LeJepa, LeJepaConfig, Method, OptimiserKind, StepHyperparams,
    StepTimings, Views,
};

use super::{forward_operations, noise};
use crate::error::{Context, Result};

/// What a step is of.
#[derive(Clone, Debug)]
pub struct StepOptions {
    /// The backbone; its image size is the side of the global crops.
    pub vit: VitConfig,
    /// The method and its head.
    pub method: StepMethod,
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

/// A method with its head.
#[derive(Clone, Debug)]
pub enum StepMethod {
    /// DINO.
    Dino(HeadConfig),
    /// LeJEPA.
    LeJepa {
        /// The projection.
        head: ProjectionConfig,
        /// Random directions of a step.
        directions: usize,
    },
}

impl StepMethod {
    /// Nominal operations of the head for one row.
    fn head_operations(&self, width: usize) -> f64 {
        let sizes = match self {
            Self::Dino(head) => vec![
                width,
                head.hidden_dim,
                head.hidden_dim,
                head.bottleneck_dim,
                head.out_dim,
            ],
            Self::LeJepa { head, .. } => {
                vec![width, head.hidden_dim, head.hidden_dim, head.out_dim]
            }
        };
        let pairs = sizes.windows(2).map(|io| (io[0] * io[1]) as f64);
        2.0 * pairs.sum::<f64>()
    }

    fn build(&self, options: &StepOptions, device: &Device) -> Result<Box<dyn Method>> {
        let (vit, clip_grad) = (options.vit.clone(), options.clip_grad);
        let (drop_path, precision) = (options.drop_path_rate, options.precision);
        let optimizer = OptimiserKind::AdamW;
        Ok(match self {
            Self::Dino(head) => {
                let config = DinoConfig {
                    vit,
                    head: head.clone(),
                    optimizer,
                    clip_grad,
                    freeze_last_layer: 0,
                    student_temp: 0.1,
                    center_momentum: 0.9,
                    schedule: DinoSchedule {
                        momentum_teacher: 0.996,
                        warmup_teacher_temp: 0.04,
                        teacher_temp: 0.04,
                        warmup_teacher_temp_epochs: 0,
                    },
                    drop_path,
                    seed: 0,
                    precision,
                };
                Box::new(Dino::new(&config, device)?)
            }
            Self::LeJepa { head, directions } => {
                let config = LeJepaConfig {
                    vit,
                    head: head.clone(),
                    optimizer,
                    clip_grad,
                    sigreg_weight: 0.05,
                    sigreg_directions: *directions,
                    average_momentum: 0.98,
                    average_momentum_end: 0.98,
                    drop_path,
                    seed: 0,
                    precision,
                };
                Box::new(LeJepa::new(&config, device)?)
            }
        })
    }
}

/// The whole step of a method, on views that are there already.
pub struct StepBench {
    method: Box<dyn Method>,
    views: [Views; 1],
    step: u64,
    /// The timings of each step so far.
    pub timings: Vec<StepTimings>,
    /// Nominal operations of a step.
    pub operations: f64,
}

impl StepBench {
    /// Makes networks and views.
    ///
    /// # Errors
    /// Sizes out of their range.
    pub fn new(options: &StepOptions, device: &Device) -> Result<Self> {
        let vit = &options.vit;
        let (global, local) = (vit.image_size, options.local_crops_size);
        check_patches(local, local, vit.patch_size).of_setting("local-crops-size", "")?;
        let method = options.method.build(options, device)?;
        let (batch, locals) = (options.batch_size, options.local_crops_number);
        let views = [Views {
            batch,
            global: noise(2 * batch, global, method.device()),
            local: (locals > 0).then(|| noise(locals * batch, local, method.device())),
        }];
        // A forward pass, and twice as much for the backward pass; a teacher's is forward only.
        let global = 2.0 * forward_operations(vit, global);
        let local = locals as f64 * forward_operations(vit, local);
        let teacher = match options.method {
            StepMethod::Dino(_) => 1.0,
            StepMethod::LeJepa { .. } => 0.0,
        };
        let rows = 2.0 * teacher + 3.0 * (2.0 + locals as f64);
        let head = rows * options.method.head_operations(vit.width);
        Ok(Self {
            method,
            views,
            step: 0,
            timings: Vec::new(),
            operations: batch as f64 * ((3.0 + teacher) * global + 3.0 * local + head),
        })
    }

    /// Does one step.
    ///
    /// # Errors
    /// A loss that is no longer a number.
    pub fn once(&mut self) -> Result<()> {
        let hp = StepHyperparams {
            step: self.step,
            epoch: 1,
            // A schedule so long that its values stand still.
            steps: 1 << 40,
            lr: 1e-4,
            weight_decay: 0.04,
        };
        self.step += 1;
        let report = self.method.step(&self.views, &hp)?;
        self.timings.push(report.timings);
        Ok(())
    }
}
