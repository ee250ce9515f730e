//! Motion JPEG in an AVI file.
//!
//! The file is a tree of chunks (four letters, a length, the content, padded to even lengths).
//! Lists are entered and all else is skipped, so that one walk meets the headers of the
//! streams and then the frames, in files with an index or without and in the long form of
//! several `RIFF` chunks.

use std::io::{self, BufRead, Read, Seek};

use super::{DEFAULT_RATE, Frame, Video, bad_frame};
use crate::decode::decode;
use crate::{Error, Result};

/// Bytes that a chunk may have at most to be read.
const MAX_BYTES: u32 = 1 << 28;

/// A chunk other than a list.
struct Chunk {
    id: [u8; 4],
    length: u32,
}

/// The next chunk's header, lists entered; `None` at the end of the file.
fn next_chunk(file: &mut impl BufRead) -> io::Result<Option<Chunk>> {
    loop {
        if file.fill_buf()?.is_empty() {
            return Ok(None);
        }
        let mut head = [0; 8];
        file.read_exact(&mut head)?;
        let (id, length) = head.split_at(4);
        let id: [u8; 4] = id.try_into().expect("four of eight bytes");
        let length = u32::from_le_bytes(length.try_into().expect("four of eight bytes"));
        if &id == b"RIFF" || &id == b"LIST" {
            let mut kind = [0; 4];
            file.read_exact(&mut kind)?;
        } else {
            return Ok(Some(Chunk { id, length }));
        }
    }
}

impl Chunk {
    fn read(&self, file: &mut impl Read) -> io::Result<Vec<u8>> {
        if self.length > MAX_BYTES {
            return Err(io::Error::other("a chunk is too large"));
        }
        let mut content = Vec::new();
        let padded = u64::from(self.length) + u64::from(self.length % 2);
        file.take(padded).read_to_end(&mut content)?;
        if content.len() < self.length as usize {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "truncated AVI",
            ));
        }
        content.truncate(self.length as usize);
        Ok(content)
    }

    fn skip(&self, file: &mut impl Seek) -> io::Result<()> {
        file.seek_relative(i64::from(self.length) + i64::from(self.length % 2))
    }
}

/// The picture stream.
struct Stream {
    /// Letters that its chunks begin with: `00`, `01`, …
    prefix: [u8; 2],
    seconds: f64,
}

/// `None` where the pictures are not Motion JPEG.
pub(super) fn open(
    name: String,
    mut file: impl BufRead + Seek + 'static,
    max_pixels: u64,
) -> Result<Option<Video>> {
    let damaged = |reason: String| Error::BadImage {
        name: name.clone(),
        reason: format!("damaged AVI: {reason}"),
    };
    let Some(stream) = find_stream(&mut file).map_err(|e| damaged(e.to_string()))? else {
        return Ok(None);
    };
    let mut number = 0;
    let mut shown: Option<Frame> = None;
    let frames = std::iter::from_fn(move || {
        let frame = match next_frame(&mut file, &stream) {
            Ok(None) => return None,
            Err(error) => Err(bad_frame(&name, number, format!("damaged AVI: {error}"))),
            // An empty chunk stands for the frame before.
            Ok(Some(bytes)) if bytes.is_empty() => match &shown {
                Some(frame) => Ok(frame.clone()),
                None => Err(bad_frame(
                    &name,
                    number,
                    "damaged AVI: begins with no frame",
                )),
            },
            Ok(Some(bytes)) => {
                decode(&format!("{name}, frame {number}"), &bytes, max_pixels).map(|image| Frame {
                    image,
                    seconds: stream.seconds,
                })
            }
        };
        number += 1;
        shown = frame.as_ref().ok().cloned();
        Some(frame)
    });
    Ok(Some(Video::new(frames)))
}

/// Reads headers up to the format of the first stream of pictures.
fn find_stream(file: &mut (impl BufRead + Seek)) -> io::Result<Option<Stream>> {
    let word = |bytes: &[u8], at: usize| {
        bytes
            .get(at..at + 4)
            .map(|b| u32::from_le_bytes(b.try_into().expect("four bytes")))
    };
    let mut streams = 0;
    let mut seconds = None;
    while let Some(chunk) = next_chunk(file)? {
        match &chunk.id {
            b"strh" => {
                let header = chunk.read(file)?;
                streams += 1;
                if header.starts_with(b"vids") {
                    let rate = word(&header, 24).zip(word(&header, 20));
                    seconds = Some(match rate {
                        Some((rate, scale)) if rate > 0 && scale > 0 => {
                            f64::from(scale) / f64::from(rate)
                        }
                        _ => 1.0 / DEFAULT_RATE,
                    });
                }
            }
            b"strf" => {
                let format = chunk.read(file)?;
                let Some(seconds) = seconds else {
                    continue;
                };
                let compression = format.get(16..20).map(<[u8]>::to_ascii_uppercase);
                let digits = format!("{:02}", streams - 1).into_bytes();
                return Ok(match (compression.as_deref(), digits.try_into()) {
                    (Some(b"MJPG"), Ok(prefix)) => Some(Stream { prefix, seconds }),
                    _ => None,
                });
            }
            _ => chunk.skip(file)?,
        }
    }
    Ok(None)
}

fn next_frame(file: &mut (impl BufRead + Seek), stream: &Stream) -> io::Result<Option<Vec<u8>>> {
    while let Some(chunk) = next_chunk(file)? {
        let picture = chunk.id[..2] == stream.prefix && matches!(&chunk.id[2..], b"dc" | b"db");
        if picture {
            return chunk.read(file).map(Some);
        }
        chunk.skip(file)?;
    }
    Ok(None)
}
