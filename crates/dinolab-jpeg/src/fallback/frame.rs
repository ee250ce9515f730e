//! What a JPEG says of itself before its image data: of files that another decoder reads.

use std::ops::Range;

use crate::colour::{ColourSpace, Marks};
use crate::error::{Damage, Error, Result, Unsupported};
use crate::header;

/// What a file's segments say before its first scan.
pub(super) struct Frame {
    /// The kind of coding.
    marker: u8,
    bits: u8,
    /// Numbers and samplings.
    pub(super) components: Vec<(u8, u8)>,
    marks: Marks,
}

impl Frame {
    pub(super) fn read(bytes: &[u8]) -> Result<Self> {
        let mut frame = None;
        let mut marks = Marks::default();
        let mut rest = bytes.get(2..).unwrap_or_default();
        while let Some((marker, segment, after)) = header::segment(rest) {
            match marker {
                // What is no frame: tables of codes, an extension, conditions of arithmetic coding.
                0xC4 | 0xC8 | 0xCC => {}
                0xC0..=0xCF => frame = Some((marker, segment)),
                0xDA => break,
                _ => marks.add(marker, segment),
            }
            rest = after;
        }
        let Some((marker, [bits, _, _, _, _, count, components @ ..])) = frame else {
            return Err(Damage::NoFrame.into());
        };
        let (components, _) = components.as_chunks::<3>();
        if components.len() != usize::from(*count) {
            return Err(Damage::ShortFrame.into());
        }
        Ok(Self {
            marker,
            bits: *bits,
            components: components.iter().map(|of| (of[0], of[1])).collect(),
            marks,
        })
    }

    /// Checks that it is of a kind that is decoded.
    pub(super) fn check(&self) -> Result<()> {
        let error: Error = match (self.marker, self.bits) {
            (0xC0..=0xC2, 8) => return Ok(()),
            (0xC0..=0xC2, 12) => Unsupported::TwelveBits.into(),
            (0xC3, _) => Unsupported::Lossless.into(),
            (0xC9 | 0xCA, _) => Unsupported::Arithmetic.into(),
            (0xC0..=0xC2, _) => Damage::Precision.into(),
            _ => Unsupported::Rare.into(),
        };
        Err(error)
    }

    /// Whether it is taken for YCCK.
    pub(super) fn is_ycck(&self, colours: ColourSpace) -> bool {
        self.components.len() == 4 && colours != ColourSpace::Rgb && self.marks.is_ycck()
    }

    /// Whether components differ in their numbers of samples.
    pub(super) fn is_subsampled(&self) -> bool {
        let mut samplings = self.components.iter().map(|of| of.1);
        let first = samplings.next();
        samplings.any(|sampling| Some(sampling) != first)
    }

    /// A copy whose colours the other decoder takes for what they are: numbers of the components say so,
    /// and Adobe's mark is made unreadable or, of four components, right.
    pub(super) fn unambiguous(&self, bytes: &[u8], colours: ColourSpace) -> Vec<u8> {
        let ids: Vec<u8> = self.components.iter().map(|of| of.0).collect();
        let is_rgb = match colours {
            ColourSpace::FromFile => self.marks.is_rgb(&ids),
            ColourSpace::Rgb => true,
            ColourSpace::YCbCr => false,
        };
        let new: &[u8; 3] = if is_rgb { b"RGB" } else { &[1, 2, 3] };
        let mut clear = bytes.to_vec();
        for (marker, range) in segments(bytes) {
            let segment = &mut clear[range];
            match (marker, self.components.len()) {
                (0xEE, 3) if segment.starts_with(b"Adobe") => segment[0] = b'a',
                // libjpeg knows CMYK without and with a transform only.
                (0xEE, 4) if segment.starts_with(b"Adobe") && segment.len() > 11 => {
                    let plain = segment[11] == 0 || colours == ColourSpace::Rgb;
                    segment[11] = if plain { 0 } else { 2 };
                }
                (0xC0..=0xC2 | 0xDA, 3) => {
                    let (first, step) = if marker == 0xDA { (1, 2) } else { (6, 3) };
                    let count = usize::from(segment.get(first - 1).copied().unwrap_or(0));
                    for id in segment.iter_mut().skip(first).step_by(step).take(count) {
                        let number = ids.iter().position(|of| of == id);
                        // Another one stays unknown.
                        *id = number.map_or(0xFF, |number| new[number]);
                    }
                }
                _ => {}
            }
        }
        clear
    }
}

/// All segments of a file without stray bytes, scans included: markers, and where what they hold is.
fn segments(bytes: &[u8]) -> Vec<(u8, Range<usize>)> {
    let mut found = Vec::new();
    let mut at = 2;
    while let Some((marker, segment, after)) = header::segment(bytes.get(at..).unwrap_or_default())
    {
        let end = bytes.len() - after.len();
        if !segment.is_empty() {
            found.push((marker, end - segment.len()..end));
        }
        at = end;
        // Entropy-coded data have no other markers than restarts within.
        while marker == 0xDA
            && let Some(next) = memchr::memchr(0xFF, &bytes[at..])
        {
            at += next;
            match bytes.get(at + 1) {
                Some(0 | 0xD0..=0xD7) => at += 2,
                Some(0xFF) => at += 1,
                _ => break,
            }
        }
    }
    found
}
