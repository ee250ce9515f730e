//! A whole scan to RGB pixels, one strip after the other.

use std::ops::Range;

use multiversion::multiversion;

use super::bits::{Bits, Scan};
use super::blocks::{Reader, placed};
use super::header::{Component, Header};
use super::progressive::{self, Stored};
use super::{BLOCK, Damaged, LANES, colours, inverse, lowest, upsample};

/// A component on its way to pixels.
struct Plane {
    /// Of a baseline file.
    reader: Option<Reader>,
    divisors: [u16; 64],
    /// Blocks of a unit from left to right.
    across: usize,
    /// The blocks of a unit, each of sixteen units.
    blocks: Vec<super::Blocks>,
    /// Pixels that a block becomes, columns and rows.
    size: (usize, usize),
    /// Rows of pixels kept of the strip before, then those of the strip.
    pixels: Vec<u8>,
    kept: usize,
    stride: usize,
}

impl Plane {
    fn new(
        header: &Header,
        component: &Component,
        size: (usize, usize),
        units: usize,
        kept: usize,
    ) -> Option<Self> {
        let (across, down) = (component.across, component.down);
        let table = |class: usize| header.codes[class][component.tables[class]].as_ref();
        let stride = units * across * size.0;
        Some(Self {
            reader: match header.is_progressive {
                true => None,
                false => Some(Reader::new([table(0)?, table(1)?])),
            },
            divisors: placed(&header.quantiser(component)?),
            across,
            blocks: vec![[[0; LANES]; 65]; across * down],
            size,
            pixels: vec![0; stride * (kept + down * size.1)],
            kept,
            stride,
        })
    }

    /// Keeps the last rows of a strip.
    fn keep(&mut self) {
        let last = self.pixels.len() - self.kept * self.stride;
        self.pixels.copy_within(last.., 0);
    }

    /// A row of pixels, of which there are `kept` before the strip's first.
    fn row(&self, y: usize) -> &[u8] {
        &self.pixels[y * self.stride..][..self.stride]
    }

    /// Fetches the blocks of `lanes` units from those that were read, beginning with the unit at a place
    /// `(x, y)`.
    fn fetch(&mut self, stored: &Stored, (x, y): (usize, usize), lanes: usize) {
        let down = self.blocks.len() / self.across;
        for (i, blocks) in self.blocks.iter_mut().enumerate() {
            let (column, row) = (i % self.across, i / self.across);
            for lane in 0..lanes {
                let from = stored.block((x + lane) * self.across + column, y * down + row);
                for (values, value) in blocks.iter_mut().zip(from) {
                    values[lane] = *value;
                }
            }
        }
    }

    /// Transforms the blocks of `lanes` units, the first of which is at `first` in its strip.
    fn transform(&mut self, first: usize, lanes: usize) {
        let (width, height) = self.size;
        let step = self.across * width;
        for (i, blocks) in self.blocks.iter_mut().enumerate() {
            let (x, y) = (i % self.across, i / self.across);
            let at = (self.kept + y * height) * self.stride + first * step + x * width;
            let (pixels, divisors) = (&mut self.pixels[at..], &self.divisors);
            let steps = (self.stride, step);
            if self.size == (BLOCK, BLOCK) {
                inverse::inverse(blocks, divisors, pixels, steps, lanes);
            } else {
                lowest::inverse(blocks, divisors, self.size, pixels, steps, lanes);
            }
            blocks.fill([0; LANES]);
        }
    }
}

/// What a file holds of blocks.
enum Coded {
    /// A baseline scan.
    Scan(Scan),
    /// Progressive scans, read.
    Stored(Vec<Stored>),
}

impl Coded {
    /// `None` for files that are not those of this decoder.
    fn read(header: &Header) -> Result<Option<Self>, Damaged> {
        if header.is_progressive {
            return Ok(progressive::read(header)?.map(Self::Stored));
        }
        let scan = Scan::read(header.data)?;
        // It must be the only one.
        let scan = scan.filter(|(_, rest)| rest.starts_with(&[0xFF, 0xD9]));
        Ok(scan.map(|(scan, _)| Self::Scan(scan)))
    }

