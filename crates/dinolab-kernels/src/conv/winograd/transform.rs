//! The transforms of tiles, for all channels at once.

use crate::simd::{LANES, multiversioned};

/// Places of a transformed tile, row by row.
pub(super) const PLACES: usize = 16;

/// One value of each of `N` channels.
type Lanes<const N: usize> = [f32; N];

#[inline(always)]
fn load<const N: usize>(from: &[f32], at: usize) -> &Lanes<N> {
    from[at..].first_chunk().expect("as many channels")
}

#[inline(always)]
fn add<const N: usize>(a: Lanes<N>, b: Lanes<N>) -> Lanes<N> {
    std::array::from_fn(|n| a[n] + b[n])
}

#[inline(always)]
fn sub<const N: usize>(a: Lanes<N>, b: Lanes<N>) -> Lanes<N> {
    std::array::from_fn(|n| a[n] - b[n])
}

#[inline(always)]
fn half<const N: usize>(a: Lanes<N>) -> Lanes<N> {
    a.map(|a| 0.5 * a)
}

/// `Bᵀ` times a column.
#[inline(always)]
fn of_input<const N: usize>([a, b, c, d]: [Lanes<N>; 4]) -> [Lanes<N>; 4] {
    [sub(a, c), add(b, c), sub(c, b), sub(b, d)]
}

/// `Aᵀ` times a column.
#[inline(always)]
fn of_output<const N: usize>([a, b, c, d]: [Lanes<N>; 4]) -> [Lanes<N>; 2] {
    [add(add(a, b), c), sub(sub(b, c), d)]
}

/// `A` times a column.
#[inline(always)]
fn of_output_gradient<const N: usize>([a, b]: [Lanes<N>; 2]) -> [Lanes<N>; 4] {
    [a, add(a, b), sub(a, b), b.map(|b| -b)]
}

/// `G` times a column.
#[inline(always)]
fn of_kernel<const N: usize>([a, b, c]: [Lanes<N>; 3]) -> [Lanes<N>; 4] {
    let sum = add(a, c);
    [a, half(add(sum, b)), half(sub(sum, b)), c]
}

/// `Gᵀ` times a column.
#[inline(always)]
fn of_kernel_gradient<const N: usize>([a, b, c, d]: [Lanes<N>; 4]) -> [Lanes<N>; 3] {
    let sum = half(add(b, c));
    [add(a, sum), half(sub(b, c)), add(sum, d)]
}

/// A transform of the columns of a tile of `F × F` places, and then of the rows, to `T × T` places; of
/// `N` channels. `write` gets the values of each place, by row and column.
#[allow(
    clippy::needless_range_loop,
    reason = "compiled to whole vectors in this form"
)]
#[inline(always)]
fn both<const N: usize, const F: usize, const T: usize>(
    of: impl Fn([Lanes<N>; F]) -> [Lanes<N>; T],
    read: impl Fn(usize, usize) -> Lanes<N>,
    mut write: impl FnMut(usize, usize, &Lanes<N>),
) {
    let mut columns = [[[0.0; N]; F]; T];
    for x in 0..F {
        let column = of(std::array::from_fn(|y| read(y, x)));
        for y in 0..T {
            columns[y][x] = column[y];
        }
    }
    for (y, row) in columns.into_iter().enumerate() {
        for (x, values) in of(row).iter().enumerate() {
            write(y, x, values);
        }
    }
}

#[inline(always)]
fn input_lanes<const N: usize>(
    into: &mut [&mut [f32]; PLACES],
    patch: &[&[f32]; PLACES],
    at: usize,
) {
    let patch: [&[f32; N]; PLACES] = std::array::from_fn(|i| load(patch[i], at));
    let read = |y: usize, x: usize| *patch[4 * y + x];
    both::<N, 4, 4>(of_input, read, |y, x, values| {
        into[4 * y + x][at..at + N].copy_from_slice(values);
    });
}

#[inline(always)]
fn output_lanes<const N: usize>(
    into: &mut [f32],
    places: &[Option<usize>; 4],
    sums: &[&[f32]; PLACES],
    at: usize,
) {
    let sums: [&[f32; N]; PLACES] = std::array::from_fn(|i| load(sums[i], at));
    let read = |y: usize, x: usize| *sums[4 * y + x];
    let mut tile = [[0.0; N]; 4];
    both::<N, 4, 2>(of_output, read, |y, x, values| tile[2 * y + x] = *values);
    for (place, values) in places.iter().zip(&tile) {
        if let Some(place) = place {
            into[place + at..][..N].copy_from_slice(values);
        }
    }
}

