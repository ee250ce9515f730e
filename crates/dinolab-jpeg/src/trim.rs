//! The part of a file that is the image.

use std::borrow::Cow;

use crate::error::{Damage, Error, Result};

/// Whether bytes begin like a JPEG.
pub(crate) fn is_jpeg(bytes: &[u8]) -> bool {
    bytes.starts_with(&[0xFF, 0xD8])
}

/// Returns a file up to its end-of-image marker, without stray bytes between segments.
///
/// What follows the marker (a second picture, a camera's own data) is not part of the image. Every
/// browser ignores stray bytes, and strict decoders refuse them. The file is walked along its
/// segments and markers; nothing is decoded.
///
/// # Errors
/// [`Error::NotJpeg`]; [`Error::Truncated`] for a file without an end-of-image marker;
/// [`Error::Damaged`] for one without image data.
pub fn trim(bytes: &[u8]) -> Result<Cow<'_, [u8]>> {
    if !is_jpeg(bytes) {
        return Err(Error::NotJpeg);
    }
    let mut stray: Vec<(usize, usize)> = Vec::new();
    let mut at = 2;
    let mut scans = 0;
    let end = loop {
        // To the next marker: 0xFF (repeated as fill) and a code that is neither 0 nor 0xFF.
        let start = at;
        while at < bytes.len()
            && !(bytes[at] == 0xFF && bytes.get(at + 1).is_some_and(|&c| c != 0 && c != 0xFF))
        {
            at += 1;
        }
        let Some(&code) = bytes.get(at + 1) else {
            return Err(Error::Truncated);
        };
        if at > start {
            stray.push((start, at));
        }
        at += 2;
        match code {
            0xD9 => break at,
            0x01 | 0xD0..=0xD8 => continue,
            _ => {}
        }
        let Some(length) = bytes.get(at..at + 2) else {
            return Err(Error::Truncated);
        };
        let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
        if length < 2 {
            return Err(Damage::Segment.into());
        }
        at += length;
        if at > bytes.len() {
            return Err(Error::Truncated);
        }
        if code == 0xDA {
            scans += 1;
            at = end_of_scan(bytes, at)?;
        }
    };
    if scans == 0 {
        return Err(Damage::NoScan.into());
    }
    if stray.is_empty() {
        return Ok(Cow::Borrowed(&bytes[..end]));
    }
    let mut clean = Vec::with_capacity(end);
    let mut from = 0;
    for (start, stop) in stray {
        clean.extend_from_slice(&bytes[from..start]);
        from = stop;
    }
    clean.extend_from_slice(&bytes[from..end]);
    Ok(Cow::Owned(clean))
}

/// Where the entropy-coded data from `at` on end: at a marker, unless it is a stuffed zero or a restart.
fn end_of_scan(bytes: &[u8], mut at: usize) -> Result<usize> {
    loop {
        let found = memchr::memchr(0xFF, &bytes[at..]).ok_or(Error::Truncated)?;
        match bytes.get(at + found + 1) {
            None => return Err(Error::Truncated),
            Some(0 | 0xD0..=0xD7) => at += found + 2,
            Some(0xFF) => at += found + 1,
            Some(_) => return Ok(at + found),
        }
    }
}
