//! A training step on noise.

mod method;

use std::fmt::Write;
use std::time::Duration;

use dinolab_kernels::profile::Profile;
use dinolab_nn::{BackboneConfig, Device, Feature, Precision, check_patches};
use dinolab_train::{Method, OptimiserKind, StepHyperparams, StepTimings, Views};

pub use self::method::{MethodOptions, StepMethod};
use super::{forward_operations, median, ms, noise, peak_memory};
use crate::error::{Context, Result};

/// What a step is of.
#[derive(Clone, Debug)]
pub struct StepOptions {
    /// The backbone; a transformer's image size is the side of the global crops.
    pub backbone: BackboneConfig,
    /// What of its tokens the head is on.
    pub feature: Feature,
    /// The method and its head.
    pub method: StepMethod,
    /// Side of the global crops.
    pub global_crops_size: usize,
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
    /// What updates the parameters.
    pub optimizer: OptimiserKind,
    /// Of activations and matrix multiplications.
    pub precision: Precision,
}

/// The whole step of a method, on views that are there already.
pub struct StepBench {
    options: StepOptions,
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
        let backbone = &options.backbone;
        let (global, local) = (options.global_crops_size, options.local_crops_size);
        check_patches(local, local, backbone.stride()).of_setting("local-crops-size", "")?;
        let method = options.method.build(options, device)?;
        let (batch, locals) = (options.batch_size, options.local_crops_number);
        let views = [Views {
            batch,
            global: noise(2 * batch, global, method.device()),
            local: (locals > 0).then(|| noise(locals * batch, local, method.device())),
        }];
        // A forward pass, and twice as much for the backward pass; a teacher's is forward only.
        let global = 2.0 * forward_operations(backbone, global);
        let local = locals as f64 * forward_operations(backbone, local);
        let teacher = match options.method {
            StepMethod::Dino(_)
            | StepMethod::DinoV2(_)
            | StepMethod::SimDino(_)
            | StepMethod::Distill => 1.0,
            StepMethod::LeJepa(_) | StepMethod::VisReg(_) => 0.0,
        };
        let rows = 2.0 * teacher + 3.0 * (2.0 + locals as f64);
        let head = rows
            * options
                .method
                .head_operations(options.feature.width(backbone.width()));
        Ok(Self {
            options: options.clone(),
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
    /// A loss that is NaN or infinite.
    pub fn once(&mut self) -> Result<()> {
        let hp = StepHyperparams {
            step: self.step,
            epoch: 1,
            // A schedule so long that its values stand still.
            steps: 1 << 40,
            lr: 1e-4,
            weight_decay: 0.04,
            backbone_rate: 1.0,
        };
        self.step += 1;
        let report = self.method.step(&self.views, &hp)?;
        self.timings.push(report.timings);
        Ok(())
    }

    /// Lines of text: the timings of the last steps, which took `measured` each, and of the matrix
    /// multiplications in them.
    pub fn figures(&self, measured: &[Duration], profile: &Profile) -> String {
        let StepOptions {
            global_crops_size,
            method,
            local_crops_size,
            local_crops_number,
            batch_size,
            optimizer,
            ..
        } = &self.options;
        let (time, threads) = (median(measured), rayon::current_num_threads());
        let seconds = time.as_secs_f64();
        let head = match method {
            StepMethod::Dino(head) | StepMethod::DinoV2(head) => {
                format!("{} prototypes", head.out_dim)
            }
            StepMethod::SimDino(head) => format!("outputs of {}", head.out_dim),
            StepMethod::LeJepa(sizes) | StepMethod::VisReg(sizes) => {
                format!("{} directions", sizes.directions)
            }
            StepMethod::Distill => "a teacher of the same sizes".to_owned(),
        };
        let mut text = format!(
            "batch {batch_size}, views 2 × {global_crops_size} px and {local_crops_number} × {local_crops_size} px, \
             {head}, {optimizer}, {threads} threads\n"
        );
        let mut line = |name: &str, figures: String| {
            // Writing to a text does not fail.
            let _ = writeln!(text, "{name:<10} {figures}");
        };
        let slowest = measured.iter().max().copied().unwrap_or_default();
        let fastest = measured.iter().min().copied().unwrap_or_default();
        line(
            "step",
            format!(
                "{:>9.1} ms   (median of {}; {:.1} to {:.1})",
                ms(time),
                measured.len(),
                ms(fastest),
                ms(slowest)
            ),
        );
        let last = &self.timings[self.timings.len() - measured.len()..];
        let phases = last.first().map_or(&[][..], StepTimings::phases);
        for (i, (name, _)) in phases.iter().enumerate() {
            let times: Vec<_> = last.iter().map(|step| step.phases()[i].1).collect();
            line(
                &format!("  {name}"),
                format!("{:>9.1} ms", ms(median(&times))),
            );
        }
        line(
            "speed",
            format!(
                "{:>9.1} GFLOP/s of {:.0} nominal GFLOP; {:.2} images/s",
                self.operations / seconds / 1e9,
                self.operations / 1e9,
                *batch_size as f64 / seconds
            ),
        );
        let products = profile.products.as_secs_f64() / threads as f64;
        let total = measured.iter().sum::<Duration>().as_secs_f64();
        if profile.operations > 0 {
            line(
                "matmul",
                format!(
                    "{:>9.1} ms of matrix multiplications; the step takes {:.2} times as long; {:.1} \
                     GFLOP/s within them",
                    1e3 * products / measured.len() as f64,
                    total / products,
                    profile.operations as f64 / products / 1e9
                ),
            );
        }
        if let Some(peak) = peak_memory() {
            line("memory", format!("{peak:>9.0} MiB peak"));
        }
        text.trim_end().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::values::MethodKind;
    use dinolab_nn::VitConfig;

    #[test]
    fn every_method_is_timed_by_the_optimiser_that_is_asked_for() {
        let kinds = [
            MethodKind::Dino,
            MethodKind::DinoV2,
            MethodKind::SimDino,
            MethodKind::LeJepa,
            MethodKind::VisReg,
            MethodKind::Distill,
        ];
        for method in kinds {
            let head = MethodOptions {
                method,
                out_dim: 16,
                head_hidden_dim: Some(16),
                head_bottleneck_dim: 8,
                proj_dim: 8,
                directions: 8,
                norm_last_layer: true,
            };
            let tensors = |optimizer| {
                let options = StepOptions {
                    backbone: BackboneConfig::Vit(VitConfig {
                        width: 16,
                        depth: 1,
                        heads: 2,
                        patch_size: 8,
                        image_size: 16,
                        ..VitConfig::default()
                    }),
                    feature: Feature::default(),
                    method: head.method(),
                    global_crops_size: 16,
                    local_crops_size: 8,
                    local_crops_number: 0,
                    batch_size: 4,
                    drop_path_rate: 0.0,
                    clip_grad: 3.0,
                    optimizer,
                    precision: Precision::default(),
                };
                let mut bench = StepBench::new(&options, &Device::default()).unwrap();
                bench.once().unwrap();
                bench.method.state().tensors.len()
            };
            // Of four matrices of a block, one tensor of state each, not two.
            let [adamw, muon] = [OptimiserKind::AdamW, OptimiserKind::Muon].map(tensors);
            assert_eq!(adamw - muon, 4, "{method:?}");
        }
    }
}
