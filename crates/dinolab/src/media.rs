//! What pictures are made of: one image, many, or a video.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use dinolab_data::source::SourceOptions;
use dinolab_data::video::{self, DEFAULT_RATE, Frame};
use dinolab_data::{Image, Pixels, Source, decode};

use crate::progress::Progress;
use crate::{result_names, sources};

/// Flags of verbs that take images or a video.
#[derive(clap::Args)]
pub struct MediaArgs {
    /// One image or video, or a folder, list, tar or VOC tree of images
    #[arg(value_name = "IMAGE|VIDEO|FOLDER")]
    input: PathBuf,
    /// Folder to write to, or for a video also an animation, FILE.gif
    #[arg(long)]
    pub out: PathBuf,
    /// Take the images of a folder for the frames of one video, in the order of their names
    #[arg(long)]
    video: bool,
    /// Frames per second of the animation [default: the video's; 25 where it
    /// does not say, and for images]
    #[arg(long)]
    fps: Option<f64>,
}

/// Images, or a video.
pub enum Media {
    /// Pictures of their own.
    Stills(Stills),
    /// Pictures that follow each other.
    Video(Clip),
}

impl MediaArgs {
    /// Opens the input.
    pub fn open(&self, pixels: Pixels) -> Result<Media> {
        if let Some(fps) = self.fps.filter(|fps| !(*fps > 0.0 && *fps <= 1000.0)) {
            bail_usage!("--fps {fps}: must be above 0 and at most 1000");
        }
        let path = &self.input;
        if video::is_video(path) {
            ensure!(
                pixels == Pixels::Rgb,
                "{}: a video is 8-bit RGB, the network takes {} channels as stored",
                path.display(),
                pixels.channels()
            );
            return Ok(Media::Video(Clip {
                frames: Frames::File(path.clone()),
                fps: self.fps,
            }));
        }
        if is_image(path, pixels)? {
            ensure_usage!(!self.video, "--video: {} is a single image", path.display());
            return Ok(Media::Stills(Stills::One(path.clone(), pixels)));
        }
        let source = sources::open_as(path, SourceOptions::default().max_pixels, pixels)?;
        Ok(match self.video {
            true => Media::Video(Clip {
                frames: Frames::Images(source),
                fps: self.fps,
            }),
            false => Media::Stills(Stills::Many(source)),
        })
    }

    /// Whether an animation is wanted; an error where the input is none.
    pub fn animation(&self, media: &Media) -> Result<bool> {
        let gif = self
            .out
            .extension()
            .is_some_and(|extension| extension.eq_ignore_ascii_case("gif"));
        if gif && matches!(media, Media::Stills(_)) {
            bail_usage!(
                "--out {}: an animation is made of a video; --video takes the images of a folder \
                 for one",
                self.out.display()
            );
        }
        Ok(gif)
    }
}

/// A single file that is an image; lists and tars are sources.
fn is_image(path: &Path, pixels: Pixels) -> Result<bool> {
    if !path.is_file() {
        return Ok(false);
    }
    let mut head = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(64).read_to_end(&mut head))
        .with_context(|| format!("cannot read {}", path.display()))?;
    let array = pixels != Pixels::Rgb && decode::is_array(&head);
    Ok(array || decode::sniff(&head).is_some())
}

/// One image, or a source.
pub enum Stills {
    /// A file, and what it is decoded to.
    One(PathBuf, Pixels),
    /// A folder, list, tar or tree.
    Many(Arc<dyn Source>),
}

impl Stills {
    /// Images, usable or not.
    pub fn len(&self) -> usize {
        match self {
            Self::One(..) => 1,
            Self::Many(source) => source.len(),
        }
    }

    /// What an image is called in messages.
    pub fn label(&self, index: usize) -> String {
        match self {
            Self::One(path, _) => path.display().to_string(),
            Self::Many(source) => source.name(index),
        }
    }

    /// For each image a name that its results begin with.
    pub fn result_names(&self) -> Vec<String> {
        let names = match self {
            Self::One(path, _) => {
                let name = path.file_name().unwrap_or_default();
                vec![name.to_string_lossy().into_owned()]
            }
            Self::Many(source) => (0..source.len()).map(|index| source.name(index)).collect(),
        };
        result_names::flat(&names)
    }

    /// An image.
    pub fn image(&self, index: usize) -> dinolab_data::Result<Image> {
        match self {
            Self::One(path, pixels) => {
                let bytes = dinolab_data::file::read(path)?;
                let max_pixels = SourceOptions::default().max_pixels;
                decode::decode_to(*pixels, &path.to_string_lossy(), &bytes, max_pixels)
            }
            Self::Many(source) => source.image(index),
        }
    }
}

/// A video that can be read several times.
pub struct Clip {
    frames: Frames,
    fps: Option<f64>,
}

enum Frames {
    File(PathBuf),
    Images(Arc<dyn Source>),
}

type FrameStream<'a> = Box<dyn Iterator<Item = dinolab_data::Result<Frame>> + 'a>;

