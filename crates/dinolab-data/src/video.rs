//! Videos as a stream of frames, of which only one is in memory at a time.
//!
//! | file | read by |
//! |---|---|
//! | animated GIF | this program |
//! | Motion JPEG: JPEG files one after the other (`.mjpeg`, `.mjpg`), or in an AVI file | this program |
//! | anything else (`.mp4`, `.mov`, `.webm`, …) | the program `ffmpeg`, where it is installed |

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use crate::{Error, Image, Result};

mod avi;
mod ffmpeg;
mod gif;
mod mjpeg;

/// Frames per second, if the file does not specify them.
pub const DEFAULT_RATE: f64 = 25.0;

/// A picture of a video.
#[derive(Clone, Debug, PartialEq)]
pub struct Frame {
    /// The picture, 8-bit RGB.
    pub image: Image,
    /// How long it is shown, in seconds.
    pub seconds: f64,
}

/// Iterates over frames, read on demand. Ends after an error.
pub struct Video {
    frames: Box<dyn Iterator<Item = Result<Frame>>>,
    failed: bool,
}

impl Video {
    fn new(frames: impl Iterator<Item = Result<Frame>> + 'static) -> Self {
        Self {
            frames: Box::new(frames),
            failed: false,
        }
    }
}

impl Iterator for Video {
    type Item = Result<Frame>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let frame = self.frames.next();
        self.failed = matches!(frame, Some(Err(_)));
        frame
    }
}

/// Extensions of files that are videos.
const EXTENSIONS: &[&str] = &[
    "gif", "mjpeg", "mjpg", "avi", "mp4", "m4v", "mov", "mkv", "webm", "mpg", "mpeg", "mts",
    "m2ts", "wmv", "flv", "ogv", "3gp", "y4m",
];

/// Whether a file is a video, by its name or its first bytes.
pub fn is_video(path: &Path) -> bool {
    path.is_file()
        && (EXTENSIONS.contains(&extension(path).as_str())
            || head(path).is_ok_and(|head| kind(path, &head) != Kind::Other))
}

/// Opens a video. Frames with more than `max_pixels` pixels are refused before they are
/// decoded.
///
/// # Errors
/// A file that cannot be read; one that needs `ffmpeg` where that is not installed. Errors of
/// single frames come from the stream.
pub fn open(path: &Path, max_pixels: u64) -> Result<Video> {
    let name = path.display().to_string();
    let file = || File::open(path).map(BufReader::new).map_err(io(path));
    match kind(path, &head(path)?) {
        Kind::Gif => gif::open(name, file()?, max_pixels),
        Kind::MotionJpeg => Ok(mjpeg::open(name, file()?, max_pixels)),
        Kind::Avi => match avi::open(name, file()?, max_pixels)? {
            Some(video) => Ok(video),
            None => ffmpeg::open(path, max_pixels),
        },
        Kind::Other => ffmpeg::open(path, max_pixels),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Gif,
    MotionJpeg,
    Avi,
    Other,
}

fn kind(path: &Path, head: &[u8]) -> Kind {
    let named = |names: &[&str]| names.contains(&extension(path).as_str());
    if head.starts_with(b"GIF8") || named(&["gif"]) {
        Kind::Gif
    } else if head.starts_with(b"RIFF") && head.get(8..12) == Some(b"AVI ") {
        Kind::Avi
    } else if named(&["mjpeg", "mjpg"]) {
        Kind::MotionJpeg
    } else {
        Kind::Other
    }
}

fn extension(path: &Path) -> String {
    path.extension()
        .map(|e| e.to_string_lossy().to_ascii_lowercase())
        .unwrap_or_default()
}

/// The first bytes of a file, 12 where it has them.
fn head(path: &Path) -> Result<Vec<u8>> {
    let mut head = Vec::new();
    File::open(path)
        .and_then(|file| file.take(12).read_to_end(&mut head))
        .map_err(io(path))?;
    Ok(head)
}

fn io(path: &Path) -> impl Fn(std::io::Error) -> Error + '_ {
    |source| Error::Io {
        path: path.to_path_buf(),
        source,
    }
}

/// An error of frame number `frame`, counted from 0.
fn bad_frame(name: &str, frame: usize, reason: impl std::fmt::Display) -> Error {
    Error::BadImage {
        name: format!("{name}, frame {frame}"),
        reason: reason.to_string(),
    }
}