    fn blocks(&self, header: &Header) -> Result<Blocks<'_>, Damaged> {
        Ok(match self {
            Self::Scan(scan) => Blocks::Scan(Sequence::new(header, scan)?),
            Self::Stored(stored) => Blocks::Stored(stored),
        })
    }
}

/// Where blocks come from.
enum Blocks<'a> {
    /// A scan, as it is read.
    Scan(Sequence<'a>),
    /// Scans that were read.
    Stored(&'a [Stored]),
}

/// A baseline scan that is being read.
struct Sequence<'a> {
    scan: &'a Scan,
    bits: Bits<'a>,
    /// Units between restarts.
    restart: usize,
}

/// Reads and transforms one strip after the other.
struct Strips<'a> {
    blocks: Blocks<'a>,
    planes: Vec<Plane>,
    /// Units of a strip.
    units: usize,
    /// Units that were read.
    done: usize,
}

impl<'a> Strips<'a> {
    /// Blocks become the pixels that `size` gives for a component; of each, `kept` rows of blocks'
    /// pixels are kept.
    fn new(
        header: &Header,
        blocks: Blocks<'a>,
        size: impl Fn(&Component) -> (usize, usize),
        kept: impl Fn(&Component) -> usize,
    ) -> Option<Self> {
        let units = header.width.div_ceil(BLOCK * header.unit().0);
        let planes = header.components.iter();
        let planes = planes.map(|c| Plane::new(header, c, size(c), units, kept(c)));
        Some(Self {
            blocks,
            planes: planes.collect::<Option<_>>()?,
            units,
            done: 0,
        })
    }

    /// Reads the next strip.
    fn next(&mut self) -> Result<(), Damaged> {
        self.planes.iter_mut().for_each(Plane::keep);
        for first in (0..self.units).step_by(LANES) {
            let lanes = LANES.min(self.units - first);
            match &mut self.blocks {
                Blocks::Scan(sequence) => sequence.read(&mut self.planes, self.done, lanes)?,
                Blocks::Stored(stored) => {
                    for (plane, stored) in self.planes.iter_mut().zip(*stored) {
                        plane.fetch(stored, (first, self.done / self.units), lanes);
                    }
                }
            }
            self.done += lanes;
            for plane in &mut self.planes {
                plane.transform(first, lanes);
            }
        }
        Ok(())
    }

    /// Errs where there are more data than were read.
    fn finish(&self) -> Result<(), Damaged> {
        match &self.blocks {
            Blocks::Scan(sequence) => {
                let last = (self.done - 1) / sequence.restart;
                sequence.scan.check_last(last, &sequence.bits)
            }
            Blocks::Stored(_) => Ok(()),
        }
    }
}

impl<'a> Sequence<'a> {
    fn new(header: &Header, scan: &'a Scan) -> Result<Self, Damaged> {
        Ok(Self {
            scan,
            bits: scan.part(0)?,
            restart: match header.restart {
                0 => usize::MAX,
                restart => restart,
            },
        })
    }

    /// Reads units behind the first `done` into the first lanes.
    fn read(&mut self, planes: &mut [Plane], mut done: usize, lanes: usize) -> Result<(), Damaged> {
        let mut first = 0;
        while first < lanes {
            if done > 0 && done.is_multiple_of(self.restart) {
                let part = done / self.restart;
                self.scan.check_end(part - 1, &self.bits)?;
                self.bits = self.scan.part(part)?;
                for plane in &mut *planes {
                    plane.reader.as_mut().map(Reader::restart);
                }
            }
            let more = (self.restart - done % self.restart).min(lanes - first);
            read(&mut self.bits, planes, first..first + more)?;
            first += more;
            done += more;
        }
        Ok(())
    }
}

/// Reads units into lanes.
#[multiversion(targets("x86_64+bmi1+bmi2"))]
fn read<'a>(bits: &mut Bits<'a>, planes: &mut [Plane], lanes: Range<usize>) -> Result<(), Damaged> {
    // A copy that nothing else refers to can stay in registers.
    let kept = bits;
    let mut bits = *kept;
    for lane in lanes {
        for plane in &mut *planes {
            let Some(reader) = &mut plane.reader else {
                continue;
            };
            for blocks in &mut plane.blocks {
                if reader.read(&mut bits, blocks, lane).is_err() {
                    // What cannot be may be what lies behind the data.
                    return bits.check().and(Err(Damaged::Wrong));
                }
            }
        }
        bits.check()?;
    }
    *kept = bits;
    Ok(())
}

