//! Filter weights along one side, in Pillow's fixed point.

use std::ops::Range;

use multiversion::multiversion;

use super::filter::Filter;

/// Bits behind the point: 8 of the value and 2 of overshoot fit into 32 with them.
pub(super) const BITS: u32 = 32 - 8 - 2;
/// From here on, numbers of double precision are whole.
const WHOLE: f64 = 4_503_599_627_370_496.0;

/// Which values make up each value of the result, and by how much. Keeps its buffers.
#[derive(Clone, Debug, Default)]
pub(super) struct FilterWeights {
    taps: usize,
    starts: Vec<usize>,
    values: Vec<i32>,
    columns: Columns,
}

/// FilterWeights of all results at once, tap by tap: one vector instruction serves many results.
#[derive(Clone, Debug, Default)]
struct Columns {
    centres: Vec<f64>,
    firsts: Vec<f64>,
    ends: Vec<f64>,
    starts: Vec<f64>,
    sums: Vec<f64>,
    shares: Vec<f64>,
}

impl FilterWeights {
    /// FilterWeights for a side of `from` pixels made into `to`, both above 0.
    pub(super) fn set(&mut self, from: usize, to: usize, filter: Filter) {
        self.set_part((0.0, from as f64), from, to, filter);
    }

    /// [`FilterWeights::set`] for the part from `start` to `end` of a side of `from` pixels, all of which it
    /// touches: those at its ends count for as much of them as is inside.
    pub(super) fn set_part(
        &mut self,
        (start, end): (f64, f64),
        from: usize,
        to: usize,
        filter: Filter,
    ) {
        self.set_window((start, end), from, (to, 0..to), filter);
    }

    /// [`FilterWeights::set_part`] for the results of a range only.
    fn set_window(
        &mut self,
        (start, end): (f64, f64),
        from: usize,
        (to, window): (usize, Range<usize>),
        filter: Filter,
    ) {
        let scale = (end - start) / to as f64;
        let stretch = scale.max(1.0);
        let support = filter.support() * stretch;
        let columns = &mut self.columns;
        let side = from as f64;
        for values in [
            &mut columns.centres,
            &mut columns.firsts,
            &mut columns.ends,
            &mut columns.starts,
        ] {
            values.resize(window.len(), 0.0);
        }
        let taps = columns.place((start, scale), support, side, window.start);
        // All results get as many taps, of weight 0 where they need fewer.
        self.taps = taps;
        self.starts.clear();
        let starts = columns.starts.iter().map(|&start| start as usize);
        self.starts.extend(starts);
        let size = columns.shares_of(taps, 1.0 / stretch, filter);
        if start > 0.0 || end < side {
            columns.count(taps, 0.0, 1.0 - start);
            columns.count(taps, side - 1.0, end - (side - 1.0));
        }
        self.values.resize(size, 0);
        columns.write_fixed_point(taps, &mut self.values);
    }

    /// [`FilterWeights::set`] for the results of `window` only; gives the pixels that have a part in them,
    /// from which taps are counted.
    pub(super) fn set_whole_window(
        &mut self,
        from: usize,
        to: usize,
        window: Range<usize>,
        filter: Filter,
    ) -> Range<usize> {
        self.set_window((0.0, from as f64), from, (to, window), filter);
        let first = self.starts.iter().copied().min().unwrap_or(0);
        let last = self.starts.iter().copied().max().unwrap_or(0) + self.taps;
        self.starts.iter_mut().for_each(|start| *start -= first);
        first..last
    }

    /// First tap and weights of each result.
    pub(super) fn iter(&self) -> impl Iterator<Item = (usize, &[i32])> {
        self.starts
            .iter()
            .copied()
            .zip(self.values.chunks_exact(self.taps.max(1)))
    }
}

impl Columns {
    /// Sets the places of as many results as there are, the first of which has the number `number`;
    /// gives the most taps that one of them has.
    fn place(
        &mut self,
        (start, scale): (f64, f64),
        support: f64,
        side: f64,
        number: usize,
    ) -> usize {
        let Self {
            centres,
            firsts,
            ends,
            starts,
            ..
        } = self;
        let first = number as u32;
        spans(start, scale, support, side, first, centres, firsts, ends);
        let lengths = firsts.iter().zip(&*ends).map(|(first, end)| end - first);
        let taps = lengths.fold(0.0, f64::max);
        for (start, first) in starts.iter_mut().zip(firsts) {
            *start = first.min(side - taps);
        }
        taps as usize
    }

