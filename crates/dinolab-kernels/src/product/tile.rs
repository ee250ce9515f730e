//! The innermost loops: a tile of the result is summed in registers.
//!
//! One body serves every processor, over a handful of vector instructions of each. Each value of
//! the left operand is spread over a vector and meets a line of the right one; on the processors
//! measured that reaches the peak (see the documentation on performance).

use std::sync::LazyLock;

/// The vector instructions that products use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(dead_code)] // Some exist on one architecture only.
pub(crate) enum Level {
    /// AVX-512: 32 registers of 16 lanes.
    Avx512,
    /// AVX2 with fused multiply-add: 16 registers of 8 lanes.
    Avx2,
    /// NEON, which every 64-bit ARM has: 32 registers of 4 lanes.
    Neon,
    /// The compilation target's baseline.
    Portable,
}

/// The best level of this processor.
pub(crate) fn level() -> Level {
    static LEVEL: LazyLock<Level> = LazyLock::new(|| available()[0]);
    *LEVEL
}

/// The vector instructions that products use on this processor: `AVX-512`, `AVX2`, `NEON`, or
/// `baseline` for those of the compilation target.
pub fn instructions() -> &'static str {
    match level() {
        Level::Avx512 => "AVX-512",
        Level::Avx2 => "AVX2",
        Level::Neon => "NEON",
        Level::Portable => "baseline",
    }
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
    #[cfg(target_arch = "aarch64")]
    levels.push(Level::Neon);
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

/// Values of a cache line.
const CACHE_LINE: usize = 16;
/// Lines of the right operand from which the processor fetches ahead: a sliver is often larger than the L1
/// cache, and comes from the next one again for every tile.
const AHEAD: usize = 12;

