//! CCITT's compressions of black and white: groups 3 and 4.
//!
//! The tables of codes are those of the `fax` crate; lines are put together here, because its own
//! decoders read neither all kinds, nor refuse lines that cannot be.

use fax::BitReader;
use fax::maps::{Mode, black, mode, white};

use super::layout::Compression;
use super::refused;
use crate::decode::Reason;

/// The bits of the data; zeros behind their end, which cannot be taken.
struct Bits<'a> {
    data: &'a [u8],
    /// Bits that were taken.
    at: usize,
}

/// The data end too soon.
struct Ended;

impl BitReader for Bits<'_> {
    type Error = Ended;

    fn peek(&self, bits: u8) -> Option<u16> {
        let byte = |i: usize| u32::from(self.data.get(self.at / 8 + i).copied().unwrap_or(0));
        let some = byte(0) << 24 | byte(1) << 16 | byte(2) << 8;
        (1..=16)
            .contains(&bits)
            .then(|| (some << (self.at % 8) >> (32 - u32::from(bits))) as u16)
    }

    fn consume(&mut self, bits: u8) -> Result<(), Ended> {
        self.at += usize::from(bits);
        match self.at <= 8 * self.data.len() {
            true => Ok(()),
            false => Err(Ended),
        }
    }

    fn bits_to_byte_boundary(&self) -> u8 {
        (self.at.wrapping_neg() % 8) as u8
    }
}

const END: u16 = 1;

impl Bits<'_> {
    /// Passes over fill bits and the code for a line's end, where it is next.
    fn line_end(&mut self) -> Option<bool> {
        if self.peek(11)? != 0 {
            return Some(false);
        }
        while self.peek(1)? == 0 {
            self.consume(1).ok()?;
        }
        self.consume(1).ok()?;
        Some(true)
    }

    /// The length of a run.
    fn run(&mut self, is_black: bool) -> Option<usize> {
        let mut sum = 0;
        loop {
            let part = match is_black {
                true => black::decode(self)?,
                false => white::decode(self)?,
            };
            sum += usize::from(part);
            if part < 64 {
                return Some(sum);
            }
        }
    }

    /// A line on its own: where its colour changes, white first.
    fn line(&mut self, width: usize, changes: &mut Vec<usize>) -> Option<()> {
        let mut at = 0;
        while at < width {
            at += self.run(changes.len() % 2 == 1)?;
            changes.push(at);
        }
        (at == width).then_some(())
    }

    /// A line by the one before. `None` where it cannot be, or is the end of all.
    fn line_by(
        &mut self,
        before: &[usize],
        width: usize,
        changes: &mut Vec<usize>,
    ) -> Result<(), Stopped> {
        // Before the first pixel at first, so that a change may be there.
        let mut at = None;
        let mut next = 0;
        while at.is_none_or(|at| at < width) {
            let is_black = changes.len() % 2 == 1;
            // The next change of the line before to the other colour.
            while next > 0 && at.is_none_or(|at| before[next - 1] > at) {
                next -= 1;
            }
            while before.get(next).is_some_and(|&change| {
                at.is_some_and(|at| change <= at) || (next % 2 == 1) != is_black
            }) {
                next += 1;
            }
            let change = |i: usize| before.get(i).copied().unwrap_or(width);
            let to = match mode::decode(self).ok_or(Stopped::Wrong)? {
                Mode::Pass => {
                    at = Some(change(next + 1));
                    continue;
                }
                Mode::Vertical(by) => change(next)
                    .checked_add_signed(isize::from(by))
                    .ok_or(Stopped::Wrong)?,
                Mode::Horizontal => {
                    let start = at.unwrap_or(0);
                    let first = start + self.run(is_black).ok_or(Stopped::Wrong)?;
                    changes.push(first);
                    first + self.run(!is_black).ok_or(Stopped::Wrong)?
                }
                Mode::EOF if changes.is_empty() && at.is_none() => return Err(Stopped::End),
                Mode::Extension => return Err(Stopped::Extension),
                Mode::EOF => return Err(Stopped::Wrong),
            };
            if to > width || at.is_some_and(|at| to < at) {
                return Err(Stopped::Wrong);
            }
            changes.push(to);
            at = Some(to);
        }
        Ok(())
    }
}

/// Why a line was not read.
enum Stopped {
    /// It makes no sense.
    Wrong,
    /// There are no more.
    End,
    /// It has an uncompressed part.
    Extension,
}

/// Decodes lines of `width` pixels, a bit each, 1 for black; each begins at a byte.
pub(super) fn decode(
    data: &[u8],
    compression: Compression,
    (width, rows): (usize, usize),
) -> Result<Vec<u8>, Reason> {
    const WRONG: &str = "damaged TIFF: its CCITT codes make no sense";
    let stride = width.div_ceil(8);
    let mut out = vec![0; stride * rows];
    let mut bits = Bits { data, at: 0 };
    let (mut before, mut changes) = (Vec::new(), Vec::new());
    for row in 0..rows {
        changes.clear();
        let by_before = match compression {
            Compression::FaxG4 => true,
            Compression::FaxG3 { two } => {
                let ended = bits.line_end().ok_or(WRONG)?;
                if two {
                    // A bit behind the end of the line before says of which kind this one is.
                    let alone = bits.peek(1).filter(|_| ended).ok_or(WRONG)?;
                    bits.consume(1).map_err(|Ended| WRONG)?;
                    alone == 0
                } else {
                    false
                }
            }
            Compression::FaxLines(unit) => {
                bits.at = bits.at.next_multiple_of(unit);
                false
            }
            _ => return Err(WRONG.into()),
        };
        if by_before {
            match bits.line_by(&before, width, &mut changes) {
                Ok(()) => {}
                // As libtiff: white lines at the end may be missing, not the code for the end.
                Err(Stopped::End) if row > 0 && bits.peek(12) == Some(END) => break,
                Err(Stopped::Extension) => return Err(refused::fax_uncompressed()),
                Err(_) => return Err(WRONG.into()),
            }
        } else {
            bits.line(width, &mut changes).ok_or(WRONG)?;
        }
        let line = &mut out[row * stride..][..stride];
        for pair in changes.chunks(2) {
            let end = pair.get(1).copied().unwrap_or(width);
            blacken(line, pair[0], end.min(width));
        }
        std::mem::swap(&mut before, &mut changes);
    }
    Ok(out)
}

/// Sets bits, the highest of a byte first.
fn blacken(line: &mut [u8], from: usize, to: usize) {
    if from >= to {
        return;
    }
    let (first, last) = (from / 8, (to - 1) / 8);
    let head = 0xFF >> (from % 8);
    let tail = 0xFFu8 << (7 - (to - 1) % 8);
    if first == last {
        line[first] |= head & tail;
        return;
    }
    line[first] |= head;
    line[first + 1..last].fill(0xFF);
    line[last] |= tail;
}
