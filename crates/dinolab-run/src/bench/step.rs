//! A training step on noise.

use std::fmt::Write;
use std::time::Duration;

use dinolab_kernels::profile::Profile;
use dinolab_nn::{Device, HeadConfig, Precision, VitConfig, check_patches};
use dinolab_train::{Dino, DinoConfig, OptimiserKind, Phases, StepValues, Views};

use super::{forward_operations, median, ms, noise, peak_memory};
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

/// A step's parts by name.
fn parts(phases: &Phases) -> [(&'static str, Duration); 5] {
    [
        ("teacher", phases.teacher),
        ("student", phases.student),
        ("loss", phases.loss),
        ("backward", phases.backward),
        ("update", phases.update),
    ]
}

/// The whole step of DINO, on views that are there already.
pub struct StepBench {
    options: StepOptions,
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
            options: options.clone(),
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

    /// The figures of the last steps, of which each took so long, and of the matrix products in them; as
    /// lines of text.
    pub fn figures(&self, measured: &[Duration], profile: &Profile) -> String {
        let StepOptions {
            vit,
            head,
            local_crops_size,
            local_crops_number,
            batch_size,
            ..
        } = &self.options;
        let (time, threads) = (median(measured), rayon::current_num_threads());
        let seconds = time.as_secs_f64();
        let mut text = format!(
            "batch {batch_size}, views 2 × {} px and {local_crops_number} × {local_crops_size} px, {} \
             prototypes, {threads} threads\n",
            vit.image_size, head.out_dim
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
        for (i, (name, _)) in parts(&Phases::default()).iter().enumerate() {
            let times: Vec<_> = last.iter().map(|phases| parts(phases)[i].1).collect();
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
                "products",
                format!(
                    "{:>9.1} ms of matrix products alone: the step takes {:.2} times that; {:.1} \
                     GFLOP/s within them",
                    1e3 * products / measured.len() as f64,
                    total / products,
                    profile.operations as f64 / products / 1e9
                ),
            );
        }
        if let Some(peak) = peak_memory() {
            line("memory", format!("{peak:>9.0} MiB at most"));
        }
        text.trim_end().to_owned()
    }
}
