//! The bits of entropy-coded data.

use crate::error::Damage;

/// Zeros behind the data: more than the bits of a unit, so that reading needs a check only between
/// units.
const PADDING: usize = 4096;

/// Bytes behind a scan's data that are no sign of damage: as many as a device may write at a time. Where
/// blocks were lost there are more, as a rule, and reading seldom ends at the end of a byte.
const MOST_STRAY: isize = 16;

/// Entropy-coded data up to the marker that ends the scan, without the zeros that are stuffed behind
/// every 255, cut at restart markers.
pub(crate) struct Scan {
    data: Vec<u8>,
    /// Where the parts between restart markers end.
    ends: Vec<usize>,
}

impl Scan {
    /// The scan that data begin with, and what follows from the marker behind it on. `None` where there
    /// is no marker.
    ///
    /// # Errors
    /// [`Damage::Invalid`] where restart markers are not in turn.
    pub(crate) fn read(mut data: &[u8]) -> Result<Option<(Self, &[u8])>, Damage> {
        let mut scan = Self {
            data: Vec::with_capacity(data.len() + PADDING),
            ends: Vec::new(),
        };
        loop {
            let Some(at) = memchr::memchr(0xFF, data) else {
                return Ok(None);
            };
            let Some(&marker) = data.get(at + 1) else {
                return Ok(None);
            };
            match marker {
                0 => scan.data.extend_from_slice(&data[..=at]),
                _ => scan.data.extend_from_slice(&data[..at]),
            }
            let number = usize::from(marker).wrapping_sub(0xD0);
            data = match marker {
                0 => &data[at + 2..],
                // Any number of 255s may stand before a marker.
                0xFF => &data[at + 1..],
                _ if number == scan.ends.len() % 8 => {
                    scan.ends.push(scan.data.len());
                    &data[at + 2..]
                }
                _ if number < 8 => return Err(Damage::Invalid),
                _ => {
                    data = &data[at..];
                    break;
                }
            };
        }
        scan.ends.push(scan.data.len());
        scan.data.resize(scan.data.len() + PADDING, 0);
        Ok(Some((scan, data)))
    }

    /// The bits of a part.
    pub(crate) fn part(&self, number: usize) -> Result<Bits<'_>, Damage> {
        let end = *self.ends.get(number).ok_or(Damage::Incomplete)?;
        let start = number.checked_sub(1).map_or(0, |before| self.ends[before]);
        Ok(Bits {
            rest: &self.data[start..],
            bits: 0,
            count: 0,
            behind: self.data.len() - end,
        })
    }

    /// Whether a part ends where reading did. Programs may fill up with equal bits.
    ///
    /// # Errors
    /// [`Damage::Incomplete`], or [`Damage::Surplus`] for other data.
    pub(crate) fn check_end(&self, number: usize, bits: &Bits) -> Result<(), Damage> {
        let end = *self.ends.get(number).ok_or(Damage::Incomplete)?;
        bits.check()?;
        let left = &self.data[end - bits.left() as usize / 8..end];
        let is_filler = [0, 0xFF]
            .iter()
            .any(|filler| left.iter().all(|byte| byte == filler));
        is_filler.then_some(()).ok_or(Damage::Surplus)
    }

    /// As [`Self::check_end`], of the last part, behind which some cameras leave a few bytes.
    pub(crate) fn check_last(&self, number: usize, bits: &Bits) -> Result<(), Damage> {
        match self.check_end(number, bits) {
            Err(Damage::Surplus) if bits.left() / 8 <= MOST_STRAY && bits.are_filled() => {}
            checked => checked?,
        }
        (number + 1 == self.ends.len())
            .then_some(())
            .ok_or(Damage::Surplus)
    }
}

/// Reads the bits of a part.
#[derive(Clone, Copy)]
pub(crate) struct Bits<'a> {
    /// What was not taken yet.
    rest: &'a [u8],
    /// The next bits, highest first. There may be more than `count` says, never other ones.
    bits: u64,
    /// How many there are, in the lowest six bits; above them is anything.
    count: u64,
    /// Bytes behind the part.
    behind: usize,
}

impl Bits<'_> {
    /// Makes sure of 56 bits.
    #[inline(always)]
    pub(crate) fn fill(&mut self) {
        // There are always eight, because of the padding.
        if let Some(eight) = self.rest.first_chunk::<8>() {
            self.bits |= u64::from_be_bytes(*eight) >> (self.count & 63);
            self.rest = &self.rest[(!self.count >> 3 & 7) as usize..];
        }
        self.count |= 56;
    }

    /// The next `count` bits, 1 to 32.
    #[inline(always)]
    pub(crate) fn peek(&self, count: u32) -> u32 {
        (self.bits >> (64 - count)) as u32
    }

    /// Takes up to 16 bits as a number.
    #[inline(always)]
    pub(crate) fn take(&mut self, count: u32) -> u32 {
        self.fill();
        // In two steps, because there may be none.
        let number = (self.bits >> 32 >> (32 - count)) as u32;
        self.skip(u64::from(count));
        number
    }

    /// Passes over bits, of which there are enough: as many as the lowest six bits of `count` say.
    #[inline(always)]
    pub(crate) fn skip(&mut self, count: u64) {
        self.bits <<= count & 63;
        self.count = self.count.wrapping_sub(count);
    }

    /// Bits of the part that were not read; negative where more were read.
    #[inline(always)]
    fn left(&self) -> isize {
        let taken = self.rest.len() as isize - self.behind as isize;
        8 * taken + (self.count & 63) as isize
    }

    /// Whether the bits up to the next byte are those that the standard has data filled up with.
    fn are_filled(&self) -> bool {
        let (mut bits, count) = (*self, self.left() as u32 % 8);
        bits.fill();
        count == 0 || bits.peek(count) == (1 << count) - 1
    }

    /// # Errors
    /// [`Damage::Incomplete`] where more bits were read than the part has.
    #[inline(always)]
    pub(crate) fn check(&self) -> Result<(), Damage> {
        (self.left() >= 0).then_some(()).ok_or(Damage::Incomplete)
    }
}