    /// Not yet normalised weights `[taps, results]` and their sums; gives their number.
    fn shares_of(&mut self, taps: usize, squeeze: f64, filter: Filter) -> usize {
        let results = self.centres.len();
        self.shares.resize(taps * results, 0.0);
        self.sums.clear();
        self.sums.resize(results, 0.0);
        for (tap, shares) in self.shares.chunks_exact_mut(results).enumerate() {
            let places = Places {
                tap: tap as f64,
                squeeze,
                starts: &self.starts,
                firsts: &self.firsts,
                ends: &self.ends,
                centres: &self.centres,
            };
            match filter {
                Filter::Bicubic => bicubic(&places, shares, &mut self.sums),
                Filter::Bilinear => places.weigh(shares, &mut self.sums, triangle),
                Filter::Lanczos => places.weigh(shares, &mut self.sums, lanczos),
            }
        }
        taps * results
    }

    /// Lets the pixel at `place` count for a share only.
    fn count(&mut self, taps: usize, place: f64, share: f64) {
        let results = self.centres.len();
        for i in 0..results {
            let tap = (place - self.starts[i]) as usize;
            if self.starts[i] <= place && tap < taps {
                let weight = &mut self.shares[tap * results + i];
                self.sums[i] -= *weight * (1.0 - share);
                *weight *= share;
            }
        }
    }

    /// FilterWeights `[results, taps]` in fixed point, rounded away from 0.
    fn write_fixed_point(&mut self, taps: usize, values: &mut [i32]) {
        let results = self.sums.len();
        for (tap, shares) in self.shares.chunks_exact_mut(results).enumerate() {
            normalise(shares, &self.sums);
            for (share, values) in shares.iter().zip(values.chunks_exact_mut(taps)) {
                // The whole number stands in the lowest bits.
                values[tap] = (share + 1.5 * WHOLE).to_bits() as i32;
            }
        }
    }
}

/// `⌊x⌋` for `x` from 0 to below [`WHOLE`].
#[inline(always)]
fn cut(x: f64) -> f64 {
    let near = (x + WHOLE) - WHOLE;
    if near > x { near - 1.0 } else { near }
}

/// The centre of each result, the first tap and the one behind the last; results are numbered from
/// `number`.
#[allow(clippy::too_many_arguments, reason = "slices of one loop")]
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl+avx512dq", "x86_64+avx2+fma"))]
fn spans(
    start: f64,
    scale: f64,
    support: f64,
    side: f64,
    number: u32,
    centres: &mut [f64],
    firsts: &mut [f64],
    ends: &mut [f64],
) {
    let spans = centres.iter_mut().zip(firsts).zip(ends);
    for (x, ((centre, first), end)) in (number..).zip(spans) {
        *centre = start + (f64::from(x) + 0.5) * scale;
        *first = cut((*centre - support + 0.5).max(0.0));
        *end = cut(*centre + support + 0.5).min(side);
    }
}

/// Where one tap of each result lies.
struct Places<'a> {
    tap: f64,
    squeeze: f64,
    starts: &'a [f64],
    firsts: &'a [f64],
    ends: &'a [f64],
    centres: &'a [f64],
}

impl Places<'_> {
    #[inline(always)]
    fn weigh(&self, shares: &mut [f64], sums: &mut [f64], kernel: impl Fn(f64) -> f64) {
        let n = shares.len();
        let (starts, firsts) = (&self.starts[..n], &self.firsts[..n]);
        let (ends, centres, sums) = (&self.ends[..n], &self.centres[..n], &mut sums[..n]);
        for i in 0..n {
            let at = starts[i] + self.tap;
            let weight = kernel((at - centres[i] + 0.5) * self.squeeze);
            let weight = if at < firsts[i] { 0.0 } else { weight };
            let weight = if at >= ends[i] { 0.0 } else { weight };
            shares[i] = weight;
            sums[i] += weight;
        }
    }
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl+avx512dq", "x86_64+avx2+fma"))]
fn bicubic<'a>(places: &Places<'a>, shares: &mut [f64], sums: &mut [f64]) {
    const A: f64 = -0.5;
    places.weigh(shares, sums, |x| {
        let x = x.abs();
        let near = ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0;
        let far = (((x - 5.0) * x + 8.0) * x - 4.0) * A;
        let far = if x < 2.0 { far } else { 0.0 };
        if x < 1.0 { near } else { far }
    });
}