/// The tiles of one level, over its vectors: `V` of `LANES` values with `zero`, `load`, `splat`,
/// `mul_add`, `store` and `prefetch`, which are in scope, compiled for `$features`. Heights of tiles: the
/// first is a sliver's.
macro_rules! tiles {
    ([$most:literal $(, $fewer:literal)*] $(, $features:literal)?) => {
        /// Columns of a tile: two vectors.
        const WIDTH: usize = 2 * LANES;

        /// One tile of `M` rows and `N` vectors, of which `rows` and `columns` are stored.
        ///
        /// # Safety
        /// The operands and the destination have the sizes in `sweep`, and the destination is this
        /// task's alone.
        $(#[target_feature(enable = $features)])?
        #[inline]
        unsafe fn tile<const M: usize, const N: usize, const STEP: usize>(
            sweep: &Sweep,
            [a, b]: [*const f32; 2],
            into: *mut f32,
            [rows, columns]: [usize; 2],
        ) {
            // SAFETY: places inside of the operands and the destination, by the caller's promise.
            unsafe {
                // A row beyond the last reads the last again; its sums are not stored. In
                // slivers, rows lie side by side and are padded.
                let starts: [*const f32; M] = std::array::from_fn(|i| {
                    a.add(if STEP == 1 { i.min(rows - 1) * sweep.row } else { i })
                });
                let mut sums = [[zero(); N]; M];
                for p in 0..sweep.depth {
                    let line: [V; N] = std::array::from_fn(|j| load(b.add(p * WIDTH + j * LANES)));
                    for value in (0..N * LANES).step_by(CACHE_LINE) {
                        prefetch(b.wrapping_add((p + AHEAD) * WIDTH + value));
                    }
                    for i in 0..M {
                        let x = splat(*starts[i].add(p * STEP));
                        for j in 0..N {
                            sums[i][j] = mul_add(x, line[j], sums[i][j]);
                        }
                    }
                }
                let scale = splat(sweep.scale);
                // Whole tiles have all indices known at compilation; an index that is not would
                // bring the tile from registers to memory, for all of its sums.
                if rows == M && columns == N * LANES {
                    for i in 0..M {
                        for j in 0..N {
                            let at = into.add(i * sweep.stride + j * LANES);
                            let before = if sweep.add { load(at) } else { zero() };
                            store(at, mul_add(scale, sums[i][j], before));
                        }
                    }
                    return;
                }
                let mut spilled = [[0.0; WIDTH]; M];
                for i in 0..M {
                    for j in 0..N {
                        let sum = mul_add(scale, sums[i][j], zero());
                        store(spilled[i].as_mut_ptr().add(j * LANES), sum);
                    }
                }
                for (i, line) in spilled.iter().enumerate().take(rows) {
                    for (j, sum) in line.iter().enumerate().take(columns) {
                        let at = into.add(i * sweep.stride + j);
                        at.write(if sweep.add { *at + sum } else { *sum });
                    }
                }
            }
        }

        /// All tiles of a product, whose left operand is read in place (`STEP` 1) or in slivers.
        ///
        /// # Safety
        /// As for [`tile`].
        $(#[target_feature(enable = $features)])?
        unsafe fn all<const STEP: usize>(s: &Sweep) {
            for left in (0..s.columns).step_by(WIDTH) {
                let columns = (s.columns - left).min(WIDTH);
                for top in (0..s.rows).step_by($most) {
                    let rows = (s.rows - top).min($most);
                    let size = [rows, columns];
                    // SAFETY: inside of the operands and the destination, as promised.
                    unsafe {
                        let a = s.a.add(if STEP == 1 { top * s.row } else { top * s.depth });
                        let operands = [a, s.b.add(left * s.depth)];
                        let into = s.into.add(top * s.stride + left);
                        let wide = columns > LANES;
                        $(
                            if rows <= $fewer {
                                if wide {
                                    tile::<$fewer, 2, STEP>(s, operands, into, size);
                                } else {
                                    tile::<$fewer, 1, STEP>(s, operands, into, size);
                                }
                                continue;
                            }
                        )*
                        if wide {
                            tile::<$most, 2, STEP>(s, operands, into, size);
                        } else {
                            tile::<$most, 1, STEP>(s, operands, into, size);
                        }
                    }
                }
            }
        }

        /// Computes a product.
        ///
        /// # Safety
        /// As for [`tile`]; the processor has the features that this is compiled for.
        pub(super) unsafe fn run(s: &Sweep) {
            debug_assert!(s.step == 1 || s.step == $most);
            // SAFETY: the caller's promise.
            unsafe {
                if s.step == 1 { all::<1>(s) } else { all::<$most>(s) }
            }
        }
    };
}

/// The vectors of an x86 level, by its intrinsics.
#[cfg(target_arch = "x86_64")]
macro_rules! x86 {
    ($type:ident, $zero:ident, $load:ident, $splat:ident, $mul_add:ident, $store:ident) => {
        use std::arch::x86_64::{
            $load as load, $mul_add as mul_add, $splat as splat, $store as store, $type as V,
            $zero as zero,
        };
        const LANES: usize = size_of::<V>() / size_of::<f32>();
        use super::{AHEAD, CACHE_LINE, prefetch};
    };
}

/// Fetches what is at an address into the L1 cache, if there is anything.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn prefetch(at: *const f32) {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    // SAFETY: nothing is read as far as the program can tell, whatever the address.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) };
}

/// 32 registers of 16 lanes.
#[cfg(target_arch = "x86_64")]
mod avx512 {
    use super::Sweep;
    x86!(
        __m512,
        _mm512_setzero_ps,
        _mm512_loadu_ps,
        _mm512_set1_ps,
        _mm512_fmadd_ps,
        _mm512_storeu_ps
    );
    tiles!([8, 1, 2, 4], "avx512f");
}

/// 16 registers of 8 lanes.
#[cfg(target_arch = "x86_64")]
mod avx2 {
    use super::Sweep;
    x86!(
        __m256,
        _mm256_setzero_ps,
        _mm256_loadu_ps,
        _mm256_set1_ps,
        _mm256_fmadd_ps,
        _mm256_storeu_ps
    );
    tiles!([6, 1, 2, 4], "avx2,fma");
}

/// 32 registers of 4 lanes: 16 sums in flight keep four units busy for a latency of four cycles.
#[cfg(target_arch = "aarch64")]
mod neon {
    use std::arch::aarch64::{
        float32x4_t as V, vdupq_n_f32 as splat, vfmaq_f32, vld1q_f32 as load, vst1q_f32 as store,
    };

    use super::{AHEAD, CACHE_LINE, Sweep};

    const LANES: usize = size_of::<V>() / size_of::<f32>();

    /// Not measured on any of these processors.
    fn prefetch(_: *const f32) {}

    #[target_feature(enable = "neon")]
    #[inline]
    fn zero() -> V {
        splat(0.0)
    }
    #[target_feature(enable = "neon")]
    #[inline]
    fn mul_add(a: V, b: V, c: V) -> V {
        vfmaq_f32(c, a, b)
    }
    tiles!([8, 1, 2, 4], "neon");
}

/// Any processor, by arrays that the compiler turns into its vectors.
mod portable {
    use super::{AHEAD, CACHE_LINE, Sweep};
    use crate::simd::fma;

    const LANES: usize = 4;
    type V = [f32; LANES];

    fn prefetch(_: *const f32) {}

    #[inline(always)]
    fn zero() -> V {
        [0.0; LANES]
    }
    #[inline(always)]
    fn splat(x: f32) -> V {
        [x; LANES]
    }
    /// # Safety
    /// `LANES` values can be read.
    #[inline(always)]
    unsafe fn load(from: *const f32) -> V {
        // SAFETY: the caller's promise.
        unsafe { from.cast::<V>().read_unaligned() }
    }
    #[inline(always)]
    fn mul_add(a: V, b: V, c: V) -> V {
        const FUSED: bool = cfg!(target_arch = "aarch64");
        std::array::from_fn(|i| fma::<FUSED>(a[i], b[i], c[i]))
    }
    /// # Safety
    /// `LANES` values can be written.
    #[inline(always)]
    unsafe fn store(into: *mut f32, x: V) {
        // SAFETY: the caller's promise.
        unsafe { into.cast::<V>().write_unaligned(x) }
    }
    tiles!([4, 1, 2]);
}

impl Level {
    /// Rows of a tile, and of a sliver of a left operand.
    pub(super) fn rows(self) -> usize {
        match self {
            Self::Avx512 => 8,
            Self::Avx2 => 6,
            Self::Neon => 8,
            Self::Portable => 4,
        }
    }

    /// Columns of a tile, and of a sliver of a right operand.
    pub(crate) fn columns(self) -> usize {
        match self {
            Self::Avx512 => 32,
            Self::Avx2 => 16,
            Self::Neon | Self::Portable => 8,
        }
    }

    /// Computes a product.
    ///
    /// # Safety
    /// The operands and the destination have the sizes in `sweep`; the destination is the caller's
    /// alone, and initialised if it is added to; the level is one of the processor's.
    pub(super) unsafe fn run(self, s: &Sweep) {
        // SAFETY: the caller's promises.
        unsafe {
            match self {
                #[cfg(target_arch = "x86_64")]
                Self::Avx512 => avx512::run(s),
                #[cfg(target_arch = "x86_64")]
                Self::Avx2 => avx2::run(s),
                #[cfg(target_arch = "aarch64")]
                Self::Neon => neon::run(s),
                _ => portable::run(s),
            }
        }
    }
}