impl Clip {
    /// The frames from the beginning.
    pub fn frames(&self) -> dinolab_data::Result<FrameStream<'_>> {
        let frames: FrameStream<'_> = match &self.frames {
            Frames::File(path) => Box::new(video::open(path, SourceOptions::default().max_pixels)?),
            Frames::Images(source) => Box::new((0..source.len()).map(|index| {
                Ok(Frame {
                    image: source.image(index)?,
                    seconds: 1.0 / DEFAULT_RATE,
                })
            })),
        };
        Ok(match self.fps {
            None => frames,
            Some(fps) => Box::new(frames.map(move |frame| {
                Ok(Frame {
                    seconds: 1.0 / fps,
                    ..frame?
                })
            })),
        })
    }

    /// Progress over `passes` times the frames.
    pub fn progress(&self, passes: usize) -> Progress {
        match &self.frames {
            Frames::File(_) => Progress::open_ended("frame"),
            Frames::Images(source) => Progress::new("frame", (passes * source.len()) as u64, 0),
        }
    }
}

/// Says of how many `what` (images or frames) `made` was written to `out`, and how many were skipped.
pub fn tell(json: bool, made: &str, (what, done, skipped): (&str, usize, usize), out: &Path) {
    if json {
        let counts = serde_json::json!({ what: done, "skipped": skipped, "out": out });
        outln!("{counts}");
    } else {
        outln!(
            "{made} of {done} {what} in {}; {skipped} skipped",
            out.display()
        );
    }
}

/// Says why an image is left out, and what helps where `--size` does.
pub fn reason(error: &dinolab_eval::Error, name: &str) -> String {
    match error {
        dinolab_eval::Error::Data(error) => format!("skipped {error}"),
        dinolab_eval::Error::Model(dinolab_nn::Error::TooManyPatches { .. }) => {
            format!("skipped {name}: {error}; {TOO_LARGE}")
        }
        dinolab_eval::Error::Invalid { reason, .. } => format!("skipped {name}: {reason}"),
        _ => format!("skipped {name}: {error}"),
    }
}

/// An error of a frame, with what helps where `--size` does.
pub fn advised(error: dinolab_eval::Error) -> anyhow::Error {
    match error {
        dinolab_eval::Error::Model(dinolab_nn::Error::TooManyPatches { .. }) => {
            anyhow::anyhow!("{error}; {TOO_LARGE}")
        }
        error => error.into(),
    }
}

/// What to do about an image of too many patches.
pub const TOO_LARGE: &str =
    "--size HEIGHTxWIDTH, such as --size 480x480, resizes without keeping the aspect ratio";

/// `--size`: what images are brought to first.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Size {
    /// Left as they are.
    Own,
    /// A given side, of a square or of the short side.
    Side(usize),
    /// Height and width.
    Exactly(usize, usize),
}

impl std::str::FromStr for Size {
    type Err = String;
    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let number = |part: &str| {
            part.parse::<usize>()
                .map_err(|_| "SIDE, HEIGHTxWIDTH or 0".to_owned())
        };
        match text.split_once('x') {
            Some((height, width)) => match (number(height)?, number(width)?) {
                (0, _) | (_, 0) => Err("HEIGHTxWIDTH must be above 0".into()),
                (height, width) => Ok(Self::Exactly(height, width)),
            },
            None => Ok(match number(text)? {
                0 => Self::Own,
                side => Self::Side(side),
            }),
        }
    }
}

impl From<dinolab_data::Size> for Size {
    fn from(size: dinolab_data::Size) -> Self {
        match size.is_square() {
            true => Self::Side(size.height),
            false => Self::Exactly(size.height, size.width),
        }
    }
}

impl Size {
    /// Height and width, a side being that of a square; `None` for the image's own.
    pub fn square(self) -> Option<(usize, usize)> {
        match self {
            Self::Own => None,
            Self::Side(side) => Some((side, side)),
            Self::Exactly(height, width) => Some((height, width)),
        }
    }

    /// Height and width for `image`, a side being its shorter one.
    pub fn keeping_aspect(self, image: &Image) -> Option<(usize, usize)> {
        match self {
            Self::Side(side) => {
                let short = image.height.min(image.width).max(1);
                let scaled = |length: usize| (length * side + short / 2) / short;
                Some((scaled(image.height), scaled(image.width)))
            }
            other => other.square(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        let image = Image::new(854, 480, 3);
        let size = |text: &str| text.parse::<Size>();
        assert_eq!(size("0").unwrap().keeping_aspect(&image), None);
        assert_eq!(size("240").unwrap().square(), Some((240, 240)));
        assert_eq!(
            size("240").unwrap().keeping_aspect(&image),
            Some((240, 427))
        );
        assert_eq!(
            size("48x64").unwrap().keeping_aspect(&image),
            Some((48, 64))
        );
        for wrong in ["", "x", "4x", "0x4", "-1", "4x4x4"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }
}