fn triangle(x: f64) -> f64 {
    (1.0 - x.abs()).max(0.0)
}

fn lanczos(x: f64) -> f64 {
    let sinc = |x: f64| {
        let x = x * std::f64::consts::PI;
        if x == 0.0 { 1.0 } else { x.sin() / x }
    };
    if (-3.0..3.0).contains(&x) {
        sinc(x) * sinc(x / 3.0)
    } else {
        0.0
    }
}

/// To whole numbers of the fixed point.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl+avx512dq", "x86_64+avx2+fma"))]
fn normalise(shares: &mut [f64], sums: &[f64]) {
    for (share, sum) in shares.iter_mut().zip(sums) {
        let sum = if *sum == 0.0 { 1.0 } else { *sum };
        let fixed = *share / sum * f64::from(1 << BITS);
        let size = cut(fixed.abs() + 0.5);
        *share = if fixed < 0.0 { -size } else { size };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn weights_sum_to_one(from in 1usize..400, to in 1usize..400, which in 0usize..3) {
            let filter = [Filter::Bicubic, Filter::Bilinear, Filter::Lanczos][which];
            let mut weights = FilterWeights::default();
            // Buffers of another size must not show.
            weights.set(to, from, filter);
            weights.set(from, to, filter);
            prop_assert_eq!(weights.iter().count(), to);
            for (start, values) in weights.iter() {
                prop_assert!(start + values.len() <= from);
                let sum: i64 = values.iter().map(|&value| i64::from(value)).sum();
                // Each weight is rounded by at most a half.
                prop_assert!((sum - (1 << BITS)).unsigned_abs() <= values.len() as u64 / 2 + 1);
                // No sum of such weights and 8-bit values leaves 32 bits.
                let all: i64 = values.iter().map(|&value| i64::from(value).abs()).sum();
                prop_assert!(all * 255 + (1 << (BITS - 1)) < i64::from(i32::MAX));
            }
        }

        #[test]
        fn a_part_is_weighed_by_what_is_inside(
            from in 1usize..400, to in 1usize..400, start in 0.0f64..1.0, missing in 0.0f64..1.0,
        ) {
            let end = from as f64 - missing;
            prop_assume!(end > start);
            let mut weights = FilterWeights::default();
            weights.set_part((start, end), from, to, Filter::Bicubic);
            let scale = (end - start) / to as f64;
            for (x, (first, values)) in weights.iter().enumerate() {
                prop_assert!(first + values.len() <= from);
                let sum: i64 = values.iter().map(|&value| i64::from(value)).sum();
                prop_assert!((sum - (1 << BITS)).unsigned_abs() <= values.len() as u64 / 2 + 1);
                // Away from the ends, a ramp comes out as itself: every result is at its place.
                let centre = start + (x as f64 + 0.5) * scale;
                let reach = 2.0 * scale.max(1.0) + 2.0;
                if scale >= 2.0 && centre > reach && centre + reach < from as f64 {
                    let places = values.iter().enumerate();
                    let mean: f64 = places
                        .map(|(tap, &value)| ((first + tap) as f64 + 0.5) * f64::from(value))
                        .sum::<f64>() / f64::from(1 << BITS);
                    prop_assert!((mean - centre).abs() < 0.05 * scale, "{} {}", mean, centre);
                }
            }
        }

        #[test]
        fn less_of_a_pixel_weighs_less(share in 0.0f64..0.99) {
            let weigh = |start: f64| {
                let mut weights = FilterWeights::default();
                weights.set_part((start, 20.0), 20, 2, Filter::Bilinear);
                let (first, values) = weights.iter().next().unwrap_or_default();
                (first, values.first().copied().unwrap_or_default())
            };
            let ((first, whole), (same, part)) = (weigh(0.0), weigh(share));
            prop_assert_eq!((first, same), (0, 0));
            prop_assert!(part <= whole);
            prop_assert!((f64::from(part) / f64::from(whole) - (1.0 - share)).abs() < 0.2);
        }

        #[test]
        fn the_same_size_changes_nothing(side in 1usize..300) {
            let mut weights = FilterWeights::default();
            weights.set(side, side, Filter::Bicubic);
            for (x, (start, values)) in weights.iter().enumerate() {
                for (tap, &value) in values.iter().enumerate() {
                    prop_assert_eq!(value, if start + tap == x { 1 << BITS } else { 0 });
                }
            }
        }
    }
}
