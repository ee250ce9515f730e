//! The blocks of a file, one strip after the other.

use std::ops::Range;

use multiversion::multiversion;

use crate::bits::{Bits, Scan};
use crate::block::{BLOCK, LANES};
use crate::coefficients::Reader;
use crate::error::Damage;
use crate::header::{Component, Header};
use crate::plane::Plane;
use crate::progressive::{self, Stored};

/// What a file holds of blocks.
pub(crate) enum Coded {
    /// A baseline scan.
    Scan(Scan),
    /// Progressive scans, read.
    Stored(Vec<Stored>),
}

impl Coded {
    /// `None` for files that are not those of this decoder.
    pub(crate) fn read(header: &Header) -> Result<Option<Self>, Damage> {
        if header.is_progressive {
            return Ok(progressive::read(header)?.map(Self::Stored));
        }
        let scan = Scan::read(header.data)?;
        // It must be the only one.
        let scan = scan.filter(|(_, rest)| rest.starts_with(&[0xFF, 0xD9]));
        Ok(scan.map(|(scan, _)| Self::Scan(scan)))
    }

    pub(crate) fn source(&self, header: &Header) -> Result<Source<'_>, Damage> {
        Ok(match self {
            Self::Scan(scan) => Source::Scan(Sequence::new(header, scan)?),
            Self::Stored(stored) => Source::Stored(stored),
        })
    }
}

/// Where blocks come from.
pub(crate) enum Source<'a> {
    /// A scan, as it is read.
    Scan(Sequence<'a>),
    /// Scans that were read.
    Stored(&'a [Stored]),
}

/// A baseline scan that is being read.
pub(crate) struct Sequence<'a> {
    scan: &'a Scan,
    bits: Bits<'a>,
    /// Units between restarts.
    restart: usize,
}

/// Reads and transforms one strip after the other.
pub(crate) struct Strips<'a> {
    source: Source<'a>,
    pub(crate) planes: Vec<Plane>,
    /// Units of a strip.
    units: usize,
    /// Units that were read.
    done: usize,
}

impl<'a> Strips<'a> {
    /// Blocks become the pixels that `size` gives for a component; of each, `kept` rows of blocks'
    /// pixels are kept.
    pub(crate) fn new(
        header: &Header,
        source: Source<'a>,
        size: impl Fn(&Component) -> (usize, usize),
        kept: impl Fn(&Component) -> usize,
    ) -> Option<Self> {
        let units = header.width.div_ceil(BLOCK * header.unit().0);
        let planes = header.components.iter();
        let planes = planes.map(|c| Plane::new(header, c, size(c), units, kept(c)));
        Some(Self {
            source,
            planes: planes.collect::<Option<_>>()?,
            units,
            done: 0,
        })
    }

    /// Reads the next strip.
    pub(crate) fn next(&mut self) -> Result<(), Damage> {
        self.planes.iter_mut().for_each(Plane::keep);
        for first in (0..self.units).step_by(LANES) {
            let lanes = LANES.min(self.units - first);
            match &mut self.source {
                Source::Scan(sequence) => sequence.read(&mut self.planes, self.done, lanes)?,
                Source::Stored(stored) => {
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
    pub(crate) fn finish(&self) -> Result<(), Damage> {
        match &self.source {
            Source::Scan(sequence) => {
                let last = (self.done - 1) / sequence.restart;
                sequence.scan.check_last(last, &sequence.bits)
            }
            Source::Stored(_) => Ok(()),
        }
    }
}

impl<'a> Sequence<'a> {
    fn new(header: &Header, scan: &'a Scan) -> Result<Self, Damage> {
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
    fn read(&mut self, planes: &mut [Plane], mut done: usize, lanes: usize) -> Result<(), Damage> {
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
fn read<'a>(bits: &mut Bits<'a>, planes: &mut [Plane], lanes: Range<usize>) -> Result<(), Damage> {
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
                    return bits.check().and(Err(Damage::Invalid));
                }
            }
        }
        bits.check()?;
    }
    *kept = bits;
    Ok(())
}
