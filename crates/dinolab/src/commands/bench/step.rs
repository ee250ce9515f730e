//! `dinolab bench step`.

use std::time::Duration;

use anyhow::{Context, Result};
use dinolab_nn::{HeadConfig, check_patches};
use dinolab_train::{Dino, DinoConfig, OptimiserKind, Phases, StepValues, Views};

use super::{Common, forward_operations, mean_ms, median, ms, noise, peak_memory};

/// Times one training step on noise
///
/// Example: dinolab bench step --arch vit_small --batch-size 8 --out-dim 4096
///
/// The whole step of DINO: teacher, student, loss, way back, clipping, AdamW, teacher update.
/// Reading and cropping images is not in it.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    common: Common,
    /// Side of the global crops
    #[arg(long, default_value_t = 224)]
    global_crops_size: usize,
    /// Side of the local crops
    #[arg(long, default_value_t = 96)]
    local_crops_size: usize,
    /// Number of local crops
    #[arg(long, default_value_t = 8)]
    local_crops_number: usize,
    /// Images per step
    #[arg(long, default_value_t = 8)]
    batch_size: usize,
    /// Number of prototypes K
    #[arg(long, default_value_t = 4096)]
    out_dim: usize,
    /// Width of the head's hidden layers
    #[arg(long, default_value_t = 2048)]
    head_hidden_dim: usize,
    /// Width of the head's bottleneck
    #[arg(long, default_value_t = 256)]
    head_bottleneck_dim: usize,
    /// Stochastic depth of the student
    #[arg(long, default_value_t = 0.1)]
    drop_path_rate: f64,
    /// Largest norm of each tensor's gradient; 0 for no limit
    #[arg(long, default_value_t = 3.0)]
    clip_grad: f64,
    /// Keep prototypes at unit length
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set)]
    norm_last_layer: bool,
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

/// Runs the verb.
pub fn run(args: &Args) -> Result<()> {
    let device = args.common.device()?;
    let vit = args.common.vit(args.global_crops_size)?;
    let local = args.local_crops_size;
    check_patches(local, local, vit.patch_size).context("--local-crops-size")?;
    let head = HeadConfig {
        out_dim: args.out_dim,
        hidden_dim: args.head_hidden_dim,
        bottleneck_dim: args.head_bottleneck_dim,
        layers: 3,
        use_bn: false,
        norm_last_layer: args.norm_last_layer,
    };
    let config = DinoConfig {
        vit: vit.clone(),
        head: head.clone(),
        optimizer: OptimiserKind::AdamW,
        clip_grad: args.clip_grad,
        freeze_last_layer: 0,
        student_temp: 0.1,
        center_momentum: 0.9,
        drop_path: args.drop_path_rate,
        seed: 0,
        precision: args.common.precision,
    };
    let mut dino = Dino::new(&config, &device)?;
    let (batch, locals) = (args.batch_size, args.local_crops_number);
    let views = [Views {
        batch,
        global: noise(2 * batch, args.global_crops_size, dino.device()),
        local: (locals > 0).then(|| noise(locals * batch, args.local_crops_size, dino.device())),
    }];
    let mut step = 0;
    let mut phases = Vec::new();
    // The teacher is one forward pass, the student three times one.
    let global = 2.0 * forward_operations(&vit, args.global_crops_size);
    let local = locals as f64 * forward_operations(&vit, args.local_crops_size);
    let (d, h, b, k) = (
        vit.width as f64,
        head.hidden_dim as f64,
        head.bottleneck_dim as f64,
        head.out_dim as f64,
    );
    let head_row = 2.0 * (d * h + h * h + h * b + b * k);
    let rows = 2.0 + 3.0 * (2.0 + locals as f64);
    let nominal = batch as f64 * (4.0 * global + 3.0 * local + rows * head_row);

    dinolab_kernels::profile::start();
    let once = || {
        let now = StepValues {
            step,
            epoch: 1,
            lr: 1e-4,
            weight_decay: 0.04,
            momentum: 0.996,
            teacher_temp: 0.04,
        };
        step += 1;
        let report = dino.step(&views, &now)?;
        phases.push(report.phases);
        if phases.len() <= args.common.warmup {
            // What is measured starts after the warm-up.
            dinolab_kernels::profile::start();
        }
        Ok(())
    };
    let mut measured = Vec::new();
    let (common, json) = (&args.common, args.common.json || args.common.serve);
    common.run(once, |durations| {
        measured = durations.to_vec();
        if json {
            let line = serde_json::json!({
                "ms": mean_ms(durations),
                "gflop_per_s": nominal / median(durations).as_secs_f64() / 1e9,
                "peak_rss_mb": peak_memory(),
            });
            outln!("{line}");
        }
        Ok(())
    })?;
    if json {
        return Ok(());
    }
    let profile = dinolab_kernels::profile::stop();
    let time = median(&measured);
    let threads = rayon::current_num_threads();
    outln!(
        "{} patch {}, batch {batch}, views 2 × {} px and {locals} × {} px, {} prototypes, \
         {threads} threads",
        common.arch,
        common.patch_size,
        args.global_crops_size,
        args.local_crops_size,
        args.out_dim
    );
    let slowest = measured.iter().max().copied().unwrap_or_default();
    let fastest = measured.iter().min().copied().unwrap_or_default();
    outln!(
        "{:<10} {:>9.1} ms   (median of {}; {:.1} to {:.1})",
        "step",
        ms(time),
        measured.len(),
        ms(fastest),
        ms(slowest)
    );
    let phases = &phases[common.warmup..];
    for (i, (name, _)) in parts(&Phases::default()).iter().enumerate() {
        let times: Vec<_> = phases.iter().map(|phases| parts(phases)[i].1).collect();
        outln!("  {name:<8} {:>9.1} ms", ms(median(&times)));
    }
    outln!(
        "{:<10} {:>9.1} GFLOP/s of {:.0} nominal GFLOP; {:.2} images/s",
        "speed",
        nominal / time.as_secs_f64() / 1e9,
        nominal / 1e9,
        batch as f64 / time.as_secs_f64()
    );
    let products = profile.products.as_secs_f64() / threads as f64;
    let total = measured.iter().sum::<Duration>().as_secs_f64();
    if profile.operations > 0 {
        outln!(
            "{:<10} {:>9.1} ms of matrix products alone: the step takes {:.2} times that; {:.1} GFLOP/s \
             within them",
            "products",
            1e3 * products / measured.len() as f64,
            total / products,
            profile.operations as f64 / products / 1e9
        );
    }
    if let Some(peak) = peak_memory() {
        outln!("{:<10} {peak:>9.0} MiB at most", "memory");
    }
    Ok(())
}