#[inline(always)]
fn output_gradient_lanes<const N: usize>(
    into: &mut [&mut [f32]; PLACES],
    pixels: &[&[f32]; 4],
    at: usize,
) {
    let pixels: [&[f32; N]; 4] = std::array::from_fn(|i| load(pixels[i], at));
    let read = |y: usize, x: usize| *pixels[2 * y + x];
    both::<N, 2, 4>(of_output_gradient, read, |y, x, values| {
        into[4 * y + x][at..at + N].copy_from_slice(values);
    });
}

#[inline(always)]
fn kernel_lanes<const N: usize>(
    lines: &mut [&mut [f32]; PLACES],
    from: &[f32],
    factor: f32,
    at: usize,
) {
    let (from, _) = from[9 * at..9 * (at + N)].as_chunks::<9>();
    let read = |y: usize, x: usize| std::array::from_fn(|n| factor * from[n][3 * y + x]);
    both::<N, 3, 4>(of_kernel, read, |y, x, values| {
        lines[4 * y + x][at..at + N].copy_from_slice(values);
    });
}

#[inline(always)]
fn kernel_gradient_lanes<const N: usize>(into: &mut [f32], lines: &[&[f32]; PLACES], at: usize) {
    let lines: [&[f32; N]; PLACES] = std::array::from_fn(|i| load(lines[i], at));
    let read = |y: usize, x: usize| *lines[4 * y + x];
    let (into, _) = into[9 * at..9 * (at + N)].as_chunks_mut::<9>();
    both::<N, 4, 3>(of_kernel_gradient, read, |y, x, values| {
        for (into, value) in into.iter_mut().zip(values) {
            into[3 * y + x] = *value;
        }
    });
}

multiversioned! {
    /// `V` of a tile that sees `patch`, in lines of all channels.
    pub(super) fn input_tile(lines: [&mut [f32]; PLACES], patch: [&[f32]; PLACES]) {
        let mut lines = lines;
        let channels = patch[0].len();
        let whole = channels / LANES * LANES;
        for at in (0..whole).step_by(LANES) {
            input_lanes::<LANES>(&mut lines, &patch, at);
        }
        for at in whole..channels {
            input_lanes::<1>(&mut lines, &patch, at);
        }
    }

    /// `Aᵀ M A` of a tile's `sums` at `places`, row by row; what has no place is left out.
    pub(super) fn output_tile(
        into: &mut [f32],
        places: [Option<usize>; 4],
        sums: [&[f32]; PLACES],
    ) {
        let outputs = sums[0].len();
        let whole = outputs / LANES * LANES;
        for at in (0..whole).step_by(LANES) {
            output_lanes::<LANES>(into, &places, &sums, at);
        }
        for at in whole..outputs {
            output_lanes::<1>(into, &places, &sums, at);
        }
    }

    /// `A dy Aᵀ` of a tile's gradient, in lines of all outputs.
    pub(super) fn output_gradient_tile(lines: [&mut [f32]; PLACES], pixels: [&[f32]; 4]) {
        let mut lines = lines;
        let outputs = pixels[0].len();
        let whole = outputs / LANES * LANES;
        for at in (0..whole).step_by(LANES) {
            output_gradient_lanes::<LANES>(&mut lines, &pixels, at);
        }
        for at in whole..outputs {
            output_gradient_lanes::<1>(&mut lines, &pixels, at);
        }
    }

    /// `U` of the kernels `[I, 3, 3]`, multiplied by a factor, in lines `[I]`.
    pub(super) fn kernel_tile(lines: [&mut [f32]; PLACES], from: &[f32], factor: f32) {
        let mut lines = lines;
        let inputs = from.len() / 9;
        let whole = inputs / LANES * LANES;
        for at in (0..whole).step_by(LANES) {
            kernel_lanes::<LANES>(&mut lines, from, factor, at);
        }
        for at in whole..inputs {
            kernel_lanes::<1>(&mut lines, from, factor, at);
        }
    }

    /// The gradient of kernels `[I, 3, 3]` from that of `U`, in lines `[I]`.
    pub(super) fn kernel_gradient_tile(into: &mut [f32], lines: [&[f32]; PLACES]) {
        let inputs = into.len() / 9;
        let whole = inputs / LANES * LANES;
        for at in (0..whole).step_by(LANES) {
            kernel_gradient_lanes::<LANES>(into, &lines, at);
        }
        for at in whole..inputs {
            kernel_gradient_lanes::<1>(into, &lines, at);
        }
    }
}
