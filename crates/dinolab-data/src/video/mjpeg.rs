//! Motion JPEG without a container: JPEG files one after the other.

use std::io::{self, BufRead};

use super::{DEFAULT_RATE, Frame, Video, bad_frame};
use crate::decode::decode;

/// Bytes that one picture may have at most.
const MAX_BYTES: usize = 1 << 28;

pub(super) fn open(name: String, mut file: impl BufRead + 'static, max_pixels: u64) -> Video {
    let mut number = 0;
    let frames = std::iter::from_fn(move || {
        let picture = match next_picture(&mut file) {
            Ok(None) => return None,
            Ok(Some(bytes)) => {
                decode(&format!("{name}, frame {number}"), &bytes, max_pixels).map(|image| Frame {
                    image,
                    seconds: 1.0 / DEFAULT_RATE,
                })
            }
            Err(error) => Err(bad_frame(&name, number, error)),
        };
        number += 1;
        Some(picture)
    });
    Video::new(frames)
}

/// The bytes of the next picture, from its start to its end marker; `None` at the end.
///
/// Segments are skipped by their lengths, because a thumbnail in one has markers of its own.
fn next_picture(file: &mut impl BufRead) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    // To the start of a picture; there may be padding before it.
    let mut last = 0;
    loop {
        let Some(byte) = next_byte(file)? else {
            return Ok(None);
        };
        if last == 0xFF && byte == 0xD8 {
            bytes.extend([0xFF, 0xD8]);
            break;
        }
        last = byte;
    }
    let cut = || io::Error::new(io::ErrorKind::UnexpectedEof, "truncated JPEG");
    loop {
        let byte = next_byte(file)?.ok_or_else(cut)?;
        bytes.push(byte);
        if bytes.len() > MAX_BYTES {
            return Err(io::Error::other("a picture without end"));
        }
        // A marker is 0xFF and a code; after 0xFF, 0 is data and 0xFF filling.
        if bytes.len() < 4 || bytes[bytes.len() - 2] != 0xFF {
            continue;
        }
        match byte {
            0xD9 => return Ok(Some(bytes)),
            0 | 0x01 | 0xD0..=0xD8 | 0xFF => {}
            _ => {
                let mut length = [0; 2];
                file.read_exact(&mut length).map_err(|_| cut())?;
                bytes.extend(length);
                let rest = usize::from(u16::from_be_bytes(length)).saturating_sub(2);
                let start = bytes.len();
                bytes.resize(start + rest, 0);
                file.read_exact(&mut bytes[start..]).map_err(|_| cut())?;
                // What follows is no continuation of a marker, whatever the segment ends with.
                match next_byte(file)? {
                    Some(byte) => bytes.push(byte),
                    None => return Err(cut()),
                }
            }
        }
    }
}

fn next_byte(file: &mut impl BufRead) -> io::Result<Option<u8>> {
    let byte = file.fill_buf()?.first().copied();
    if byte.is_some() {
        file.consume(1);
    }
    Ok(byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_end_where_their_own_end_is() {
        // A segment that holds the start and end of another picture and ends in 0xFF, then
        // coded data with a stuffed zero and a restart.
        let one = [
            0xFF, 0xD8, 0xFF, 0xE0, 0, 7, 0xFF, 0xD8, 0xFF, 0xD9, 0xFF, 0xFF, 0xDA, 0, 2, 5, 0xFF,
            0, 7, 0xFF, 0xD0, 9, 0xFF, 0xFF, 0xD9,
        ];
        let stream = [&one[..], &[0, 0], &one].concat();
        let mut file = stream.as_slice();
        assert_eq!(next_picture(&mut file).unwrap().unwrap(), one);
        assert_eq!(next_picture(&mut file).unwrap().unwrap(), one);
        assert_eq!(next_picture(&mut file).unwrap(), None);
        for length in 2..one.len() {
            assert!(next_picture(&mut &one[..length]).is_err(), "{length}");
        }
    }
}