/// Decodes in full: `[height, width, 3]`.
/// `None` also for chroma of samples that are not interpolated here.
///
/// # Errors
/// [`Damaged`].
pub(in crate::decode) fn full(header: &Header) -> Result<Option<Vec<u8>>, Damaged> {
    let (across, down) = header.unit();
    let is_chroma = |c: &Component| (c.across, c.down) == (1, 1);
    let samples = (header.width.div_ceil(across), header.height.div_ceil(down));
    let chroma = &header.components[1..];
    if !chroma.iter().all(is_chroma) {
        return Ok(None);
    }
    // Rows between two strips need two rows of chroma of the one before.
    const KEPT: usize = 2;
    let Some(coded) = Coded::read(header)? else {
        return Ok(None);
    };
    let blocks = coded.blocks(header)?;
    let Some(mut strips) = Strips::new(header, blocks, |_| (BLOCK, BLOCK), |c| KEPT * c.down)
    else {
        return Ok(None);
    };
    let (width, height) = (header.width, header.height);
    let mut out = Vec::with_capacity(width * height * 3);
    let mut line = vec![0; width * 3];
    let mut sums = vec![0; samples.0 + 2];
    let mut rows = [vec![0; samples.0 * across], vec![0; samples.0 * across]];
    let mut next = 0;
    for strip in 0..samples.1.div_ceil(BLOCK) {
        strips.next()?;
        // The row behind the last one of chroma may be in the next strip.
        let end = (strip + 1) * BLOCK;
        let end = if end < samples.1 { end - 1 } else { samples.1 };
        for y in next..end {
            // Rows of the planes' buffers.
            let row = |y: usize| KEPT + y - strip * BLOCK;
            let (above, below) = (y.saturating_sub(1), (y + 1).min(samples.1 - 1));
            for lower in 0..down {
                if y * down + lower == height {
                    break;
                }
                let luma = strips.planes[0].row(row(y) * down + lower);
                if chroma.is_empty() {
                    colours::grey(luma, &mut line);
                    out.extend_from_slice(&line);
                    continue;
                }
                let far = if lower == 1 { below } else { above };
                for (plane, out) in strips.planes[1..].iter().zip(&mut rows) {
                    let rows = upsample::Rows {
                        near: &plane.row(row(y))[..samples.0],
                        far: &plane.row(row(far))[..samples.0],
                        lower: lower == 1,
                    };
                    upsample::row(rows, (across, down), &mut sums, out);
                }
                colours::rgb(luma, &rows[0], &rows[1], &mut line);
                out.extend_from_slice(&line);
            }
        }
        next = end;
    }
    strips.finish()?;
    Ok(Some(out))
}

/// Decodes to a `scale`-th (2 or 4) of the size, rounded up; `[height, width, 3]`.
///
/// Chroma with half the samples in a direction is transformed to twice as many pixels of a block
/// there, so that all components have the same pixels.
///
/// # Errors
/// [`Damaged`].
pub(in crate::decode) fn reduced(
    header: &Header,
    scale: usize,
) -> Result<Option<Vec<u8>>, Damaged> {
    let base = BLOCK / scale;
    let (across, down) = header.unit();
    let size = |c: &Component| (base * across / c.across, base * down / c.down);
    let Some(coded) = Coded::read(header)? else {
        return Ok(None);
    };
    let Some(mut strips) = Strips::new(header, coded.blocks(header)?, size, |_| 0) else {
        return Ok(None);
    };
    let (width, height) = (header.width.div_ceil(scale), header.height.div_ceil(scale));
    let mut out = vec![0; width * height * 3];
    for strip in out.chunks_mut(width * 3 * base * down) {
        strips.next()?;
        for (y, line) in strip.chunks_exact_mut(width * 3).enumerate() {
            match &strips.planes[..] {
                [luma] => colours::grey(luma.row(y), line),
                [luma, blue, red] => {
                    colours::rgb(luma.row(y), blue.row(y), red.row(y), line);
                }
                _ => return Ok(None),
            }
        }
    }
    strips.finish()?;
    Ok(Some(out))
}
