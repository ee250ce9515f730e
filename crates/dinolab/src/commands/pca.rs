//! `dinolab pca`.

use anyhow::Result;
use dinolab_run::Environment;
use dinolab_run::pca::{PcaRequest, colour};
use dinolab_run::visual_input::ResizeTo;

use crate::args::{ModelArgs, VisualArgs, print_summary};
use crate::output::OutputArgs;

/// Draw the first three principal components of patch features as colours
///
/// Example: dinolab pca --weights runs/photos photos --out colours --joint
///
/// Patches with similar features get similar colours. Writes NAME-pca.png for each image (NAME as
/// for `attend`); for a video, numbered frames or an animation (--out FILE.gif).
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    media: VisualArgs,
    /// Resize the shorter side to this, or images to HEIGHTxWIDTH; 0 keeps their size [default: the
    /// run's, or 480]
    #[arg(long, value_name = "PX")]
    size: Option<ResizeTo>,
    /// Use the same components for all images, so that their colours are comparable (always on for
    /// videos)
    #[arg(long)]
    joint: bool,
    /// Segment the foreground with the first component, colour it by its own components, and leave
    /// the rest black
    #[arg(long)]
    foreground: bool,
    /// Show each image next to its colours
    #[arg(long, alias = "beside")]
    side_by_side: bool,
    /// Draw patches as squares instead of interpolating colours
    #[arg(long, alias = "squares")]
    no_interpolation: bool,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    model: ModelArgs,
}

/// Runs the command.
pub fn run(env: &Environment<'_>, args: &Args) -> Result<()> {
    let request = PcaRequest {
        input: args.media.options(),
        out: &args.media.out,
        size: args.size,
        joint: args.joint,
        foreground: args.foreground,
        side_by_side: args.side_by_side,
        interpolate: !args.no_interpolation,
        weights: args.model.weights(),
        model: args.model.options(),
    };
    let result = colour(env, &request)?;
    print_summary(&args.output, "patch colours", result, &args.media);
    Ok(())
}
