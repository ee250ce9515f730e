//! Entropy-coded data to coefficients.

use super::bits::Bits;
use super::codes::{Codes, Direct, END, Other};
use super::{Blocks, Damaged, LANES};

/// Places of the coefficients in a block, `8 · row + column`, in the order of the file; 64 for what
/// is behind a block's end.
const PLACES: [u8; 256] = {
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

/// What the blocks of a component are read by.
pub(super) struct Reader {
    direct: Direct,
    other: Other,
    /// The direct coefficient of the block before.
    predicted: i32,
}

impl Reader {
    pub(super) fn new([direct, other]: [&Codes; 2]) -> Self {
        Self {
            direct: Direct::new(direct),
            other: Other::new(other),
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
        let mut set = |next: u32, value: i16| {
            blocks[usize::from(PLACES[usize::from(next as u8)])][lane] = value;
        };
        bits.fill();
        self.predicted = self.predicted.wrapping_add(self.direct.read(bits)?);
        set(0, self.predicted as i16);
        // The place of the last coefficient; behind 63, the block's end.
        let mut place = 0;
        // A step is at most 16, so that the first of two coefficients comes to 62 at most.
        while place < 47 {
            bits.fill();
            place = self.other.read_some(bits, place, &mut set)?;
            if place < 47 {
                // Of 56 bits, 25 at most were read.
                place = self.other.read_some(bits, place, &mut set)?;
            }
        }
        while place < 63 {
            bits.fill();
            place = self.other.read_one(bits, place, &mut set)?;
        }
        if place > 63 && place < END {
            return Err(Damaged);
        }
        Ok(())
    }
}
