//! Entropy-coded data to coefficients, block by block (baseline).

use crate::bits::Bits;
use crate::block::{Blocks, LANES};
use crate::error::Damage;
use crate::huffman::{Codes, END, Table};

/// Places of the coefficients in a block, `8 · row + column`, in the order of the file; 64 for what
/// is behind a block's end.
pub(crate) const PLACES: [u8; 256] = {
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

/// Brings values from the file's (zigzag) order to rows of eight.
pub(crate) fn placed<T: Copy + Default>(values: &[T; 64]) -> [T; 64] {
    let mut placed = [T::default(); 64];
    for (&place, &value) in PLACES.iter().zip(values) {
        placed[usize::from(place)] = value;
    }
    placed
}

/// Bits by which codes are looked up. More would find more codes, but the tables would no longer fit
/// into the L1 cache.
const DC_BITS: u32 = 8;
const AC_BITS: u32 = 10;

/// Reads the blocks of a component.
pub(crate) struct Reader {
    dc: Table<DC_BITS>,
    ac: Table<AC_BITS>,
    /// The DC coefficient of the block before.
    predicted: i16,
}

/// Bytes of data from which on it pays to look for pairs of coefficients.
const WORTH_PAIRS: usize = 4096;

impl Reader {
    /// A reader for about `bytes` bytes of data.
    pub(crate) fn new([dc, ac]: [&Codes; 2], bytes: usize) -> Self {
        Self {
            dc: Table::new(dc),
            ac: match bytes < WORTH_PAIRS {
                true => Table::new(ac),
                false => Table::pairs(ac),
            },
            predicted: 0,
        }
    }

    /// Resets the DC prediction, at a restart marker.
    pub(crate) fn restart(&mut self) {
        self.predicted = 0;
    }

    /// Reads a block into lane `lane`, whose coefficients are 0.
    #[inline(always)]
    pub(crate) fn read(
        &mut self,
        bits: &mut Bits,
        blocks: &mut Blocks,
        lane: usize,
    ) -> Result<(), Damage> {
        // Lets the compiler drop the bounds checks.
        let lane = lane % LANES;
        bits.fill();
        let entry = self.dc.entry(bits);
        let difference = if entry.is_none() {
            let found = self.dc.read_long(bits)?;
            bits.fill();
            found.value
        } else {
            entry.take_first(DC_BITS, bits)
        };
        self.predicted = self.predicted.wrapping_add(difference);
        set(blocks, lane, 0, self.predicted);

        // There are 56 bits behind a fill.
        const { assert!(2 * Table::<AC_BITS>::ENTRY_BITS <= 56) };
        // The place of the last coefficient; behind 63, the block's end.
        let mut place = read_some(&self.ac, bits, blocks, lane, 0)?;
        // A step is at most 16, so that the first of two coefficients comes to 62 at most.
        while place < 47 {
            bits.fill();
            place = read_some(&self.ac, bits, blocks, lane, place)?;
            if place < 47 {
                place = read_some(&self.ac, bits, blocks, lane, place)?;
            }
        }
        while place < 63 {
            bits.fill();
            let entry = self.ac.entry(bits);
            if entry.is_none() {
                let found = self.ac.read_long(bits)?;
                place += found.step;
                set(blocks, lane, place, found.value);
            } else {
                place += entry.first_step();
                set(blocks, lane, place, entry.take_first(AC_BITS, bits));
            }
        }
        if place > 63 && place < END {
            return Err(Damage::Invalid);
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
    table: &Table<AC_BITS>,
    bits: &mut Bits,
    blocks: &mut Blocks,
    lane: usize,
    place: u32,
) -> Result<u32, Damage> {
    let entry = table.entry(bits);
    if entry.is_none() {
        bits.fill();
        let found = table.read_long(bits)?;
        set(blocks, lane, place + found.step, found.value);
        return Ok(place + found.step);
    }
    let [first, second] = entry.take(AC_BITS, bits);
    set(blocks, lane, place + entry.first_step(), first);
    set(blocks, lane, place + entry.step(), second);
    Ok(place + entry.step())
}
