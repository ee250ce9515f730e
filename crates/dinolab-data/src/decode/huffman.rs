//! A decoder for the JPEGs that cameras and the web write: Huffman-coded, baseline in one scan or
//! progressive, 8-bit, grey, YCbCr or RGB.
//!
//! In full, its pixels are those of libjpeg, which Pillow and with it the reference read files by, to
//! the bit: the same fixed-point cosine transform, the same interpolation of chroma, the same colours.
//! At half or a quarter of the size only the lowest frequencies are transformed back.
//!
//! Files of other kinds are not its business: it gives `None`, and another decoder has the word. Data
//! that cannot be those of the image are an error: others carry on with whatever the bits seem to mean.
//!
//! A *unit* (MCU in the standard) is the smallest part with whole blocks of all components: up to
//! 4 × 2 blocks of luma and one of each chroma. A *strip* is a row of units.

mod bits;
mod blocks;
mod codes;
mod colours;
mod header;
mod inverse;
mod lowest;
mod pixels;
mod plane;
mod progressive;
mod strips;
mod upsample;

pub(super) use colours::{Colours, Marks};
pub(super) use header::{Header, segment};
pub(super) use pixels::{full, reduced};

/// Pixels of a block's side.
const BLOCK: usize = 8;

/// Blocks that are transformed at a time: vectors hold the same coefficient of each.
const LANES: usize = 16;

/// Blocks side by side: of each coefficient, lowest frequencies first in rows of eight, what sixteen
/// blocks have of it. The row behind them takes what is written past a block's end.
type Blocks = [[i16; LANES]; 65];

/// What is wrong with image data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Damaged {
    /// They end before the image does.
    Short,
    /// They go on behind it.
    Long,
    /// They hold what cannot be.
    Wrong,
}
