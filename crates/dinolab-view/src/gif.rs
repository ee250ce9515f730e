//! Animated GIFs, written frame by frame.

use std::fs::File;
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};

use dinolab_files::PartFile;
use image::codecs::gif::{GifEncoder, Repeat};
use image::{Delay, Frame, ImageError, RgbaImage};

use crate::error::unwritten;
use crate::picture::Rgb;
use crate::{Error, Result};

/// Speed of the colour quantiser, from 1 (slow, best) to 30.
const SPEED: i32 = 10;

/// A looping GIF that is written frame by frame. Its file appears when it is finished.
pub struct GifWriter {
    path: PathBuf,
    /// `None` once the trailer is written.
    encoder: Option<GifEncoder<BufWriter<File>>>,
    // After the encoder, which writes to it when it is dropped.
    part: PartFile,
    frames: usize,
}

impl GifWriter {
    /// Starts a file and creates missing folders.
    ///
    /// # Errors
    /// [`Error::Write`] if the file cannot be created.
    pub fn create(path: &Path) -> Result<Self> {
        let (part, file) = PartFile::create(path).map_err(unwritten(path))?;
        let mut writer = Self {
            path: path.to_path_buf(),
            encoder: Some(GifEncoder::new_with_speed(BufWriter::new(file), SPEED)),
            part,
            frames: 0,
        };
        if let Some(encoder) = &mut writer.encoder {
            encoder.set_repeat(Repeat::Infinite)?;
        }
        Ok(writer)
    }

    /// Returns the number of frames added so far.
    pub fn frames(&self) -> usize {
        self.frames
    }

    /// Adds a frame that is shown for `seconds`, rounded to hundredths and at least 0.02, the
    /// shortest delay that viewers respect. The first frame sets the size of the animation.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a side of more than 65,535 pixels, [`Error::Write`] if the frame
    /// cannot be written.
    pub fn add(&mut self, picture: &Rgb, seconds: f64) -> Result<()> {
        let side = |n: usize| {
            u16::try_from(n)
                .map(u32::from)
                .map_err(|_| Error::invalid("GIF", format!("{n} pixels a side are too many")))
        };
        let (width, height) = (side(picture.width)?, side(picture.height)?);
        let data = picture
            .data
            .chunks_exact(3)
            .flat_map(|p| [p[0], p[1], p[2], 255])
            .collect();
        let image = RgbaImage::from_raw(width, height, data)
            .ok_or_else(|| Error::invalid("GIF", "a picture whose data does not fit its size"))?;
        let hundredths = (seconds * 100.0).round().clamp(2.0, 65_535.0) as u32;
        let delay = Delay::from_numer_denom_ms(hundredths * 10, 1);
        if let Some(encoder) = &mut self.encoder {
            let frame = Frame::from_parts(image, 0, 0, delay);
            encoder.encode_frame(frame).map_err(|error| match error {
                ImageError::IoError(source) => unwritten(&self.path)(source),
                error => error.into(),
            })?;
        }
        self.frames += 1;
        Ok(())
    }

    /// Completes the file and moves it to its name.
    ///
    /// # Errors
    /// [`Error::Invalid`] without frames, [`Error::Write`] if the file cannot be written.
    pub fn finish(mut self) -> Result<()> {
        if self.frames == 0 {
            return Err(Error::invalid("GIF", "has no frames"));
        }
        // The encoder writes the trailer when it is dropped and ignores errors, so check the file.
        drop(self.encoder.take());
        let written = (|| {
            let file = File::options().append(true).open(self.part.temporary())?;
            file.sync_all()?;
            check_end(self.part.temporary())?;
            self.part.keep()
        })();
        written.map_err(unwritten(&self.path))
    }
}

/// Fails unless the file ends with the trailer of a GIF.
fn check_end(path: &Path) -> io::Result<()> {
    use std::io::{Read, Seek, SeekFrom};
    let mut file = File::open(path)?;
    file.seek(SeekFrom::End(-1))?;
    let mut last = [0];
    file.read_exact(&mut last)?;
    match last {
        [0x3B] => Ok(()),
        _ => Err(io::Error::new(
            io::ErrorKind::WriteZero,
            "could not be written to its end",
        )),
    }
}

#[cfg(test)]
mod tests {
    use image::AnimationDecoder;
    use image::codecs::gif::GifDecoder;

    use super::*;

    #[test]
    fn frames_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/a.gif");
        let colours = [[255, 0, 0], [0, 0, 255]];
        let mut gif = GifWriter::create(&path).unwrap();
        for colour in colours {
            gif.add(&Rgb::filled(7, 5, colour), 0.25).unwrap();
        }
        assert!(!path.exists());
        assert_eq!(gif.frames(), 2);
        gif.finish().unwrap();
        let file = io::BufReader::new(File::open(&path).unwrap());
        let frames = GifDecoder::new(file).unwrap().into_frames();
        let frames = frames.collect_frames().unwrap();
        assert_eq!(frames.len(), 2);
        for (frame, colour) in frames.iter().zip(colours) {
            assert_eq!(frame.delay().numer_denom_ms(), (250, 1));
            let picture = frame.buffer();
            assert_eq!(picture.dimensions(), (7, 5));
            assert_eq!(picture.get_pixel(6, 4).0[..3], colour);
        }
    }

    #[test]
    fn nothing_is_left_of_an_unfinished_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.gif");
        let mut gif = GifWriter::create(&path).unwrap();
        gif.add(&Rgb::filled(2, 2, [0; 3]), 0.1).unwrap();
        drop(gif);
        assert!(GifWriter::create(&path).unwrap().finish().is_err());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
