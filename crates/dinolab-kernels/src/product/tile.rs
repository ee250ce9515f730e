//! The innermost loops: a tile of the result is summed in registers.
//!
//! One body serves every processor. Compiled with a processor's vectors enabled, the compiler
//! keeps the whole tile in registers and each innermost loop becomes fused multiply-adds,
//! which reach the processor's peak (measured; see the documentation on performance).

use std::sync::LazyLock;

use crate::simd::fma;

/// What the processor can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(dead_code)] // Some exist on one architecture only.
pub(crate) enum Level {
    /// AVX-512: 32 registers of 16 lanes.
    Avx512,
    /// AVX2 with fused multiply-add: 16 registers of 8 lanes.
    Avx2,
    /// The compilation's own target on aarch64: 32 registers of 4 lanes.
    Neon,
    /// The compilation's own target elsewhere: 16 registers of 4 lanes.
    Portable,
}

/// The best level of this processor.
pub(crate) fn level() -> Level {
    static LEVEL: LazyLock<Level> = LazyLock::new(|| available()[0]);
    *LEVEL
}

/// All levels of this processor, the best one first.
pub(super) fn available() -> Vec<Level> {
    let mut levels = Vec::new();
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f") {
            levels.push(Level::Avx512);
        }
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            levels.push(Level::Avx2);
        }
    }
    if cfg!(target_arch = "aarch64") {
        levels.push(Level::Neon);
    }
    levels.push(Level::Portable);
    levels
}

/// A product of a left operand, read in place or in slivers, with one depth of a packed right
/// operand.
pub(super) struct Sweep {
    /// Length of the sums.
    pub depth: usize,
    /// Rows of the result.
    pub rows: usize,
    /// Columns of the result.
    pub columns: usize,
    /// The left operand.
    pub a: *const f32,
    /// Distance of its rows, where it is read in place.
    pub row: usize,
    /// Distance of its columns: 1 where it is read in place, else the rows of a sliver.
    pub step: usize,
    /// The first sliver of the right operand.
    pub b: *const f32,
    /// The result.
    pub into: *mut f32,
    /// Distance of its rows.
    pub stride: usize,
    /// The sums are multiplied by this.
    pub scale: f32,
    /// They are added to what is there.
    pub add: bool,
}

/// One tile of `M × N`: `rows ≤ M` and `columns ≤ N` of it are stored. Distances of the right
/// operand's rows: `WIDTH`.
///
/// # Safety
/// The operands hold what `sweep` says, and the destination is this task's.
#[inline(always)]
unsafe fn tile<
    const M: usize,
    const N: usize,
    const WIDTH: usize,
    const STEP: usize,
    const FMA: bool,
>(
    sweep: &Sweep,
    [a, b]: [*const f32; 2],
    into: *mut f32,
    [rows, columns]: [usize; 2],
) {
    // A row beyond the last reads the last again; its sums are not stored. In slivers, rows lie
    // side by side and are padded.
    let starts: [*const f32; M] = std::array::from_fn(|i| {
        let offset = if STEP == 1 {
            i.min(rows - 1) * sweep.row
        } else {
            i
        };
        // SAFETY: a row of the operand.
        unsafe { a.add(offset) }
    });
    let mut sums = [[0.0; N]; M];
    for p in 0..sweep.depth {
        // SAFETY: line `p` of the sliver has `WIDTH ≥ N` values.
        let line: &[f32; N] = unsafe { &*b.add(p * WIDTH).cast() };
        for i in 0..M {
            // SAFETY: column `p` of a row of the operand.
            let x = unsafe { *starts[i].add(p * STEP) };
            for j in 0..N {
                sums[i][j] = fma::<FMA>(x, line[j], sums[i][j]);
            }
        }
    }
    for (i, sums) in sums.iter().enumerate().take(rows) {
        // SAFETY: row `i` of the destination.
        let start = unsafe { into.add(i * sweep.stride) };
        if columns == N {
            if sweep.add {
                // SAFETY: `N` columns belong to the destination, and are initialised.
                let line: &mut [f32; N] = unsafe { &mut *start.cast() };
                for j in 0..N {
                    line[j] = fma::<FMA>(sweep.scale, sums[j], line[j]);
                }
            } else {
                let line: [f32; N] = std::array::from_fn(|j| sums[j] * sweep.scale);
                // SAFETY: as above, and not read.
                unsafe { start.cast::<[f32; N]>().write(line) };
            }
        } else {
            for (j, sum) in sums.iter().enumerate().take(columns) {
                // SAFETY: column `j` belongs to the destination, initialised where it is read.
                unsafe {
                    let at = start.add(j);
                    let before = if sweep.add { *at } else { 0.0 };
                    at.write(fma::<FMA>(sweep.scale, *sum, before));
                }
            }
        }
    }
}

