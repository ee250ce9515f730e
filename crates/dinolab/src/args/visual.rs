//! Images or a video, and the pictures that are made of them.

use std::path::PathBuf;

use dinolab_run::visual_input::{VisualOptions, VisualResult};

use crate::output::OutputArgs;

/// Flags of commands that take images or a video.
#[derive(clap::Args)]
pub struct VisualArgs {
    /// An image, a video, or a folder, list, tar file, Parquet file or VOC tree of images
    #[arg(value_name = "IMAGE|VIDEO|FOLDER")]
    input: PathBuf,
    /// Output folder; for a video also FILE.gif, an animation
    #[arg(long, value_name = "PATH")]
    pub out: PathBuf,
    /// Treat the images of a folder as the frames of one video, in the order of their names
    #[arg(long)]
    video: bool,
    /// Frames per second of the animation [default: the video's; 25 for images and if unknown]
    #[arg(long, value_name = "N")]
    fps: Option<f64>,
}

impl VisualArgs {
    /// In the library's words.
    pub fn options(&self) -> VisualOptions<'_> {
        VisualOptions {
            input: &self.input,
            video: self.video,
            fps: self.fps,
        }
    }
}

/// Prints of how many images or frames `made` was written, and how many were skipped.
pub fn print_summary(output: &OutputArgs, made: &str, result: VisualResult, args: &VisualArgs) {
    let what = if result.frames { "frames" } else { "images" };
    let unit = if result.done == 1 {
        &what[..what.len() - 1]
    } else {
        what
    };
    let (done, skipped, out) = (result.done, result.skipped, &args.out);
    if output.json {
        let counts = serde_json::json!({ what: done, "skipped": skipped, "out": out });
        outln!("{counts}");
    } else {
        let out = out.display();
        outln!("{made} of {done} {unit} in {out}; {skipped} skipped");
    }
}
