//! All other videos, decoded by the program `ffmpeg` to a pipe of raw frames.

use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread::JoinHandle;

use super::{DEFAULT_RATE, Frame, Video, bad_frame};
use crate::{Error, Image, Result};

const PROGRAM: &str = "ffmpeg";

pub(super) fn open(path: &Path, max_pixels: u64) -> Result<Video> {
    let name = path.display().to_string();
    let failed = |error: io::Error| {
        let reason = match error.kind() {
            io::ErrorKind::NotFound => format!(
                "reading this video takes the program {PROGRAM}, which is not on the PATH; \
                 install it, or convert the video to an animated GIF, Motion JPEG (.mjpeg) or a \
                 folder of images"
            ),
            _ => format!("cannot start {PROGRAM}: {error}"),
        };
        Error::BadSource {
            path: path.to_path_buf(),
            reason,
        }
    };
    // The prefix keeps a name with a colon from being taken for a protocol.
    let mut input = OsString::from("file:");
    input.push(path);
    let seconds = 1.0 / frame_rate(&input).map_err(failed)?;
    let mut child = Command::new(PROGRAM)
        .args(["-nostdin", "-v", "error", "-i"])
        .arg(&input)
        .args(["-map", "0:v:0", "-c:v", "ppm", "-f", "image2pipe", "-"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let pictures = BufReader::new(child.stdout.take().expect("piped"));
    let stderr = child.stderr.take().expect("piped");
    // Read all the while, so that a talkative ffmpeg does not wait for a reader.
    let complaints = std::thread::spawn(move || last_line(BufReader::new(stderr)));
    let mut process = Process {
        child,
        complaints: Some(complaints),
    };
    let mut pictures = Some(pictures);
    let mut number = 0;
    let frames = std::iter::from_fn(move || {
        let frame = match read_ppm(pictures.as_mut()?, max_pixels) {
            Ok(Some(image)) => Ok(Frame { image, seconds }),
            Ok(None) => {
                pictures = None;
                match process.finish() {
                    Ok(()) if number > 0 => return None,
                    Ok(()) => Err(bad_frame(&name, number, "it contains no image")),
                    Err(reason) => Err(bad_frame(&name, number, reason)),
                }
            }
            // What ffmpeg has to say about its end tells more than that the pipe broke.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                let reason = process.finish().err().unwrap_or_else(|| error.to_string());
                Err(bad_frame(&name, number, reason))
            }
            Err(error) => Err(bad_frame(&name, number, error)),
        };
        number += 1;
        Some(frame)
    });
    Ok(Video::new(frames))
}

/// The running program; it ends with this.
struct Process {
    child: Child,
    complaints: Option<JoinHandle<String>>,
}

impl Process {
    /// Waits for the end; errs with the last complaint where that was no success.
    fn finish(&mut self) -> Result<(), String> {
        let status = self.child.wait().map_err(|e| e.to_string())?;
        let complaint = self
            .complaints
            .take()
            .and_then(|thread| thread.join().ok())
            .unwrap_or_default();
        match status.success() {
            true => Ok(()),
            false if complaint.is_empty() => Err(format!("{PROGRAM} failed: {status}")),
            false => Err(format!("{PROGRAM}: {complaint}")),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Of no effect where it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn last_line(text: impl BufRead) -> String {
    let mut last = String::new();
    for line in text.split(b'\n').map_while(io::Result::ok) {
        let line = String::from_utf8_lossy(&line).trim().to_owned();
        if !line.is_empty() {
            last = line;
        }
    }
    last
}

/// Frames per second, from ffmpeg's description of the file.
fn frame_rate(input: &OsString) -> io::Result<f64> {
    // Without an output it describes the input, and fails.
    let described = Command::new(PROGRAM)
        .args(["-nostdin", "-hide_banner", "-i"])
        .arg(input)
        .stdin(Stdio::null())
        .output()?;
    let text = String::from_utf8_lossy(&described.stderr);
    Ok(rate_in(&text).unwrap_or(DEFAULT_RATE))
}

/// The number before `fps` in the line of the first video stream.
fn rate_in(text: &str) -> Option<f64> {
    let line = text.lines().find(|line| line.contains("Video:"))?;
    let (before, _) = line.split_once(" fps")?;
    let rate: f64 = before.rsplit([' ', ',']).next()?.parse().ok()?;
    (rate > 0.0 && rate.is_finite()).then_some(rate)
}

/// The next binary PPM of the pipe; `None` at its end.
fn read_ppm(pictures: &mut BufReader<ChildStdout>, max_pixels: u64) -> io::Result<Option<Image>> {
    if pictures.fill_buf()?.is_empty() {
        return Ok(None);
    }
    let wrong = || io::Error::other(format!("{PROGRAM} wrote something else than pictures"));
    let mut field = || -> io::Result<String> {
        let mut text = String::new();
        for byte in pictures.by_ref().bytes() {
            match byte? {
                space if space.is_ascii_whitespace() => return Ok(text),
                _ if text.len() > 20 => return Err(wrong()),
                letter => text.push(letter.into()),
            }
        }
        Err(io::ErrorKind::UnexpectedEof.into())
    };
    let header = [field()?, field()?, field()?, field()?];
    let number = |text: &str| text.parse::<usize>().map_err(|_| wrong());
    let (width, height) = (number(&header[1])?, number(&header[2])?);
    if header[0] != "P6" || header[3] != "255" {
        return Err(wrong());
    }
    let pixels = width as u64 * height as u64;
    if pixels == 0 || pixels > max_pixels {
        return Err(io::Error::other(format!(
            "{width}×{height} pixels; there must be 1 to {max_pixels}"
        )));
    }
    let mut image = Image::new(width, height, 3);
    pictures.read_exact(&mut image.data)?;
    Ok(Some(image))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_as_ffmpeg_writes_them() {
        let line = "  Stream #0:0[0x1](und): Video: h264 (High), yuv420p, 640x360 [SAR 1:1], \
                    612 kb/s, 29.97 fps, 29.97 tbr, 30k tbn (default)";
        assert_eq!(rate_in(&format!("Input #0\n{line}\n")), Some(29.97));
        assert_eq!(rate_in("Stream #0:0: Video: mjpeg, 25 fps"), Some(25.0));
        assert_eq!(rate_in("Stream #0:0: Audio: 25 fps"), None);
        assert_eq!(rate_in("Stream #0:0: Video: h264, 25 tbr"), None);
    }
}