/// Defines a level's sweep over all tiles: heights of tiles (the first is a sliver's), a
/// sliver's width, half of it, and whether multiply-add is fused.
macro_rules! sweep {
    ($(#[$meta:meta])* $name:ident, [$most:literal $(, $fewer:literal)*], $width:literal, $half:literal, $fma:expr) => {
        /// # Safety
        /// As for [`tile`]; the processor has the features this is compiled for.
        $(#[$meta])*
        unsafe fn $name(s: &Sweep) {
            /// # Safety
            /// As for [`tile`].
            #[inline(always)]
            unsafe fn all<const STEP: usize>(s: &Sweep) {
                for left in (0..s.columns).step_by($width) {
                    let columns = (s.columns - left).min($width);
                    for top in (0..s.rows).step_by($most) {
                        let rows = (s.rows - top).min($most);
                        let size = [rows, columns];
                        // SAFETY: inside of the operands and the destination, as promised.
                        unsafe {
                            let a = s.a.add(if STEP == 1 { top * s.row } else { top * s.depth });
                            let operands = [a, s.b.add(left * s.depth)];
                            let into = s.into.add(top * s.stride + left);
                            let wide = columns > $half;
                            $(
                                if rows <= $fewer {
                                    if wide {
                                        tile::<$fewer, $width, $width, STEP, { $fma }>(s, operands, into, size);
                                    } else {
                                        tile::<$fewer, $half, $width, STEP, { $fma }>(s, operands, into, size);
                                    }
                                    continue;
                                }
                            )*
                            if wide {
                                tile::<$most, $width, $width, STEP, { $fma }>(s, operands, into, size);
                            } else {
                                tile::<$most, $half, $width, STEP, { $fma }>(s, operands, into, size);
                            }
                        }
                    }
                }
            }
            // SAFETY: the caller's promise.
            unsafe {
                if s.step == 1 { all::<1>(s) } else { all::<$most>(s) }
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
sweep!(
    #[target_feature(enable = "avx512f,avx2,fma")]
    avx512,
    [8, 1, 2, 4],
    32,
    16,
    true
);
#[cfg(target_arch = "x86_64")]
sweep!(
    #[target_feature(enable = "avx2,fma")]
    avx2,
    [6, 1, 2, 4],
    16,
    8,
    true
);
#[cfg(target_arch = "aarch64")]
sweep!(neon, [6, 1, 2, 4], 16, 8, true);
sweep!(portable, [4, 1, 2], 8, 4, cfg!(target_arch = "aarch64"));

impl Level {
    /// Rows of a tile, and of a sliver of a left operand.
    pub(super) fn rows(self) -> usize {
        match self {
            Self::Avx512 => 8,
            Self::Avx2 | Self::Neon => 6,
            Self::Portable => 4,
        }
    }

    /// Columns of a tile, and of a sliver of a right operand.
    pub(crate) fn columns(self) -> usize {
        match self {
            Self::Avx512 => 32,
            Self::Avx2 | Self::Neon => 16,
            Self::Portable => 8,
        }
    }

    /// Computes a product.
    ///
    /// # Safety
    /// The operands hold what `sweep` says; the destination is the caller's alone, and
    /// initialised where it is added to; the level is one of the processor's.
    pub(super) unsafe fn run(self, s: &Sweep) {
        debug_assert!(s.step == 1 || s.step == self.rows());
        // SAFETY: the caller's promises.
        unsafe {
            match self {
                #[cfg(target_arch = "x86_64")]
                Self::Avx512 => avx512(s),
                #[cfg(target_arch = "x86_64")]
                Self::Avx2 => avx2(s),
                #[cfg(target_arch = "aarch64")]
                Self::Neon => neon(s),
                _ => portable(s),
            }
        }
    }
}
