//! The unit of work of the transforms: the same coefficient of sixteen blocks at a time.

/// Pixels of a block's side.
pub(crate) const BLOCK: usize = 8;

/// Blocks that are transformed at a time: vectors hold the same coefficient of each.
pub(crate) const LANES: usize = 16;

/// Blocks side by side: of each coefficient, lowest frequencies first in rows of eight, what sixteen
/// blocks have of it. The row behind them takes what is written past a block's end.
pub(crate) type Blocks = [[i16; LANES]; 65];
