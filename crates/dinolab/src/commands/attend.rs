//! `dinolab attend`.

use anyhow::Result;
use dinolab_run::Environment;
use dinolab_run::attend::{AttendRequest, Maps, PictureKind, draw};
use dinolab_run::visual_input::ResizeTo;

use crate::args::{ModelArgs, VisualArgs, print_summary};
use crate::output::OutputArgs;

/// Draw class-token attention maps of images and videos
///
/// Example: dinolab attend --weights runs/photos cat.jpg --out attention --threshold 0.6
///
/// Writes, per image and head, a heat map, an overlay and (with --threshold) the smallest set
/// of patches that holds that fraction of the attention; the mean over heads likewise; and the
/// numbers, as NAME-attention.npy [heads, rows, columns]. NAME is the image's path without its
/// extension, with it (cat.jpg) if several images have the same.
///
/// Of a video (GIF, Motion JPEG, others through ffmpeg, or a folder's images with --video) the
/// mean over heads is laid over each frame, as a folder of numbered frames or as an animation:
/// dinolab attend --weights runs/photos clip.mp4 --out clip-attention.gif
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    media: VisualArgs,
    /// Resize images to SIDE (of videos the shorter side) or HEIGHTxWIDTH; 0 keeps their size
    /// [default: the run's, or 480]
    #[arg(long, value_name = "PX")]
    size: Option<ResizeTo>,
    /// Fraction of the attention that masks hold, 0–1; no masks without it
    #[arg(long, value_name = "X")]
    threshold: Option<f64>,
    /// Draw all heads and their mean, the mean alone, or one head by its number [default: all; of videos
    /// mean]
    #[arg(long, value_name = "all|mean|N")]
    maps: Option<Maps>,
    /// Kinds of pictures [default: all; of videos the mask, or else the overlay]
    #[arg(long, value_delimiter = ',', value_enum)]
    show: Vec<PictureKind>,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    model: ModelArgs,
}

/// Runs the command.
pub fn run(env: &Environment<'_>, args: &Args) -> Result<()> {
    let request = AttendRequest {
        input: args.media.options(),
        out: &args.media.out,
        size: args.size,
        threshold: args.threshold,
        maps: args.maps,
        show: &args.show,
        weights: args.model.weights(),
        model: args.model.options(),
    };
    let result = draw(env, &request)?;
    print_summary(&args.output, "attention", result, &args.media);
    Ok(())
}
