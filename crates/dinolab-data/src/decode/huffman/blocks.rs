//! Entropy-coded data to coefficients.

use super::bits::Bits;
use super::codes::{Codes, END, Table};
use super::{Blocks, Damaged, LANES};

/// Places of the coefficients in a block, `8 · row + column`, in the order of the file; 64 for what
/// is behind a block's end.
pub(super) const PLACES: [u8; 256] = {
    let order = [
        0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27,
        20, 13, 6, 7, 14, 21, 28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51,
        58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63,
    ];
    let mut places = [64; 256];
    let mut i = 0;
    while i < 64 {
        places[i] = order[i];
        i += 1;
    }
    places
};

/// Puts divisors or the like from the file's order to their places.
pub(super) fn placed<T: Copy + Default>(values: &[T; 64]) -> [T; 64] {
    let mut placed = [T::default(); 64];
    for (&place, &value) in PLACES.iter().zip(values) {
        placed[usize::from(place)] = value;
    }
    placed
}

/// Bits by which codes are looked up. More would find more, but the tables would leave the fastest
/// cache.
const DIRECT_BITS: u32 = 8;
const OTHER_BITS: u32 = 10;

/// What the blocks of a component are read by.
pub(super) struct Reader {
    direct: Table<DIRECT_BITS>,
    other: Table<OTHER_BITS>,
    /// The direct coefficient of the block before.
    predicted: i16,
}

/// Bytes of data from which on it pays to look for pairs of coefficients.
const WORTH_PAIRS: usize = 4096;

impl Reader {
    /// For about so many bytes of data.
    pub(super) fn new([direct, other]: [&Codes; 2], bytes: usize) -> Self {
        Self {
            direct: Table::new(direct),
            other: match bytes < WORTH_PAIRS {
                true => Table::new(other),
                false => Table::pairs(other),
            },
            predicted: 0,
        }
    }

    /// Forgets the blocks before.
    pub(super) fn restart(&mut self) {
        self.predicted = 0;
    }

    /// Reads a block into lane `lane`, whose coefficients are 0.
    #[inline(always)]
    pub(super) fn read(
        &mut self,
        bits: &mut Bits,
        blocks: &mut Blocks,
        lane: usize,
    ) -> Result<(), Damaged> {
        // Says to the compiler that it is one.
        let lane = lane % LANES;
        bits.fill();
        let entry = self.direct.entry(bits);
        let difference = if entry.is_none() {
            let found = self.direct.read_long(bits)?;
            bits.fill();
            found.value
        } else {
            entry.take_first(DIRECT_BITS, bits)
        };
        self.predicted = self.predicted.wrapping_add(difference);
        set(blocks, lane, 0, self.predicted);

        // There are 56 bits behind a fill.
        const { assert!(2 * Table::<OTHER_BITS>::ENTRY_BITS <= 56) };
        // The place of the last coefficient; behind 63, the block's end.
        let mut place = read_some(&self.other, bits, blocks, lane, 0)?;
        // A step is at most 16, so that the first of two coefficients comes to 62 at most.
        while place < 47 {
            bits.fill();
            place = read_some(&self.other, bits, blocks, lane, place)?;
            if place < 47 {
                place = read_some(&self.other, bits, blocks, lane, place)?;
            }
        }
        while place < 63 {
            bits.fill();
            let entry = self.other.entry(bits);
            if entry.is_none() {
                let found = self.other.read_long(bits)?;
                place += found.step;
                set(blocks, lane, place, found.value);
            } else {
                place += entry.first_step();
                set(blocks, lane, place, entry.take_first(OTHER_BITS, bits));
            }
        }
        if place > 63 && place < END {
            return Err(Damaged::Wrong);
        }
        Ok(())
    }
}

/// Sets a coefficient by its place in the file's order.
#[inline(always)]
fn set(blocks: &mut Blocks, lane: usize, place: u32, value: i16) {
    blocks[usize::from(PLACES[usize::from(place as u8)])][lane] = value;
}

/// Reads one or two coefficients behind `place`, from at least
/// [`Table::ENTRY_BITS`] bits; gives the place of
/// the last.
#[inline(always)]
fn read_some(
    table: &Table<OTHER_BITS>,
    bits: &mut Bits,
    blocks: &mut Blocks,
    lane: usize,
    place: u32,
) -> Result<u32, Damaged> {
    let entry = table.entry(bits);
    if entry.is_none() {
        bits.fill();
        let found = table.read_long(bits)?;
        set(blocks, lane, place + found.step, found.value);
        return Ok(place + found.step);
    }
    let [first, second] = entry.take(OTHER_BITS, bits);
    set(blocks, lane, place + entry.first_step(), first);
    set(blocks, lane, place + entry.step(), second);
    Ok(place + entry.step())
}
