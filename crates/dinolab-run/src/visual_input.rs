//! What pictures are made of: one image, many, or a video.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dinolab_data::source::SourceOptions;
use dinolab_data::video::{self, DEFAULT_RATE, Frame};
use dinolab_data::{Image, Pixels, Source, decode};

use crate::environment::Environment;
use crate::error::{Context, Error, Result};
use crate::event::{Event, Progress};
use crate::{result_names, sources};

/// What pictures are to be made of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct VisualOptions<'a> {
    /// One image or video, or a folder, list, archive or tree of images.
    pub input: &'a Path,
    /// Whether the images of a folder are the frames of one video, in the order of their names.
    pub video: bool,
    /// Frames per second of the results; by default the video's.
    pub fps: Option<f64>,
}

/// Images, or a video.
pub enum VisualInput {
    /// Pictures of their own.
    Stills(ImageSet),
    /// Pictures that follow each other.
    Video(VideoClip),
}

impl VisualOptions<'_> {
    /// Opens the input, of which images are decoded to `pixels`.
    ///
    /// # Errors
    /// An input that cannot be read; frames per second out of their range; a video for a network that
    /// takes other pixels.
    pub fn open(&self, env: &Environment<'_>, pixels: Pixels) -> Result<VisualInput> {
        let range = "must be above 0 and at most 1000";
        if let Some(fps) = self.fps.filter(|fps| !(*fps > 0.0 && *fps <= 1000.0)) {
            return Err(Error::setting("fps", fps, range));
        }
        let path = self.input;
        if video::is_video(path) {
            ensure!(
                pixels == Pixels::Rgb,
                "{}: a video is 8-bit RGB, the network takes {} channels as stored",
                path.display(),
                pixels.channels()
            );
            return Ok(VisualInput::Video(VideoClip {
                frames: Frames::File(path.into()),
                fps: self.fps,
            }));
        }
        if is_image(path, pixels)? {
            ensure_setting!(
                !self.video,
                "video",
                "",
                "{} is a single image",
                path.display()
            );
            return Ok(VisualInput::Stills(ImageSet::One(path.into(), pixels)));
        }
        let source = sources::open_as(env, path, SourceOptions::default().max_pixels, pixels)?;
        Ok(match self.video {
            true => VisualInput::Video(VideoClip {
                frames: Frames::Images(source),
                fps: self.fps,
            }),
            false => VisualInput::Stills(ImageSet::Many(source)),
        })
    }
}

impl VisualInput {
    /// Whether the results written to `out` are an animation.
    ///
    /// # Errors
    /// The name of an animation for pictures of their own.
    pub fn is_animation(&self, out: &Path) -> Result<bool> {
        let gif = out
            .extension()
            .is_some_and(|extension| extension.eq_ignore_ascii_case("gif"));
        ensure_setting!(
            !gif || matches!(self, Self::Video(_)),
            "out",
            out.display(),
            "an animation is made of a video; `video` takes the images of a folder for one"
        );
        Ok(gif)
    }
}

/// What was made of images or a video.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VisualResult {
    /// Whether frames were counted, and not images.
    pub frames: bool,
    /// How many there are pictures of.
    pub done: usize,
    /// How many could not be used.
    pub skipped: usize,
}

impl VisualResult {
    pub(crate) fn images(done: usize, skipped: usize) -> Self {
        Self {
            frames: false,
            done,
            skipped,
        }
    }

    pub(crate) fn frames(done: usize) -> Self {
        Self {
            frames: true,
            done,
            skipped: 0,
        }
    }
}

/// Tells that an image is left out.
pub(crate) fn not_shown(
    env: &Environment<'_>,
    images: &ImageSet,
    index: usize,
    error: &dinolab_features::Error,
) {
    let name = images.label(index);
    let name = name.as_str();
    env.events.hear(Event::NotShown { name, error });
}

/// The error of a frame; one of too many patches is told apart.
pub(crate) fn of_frame(error: dinolab_features::Error) -> Error {
    match error {
        dinolab_features::Error::Model(error @ dinolab_nn::Error::TooManyPatches { .. }) => {
            Error::FrameTooLarge(error)
        }
        error => error.into(),
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
pub enum ImageSet {
    /// A file, and what it is decoded to.
    One(PathBuf, Pixels),
    /// A folder, list, tar or tree.
    Many(Arc<dyn Source>),
}

impl ImageSet {
    /// Images, usable or not.
    pub fn len(&self) -> usize {
        match self {
            Self::One(..) => 1,
            Self::Many(source) => source.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
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
    ///
    /// # Errors
    /// One that cannot be read or decoded.
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
pub struct VideoClip {
    frames: Frames,
    fps: Option<f64>,
}

enum Frames {
    File(PathBuf),
    Images(Arc<dyn Source>),
}

type FrameStream<'a> = Box<dyn Iterator<Item = dinolab_data::Result<Frame>> + 'a>;

impl VideoClip {
    /// The frames from the beginning.
    ///
    /// # Errors
    /// A video that cannot be read.
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
    pub(crate) fn progress<'a>(&self, env: &Environment<'a>, passes: usize) -> Progress<'a> {
        let total = match &self.frames {
            Frames::File(_) => None,
            Frames::Images(source) => Some((passes * source.len()) as u64),
        };
        Progress::resumed(env.events, "frame", total, 0)
    }
}

/// What images are resized to first.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ResizeTo {
    /// Left as they are.
    Own,
    /// A given side, of a square or of the short side.
    Side(usize),
    /// Height and width.
    Exactly(usize, usize),
}

impl std::str::FromStr for ResizeTo {
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

impl From<dinolab_data::Size> for ResizeTo {
    fn from(size: dinolab_data::Size) -> Self {
        match size.is_square() {
            true => Self::Side(size.height),
            false => Self::Exactly(size.height, size.width),
        }
    }
}

impl ResizeTo {
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
        let size = |text: &str| text.parse::<ResizeTo>();
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
