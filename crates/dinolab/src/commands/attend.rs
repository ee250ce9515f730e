//! `dinolab attend`.

use anyhow::Result;
use dinolab_run::Environment;
use dinolab_run::attend::{AttendRequest, Maps, PictureKind, draw};
use dinolab_run::visual_input::ResizeTo;

use crate::args::{ModelArgs, VisualArgs, print_summary};
use crate::output::OutputArgs;

/// Draw class-token attention maps, or activation maps, of images and videos
///
/// Example: dinolab attend --weights runs/photos cat.jpg --out attention --threshold 0.6
///
/// For each head of each image, and for the mean over heads, writes a heat map, an overlay and
/// (with --threshold) a mask: the smallest set of patches that covers this fraction of the
/// attention. The values are written as NAME-attention.npy, [heads, rows, columns]. NAME is the
/// image's path without the extension, unless several images differ only in that.
///
/// For a video (GIF, Motion JPEG, other formats through ffmpeg, or a folder of images with
/// --video), the mean over heads is overlaid on each frame. The result is a folder of numbered
/// frames or an animation: dinolab attend --weights runs/photos clip.mp4 --out clip-attention.gif
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    media: VisualArgs,
    /// Resize images to a square of this side (videos: the shorter side to this), or to
    /// HEIGHTxWIDTH; 0 keeps their size [default: the run's, or 480]
    #[arg(long, value_name = "PX")]
    size: Option<ResizeTo>,
    /// Draw masks that cover this fraction of the attention, 0–1 [default: no masks]
    #[arg(long, value_name = "X")]
    threshold: Option<f64>,
    /// Draw all heads and their mean, the mean alone, head N, counted from 0, or of any network the
    /// share of each position in the image's feature (activation) [default: all; videos: mean;
    /// convolutional networks: activation]
    #[arg(long, value_name = "all|mean|N|activation")]
    maps: Option<Maps>,
    /// Kinds of pictures to draw, separated by commas [default: all; videos: mask with --threshold,
    /// else overlay]
    #[arg(long, value_name = "KIND,…", value_delimiter = ',', value_enum)]
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
    let (kind, result) = draw(env, &request)?;
    let drawn = format!("{} maps", kind.name());
    print_summary(&args.output, &drawn, result, &args.media);
    Ok(())
}
