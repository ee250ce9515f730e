//! `dinolab overfit`: the one-image self-test.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::Result;
use dinolab_run::mistakes::{EPOCHS, Lesson, Mistake};
use dinolab_run::overfit::{BATCH, CAUGHT_UP, OUT_DIM, Overfit, OverfitStep};

use crate::exit_code::ExitCode;

/// Train on a single image, to test that learning works at all
///
/// Example: dinolab overfit cat.jpg
///
/// A common self-test of DINO implementations. A tiny network is trained on a single image with
/// DINO, first without crops and then with them. The loss is the teacher's entropy plus KL(teacher
/// ‖ student); on one image the KL must vanish: within tens of steps without crops, within hundreds
/// with them. Ends with a verdict; the exit code is 0 only if all checks pass.
///
/// With --mistake, shows what a classic mistake does instead (docs/learn.md).
#[derive(clap::Args)]
pub struct Args {
    /// Image file [default: one of the built-in shapes]
    image: Option<PathBuf>,
    /// Number of steps without crops
    #[arg(long, value_name = "N", default_value_t = 100)]
    steps: u64,
    /// Number of steps with crops
    #[arg(long, value_name = "N", default_value_t = 600)]
    crop_steps: u64,
    /// Train with this mistake, beside the right step, on built-in images, and say what gives it away
    #[arg(long, value_name = "NAME", conflicts_with_all = ["image", "steps", "crop_steps", "device"])]
    mistake: Option<Mistake>,
    /// With --mistake: folder for the figures and curves of both runs
    #[arg(long, value_name = "DIR", requires = "mistake")]
    out: Option<PathBuf>,
    /// Random seed of initial weights and crops
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// cpu, or cuda:N, metal, vulkan:N, rocm:N if compiled in
    #[arg(long, default_value = "cpu")]
    device: String,
}

/// Runs the command.
pub fn run(args: &Args) -> Result<ExitCode> {
    if let Some(mistake) = args.mistake {
        let lesson = Lesson::train(mistake, args.seed, &mut |of, health| {
            let name = of.map_or("right", Mistake::name);
            errln!("{name}: epoch {} of {EPOCHS}", health.epoch + 1);
        })?;
        out!("{lesson}");
        args.out.iter().try_for_each(|out| lesson.write(out))?;
        return Ok(ExitCode::Success);
    }
    let test = Overfit::new(args.image.as_deref(), args.seed, &args.device)?;
    outln!(
        "one image ({}), a ViT of width 64 and depth 3, {OUT_DIM} prototypes, batch {BATCH}",
        test.name()
    );
    outln!(
        "loss = entropy of the teacher + KL(teacher‖student); ln {OUT_DIM} = {:.3}",
        (OUT_DIM as f64).ln()
    );
    let began = Instant::now();

    outln!("\n1. without crops: all views are the whole image");
    outln!(
        "   expected: the KL stays below {CAUGHT_UP} after at most 50 steps, and the entropy reaches ln {OUT_DIM}, \
         because with one image the centre removes all information"
    );
    header();
    let mut checks = test.without_crops(args.steps, &mut line)?;

    outln!("\n2. with crops: 2 × 64 px and 4 × 32 px, with colour augmentation");
    outln!(
        "   expected: the KL starts higher, because views differ, falls to a tenth of that after 20 to 100 \
         steps, and is near 0 after 200; runs with crops are often stopped too early"
    );
    header();
    checks.extend(test.with_crops(args.crop_steps, &mut line)?);

    outln!("\nverdict after {:.0} s", began.elapsed().as_secs_f64());
    for check in &checks {
        let verdict = if check.holds { "ok    " } else { "FAILED" };
        outln!("  {verdict}  {}", check.what);
    }
    Ok(match checks.iter().all(|check| check.holds) {
        true => {
            outln!("learning works");
            ExitCode::Success
        }
        false => {
            outln!("learning does not work: at least one check failed");
            ExitCode::Failure
        }
    })
}

fn header() {
    outln!(
        "   {:>5} {:>8} {:>8} {:>8}",
        "step",
        "loss",
        "entropy",
        "KL"
    );
}

fn line(at: OverfitStep) {
    let OverfitStep {
        step,
        loss,
        entropy,
    } = at;
    let kl = loss - entropy;
    outln!("   {step:>5} {loss:>8.4} {entropy:>8.4} {kl:>8.4}");
}
