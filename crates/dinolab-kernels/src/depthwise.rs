//! Depthwise 7×7 convolutions over images with channels last, as ConvNeXt has them (Liu et al.,
//! arXiv 2201.03545, section 2.5).
//!
//! Each channel of an image `[H, W, C]` is convolved with a kernel of its own, at stride 1 and with three
//! zeros on each side, so that the size stays. Sixteen channels at a time of a few rows are copied with
//! their border into a dense block that stays in cache. No position is then at an edge, and sums over
//! the kernel stay in registers for several positions of a row.

use std::ops::Range;

use rayon::prelude::*;

use crate::scratch::Scratch;
use crate::simd::{LANES, fma, multiversioned};

/// Side of the kernel.
const SIDE: usize = 7;
/// Zeros around an image, on each side.
const BORDER: usize = SIDE / 2;
/// Places in the kernel.
const PLACES: usize = SIDE * SIDE;
/// The most rows and columns of a block, without its border: with it, about 30 KiB.
const BLOCK: [usize; 2] = [8, 28];
/// Images whose share in the gradient of the weights is summed by one task.
const GROUP: usize = 8;

/// Values of some channels.
type Lane = [f32; LANES];

/// The sizes of images that a depthwise convolution leaves as they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DepthwiseShape {
    /// Number of images, `B`.
    pub images: usize,
    /// Rows of an image, `H`.
    pub height: usize,
    /// Columns of an image, `W`.
    pub width: usize,
    /// Channels, `C`, at least one.
    pub channels: usize,
}

/// Gradients of the parameters of a depthwise convolution.
#[derive(Clone, Debug, PartialEq)]
pub struct DepthwiseGradients {
    /// Of the weights, `[C, 7, 7]`.
    pub weight: Vec<f32>,
    /// Of the bias, `[C]`.
    pub bias: Vec<f32>,
}

impl DepthwiseShape {
    /// Values of an image.
    fn image(&self) -> usize {
        self.height * self.width * self.channels
    }

    fn check(&self, images: &[f32], weight: Option<&[f32]>, bias: Option<&[f32]>) {
        assert!(self.channels > 0);
        assert_eq!(images.len(), self.images * self.image());
        assert!(weight.is_none_or(|weight| weight.len() == self.channels * PLACES));
        assert!(bias.is_none_or(|bias| bias.len() == self.channels));
    }

    /// Rows and columns of a block, about as many in each.
    fn block(&self) -> [usize; 2] {
        let even = |length: usize, most: usize| length.div_ceil(length.div_ceil(most));
        [even(self.height, BLOCK[0]), even(self.width, BLOCK[1])]
    }

    /// The channels of each chunk.
    fn chunks(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let channels = self.channels;
        (0..channels)
            .step_by(LANES)
            .map(move |first| first..channels.min(first + LANES))
    }

    /// Copies the channels `channels` of an image from a row and a column on into `block`, which has
    /// `columns` columns. Rows and columns are counted with `border` of zeros before those of the image.
    fn copy_block(
        &self,
        image: &[f32],
        channels: &Range<usize>,
        [row, column]: [usize; 2],
        border: usize,
        block: &mut [Lane],
        columns: usize,
    ) {
        // Columns outside of the image on the left, and those inside.
        let before = border.saturating_sub(column).min(columns);
        let first = (column + before).saturating_sub(border);
        let end = (column + columns).saturating_sub(border).min(self.width);
        let inside = before..before + end.saturating_sub(first);
        for (number, block) in block.chunks_exact_mut(columns).enumerate() {
            let source = (row + number).checked_sub(border);
            let Some(source) = source.filter(|&source| source < self.height) else {
                block.fill([0.0; LANES]);
                continue;
            };
            block[..inside.start].fill([0.0; LANES]);
            block[inside.end..].fill([0.0; LANES]);
            let start = (source * self.width + first) * self.channels;
            let pixels = image[start..].chunks_exact(self.channels);
            for (lane, pixel) in block[inside.clone()].iter_mut().zip(pixels) {
                let own = &pixel[channels.clone()];
                *lane = own.first_chunk().copied().unwrap_or_else(|| padded(own));
            }
        }
    }
}

/// Up to [`LANES`] values, and zeros.
fn padded(values: &[f32]) -> Lane {
    let mut lane = [0.0; LANES];
    lane[..values.len()].copy_from_slice(values);
    lane
}

/// The weights `[C, 7, 7]` of each chunk of channels, place by place; `flipped` in both directions.
fn by_chunk(weight: &[f32], shape: &DepthwiseShape, flipped: bool) -> Vec<[Lane; PLACES]> {
    let of_chunk = |channels: Range<usize>| {
        let mut places = [[0.0; LANES]; PLACES];
        for (lane, channel) in channels.enumerate() {
            for (place, values) in places.iter_mut().enumerate() {
                let from = if flipped { PLACES - 1 - place } else { place };
                values[lane] = weight[channel * PLACES + from];
            }
        }
        places
    };
    shape.chunks().map(of_chunk).collect()
}

/// The depthwise convolution of images `x` `[B, H, W, C]` with `weight` `[C, 7, 7]`, and `bias` `[C]`
/// added → `[B, H, W, C]`.
pub fn depthwise_conv(x: &[f32], weight: &[f32], bias: &[f32], shape: &DepthwiseShape) -> Vec<f32> {
    shape.check(x, Some(weight), Some(bias));
    convolved(x, &by_chunk(weight, shape, false), Some(bias), shape)
}

/// The gradient of the images, `[B, H, W, C]`, from that of the result.
pub fn depthwise_input_gradient(dy: &[f32], weight: &[f32], shape: &DepthwiseShape) -> Vec<f32> {
    shape.check(dy, Some(weight), None);
    convolved(dy, &by_chunk(weight, shape, true), None, shape)
}

fn convolved(
    x: &[f32],
    weights: &[[Lane; PLACES]],
    bias: Option<&[f32]>,
    shape: &DepthwiseShape,
) -> Vec<f32> {
    let mut y = vec![0.0; x.len()];
    if y.is_empty() {
        return y;
    }
    let [rows, most] = shape.block();
    // The tile that leaves fewer positions beyond the last column.
    let tile = [7, 4]
        .into_iter()
        .min_by_key(|&tile| most.next_multiple_of(tile))
        .expect("two of them");
    let columns = most.next_multiple_of(tile) + 2 * BORDER;
    let line = shape.width * shape.channels;
    let convolve = |x: &[f32], first_row: usize, y: &mut [f32]| {
        let count = y.len() / line + 2 * BORDER;
        let mut block = Scratch::take();
        let (block, _) = block.room(count * columns * LANES).as_chunks_mut();
        for first in (0..shape.width).step_by(most) {
            let own = first..shape.width.min(first + most);
            for (channels, weights) in shape.chunks().zip(weights) {
                shape.copy_block(x, &channels, [first_row, first], BORDER, block, columns);
                let bias = bias.map_or([0.0; LANES], |bias| padded(&bias[channels.clone()]));
                let place = [shape.channels, channels.start];
                match tile {
                    7 => {
                        convolve_sevens(block, columns, weights, &bias, y, line, own.clone(), place)
                    }
                    _ => {
                        convolve_fours(block, columns, weights, &bias, y, line, own.clone(), place)
                    }
                }
            }
        }
    };
    y.par_chunks_exact_mut(shape.image())
        .zip(x.par_chunks_exact(shape.image()))
        .for_each(|(y, x)| {
            y.par_chunks_mut(rows * line)
                .enumerate()
                .for_each(|(number, y)| convolve(x, number * rows, y));
        });
    y
}

multiversioned! {
    fn convolve_sevens(block: &[Lane], columns: usize, weights: &[Lane; PLACES], bias: &Lane, y: &mut [f32], line: usize, own: Range<usize>, place: [usize; 2]) {
        convolve::<FMA, 7>(block, columns, weights, bias, y, line, own, place);
    }

    fn convolve_fours(block: &[Lane], columns: usize, weights: &[Lane; PLACES], bias: &Lane, y: &mut [f32], line: usize, own: Range<usize>, place: [usize; 2]) {
        convolve::<FMA, 4>(block, columns, weights, bias, y, line, own, place);
    }

    /// Adds a block's share in the gradients to `sums`: of each place in the kernel, then of the bias.
    /// `x` has its border, `dy` none.
    fn add_gradients(x: &[Lane], columns: usize, dy: &[Lane], width: usize, sums: &mut [Lane; PLACES + 1]) {
        for v in 0..SIDE {
            let mut sum = [[0.0; LANES]; SIDE];
            let rows = x.chunks_exact(columns).skip(v).zip(dy.chunks_exact(width));
            for (x, dy) in rows {
                for (x, dy) in x.windows(SIDE).zip(dy) {
                    for u in 0..SIDE {
                        for lane in 0..LANES {
                            sum[u][lane] = fma::<FMA>(x[u][lane], dy[lane], sum[u][lane]);
                        }
                    }
                }
            }
            for (total, sum) in sums[v * SIDE..].iter_mut().zip(&sum) {
                for lane in 0..LANES {
                    total[lane] += sum[lane];
                }
            }
        }
        let mut sum = [0.0; LANES];
        for dy in dy {
            for lane in 0..LANES {
                sum[lane] += dy[lane];
            }
        }
        for lane in 0..LANES {
            sums[PLACES][lane] += sum[lane];
        }
    }
}

/// Convolves a block `[rows + 6, columns]` and writes the channels from `first` on of the columns `own` of
/// `y` `[rows, width, channels]`, whose rows have `line` values, `TILE` positions of a row at a time.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
fn convolve<const FMA: bool, const TILE: usize>(
    block: &[Lane],
    columns: usize,
    weights: &[Lane; PLACES],
    bias: &Lane,
    y: &mut [f32],
    line: usize,
    own: Range<usize>,
    [channels, first]: [usize; 2],
) {
    for (row, y) in y.chunks_exact_mut(line).enumerate() {
        let y = &mut y[own.start * channels..own.end * channels];
        for start in (0..own.len()).step_by(TILE) {
            let mut sums = [*bias; TILE];
            for v in 0..SIDE {
                let source = &block[(row + v) * columns + start..][..TILE + SIDE - 1];
                let weights = &weights[v * SIDE..][..SIDE];
                for u in 0..SIDE {
                    for position in 0..TILE {
                        for lane in 0..LANES {
                            let (x, w) = (source[position + u][lane], weights[u][lane]);
                            sums[position][lane] = fma::<FMA>(x, w, sums[position][lane]);
                        }
                    }
                }
            }
            let pixels = y.chunks_exact_mut(channels).skip(start);
            for (pixel, sum) in pixels.zip(&sums) {
                let own = &mut pixel[first..];
                match own.first_chunk_mut::<LANES>() {
                    Some(own) => *own = *sum,
                    None => own.copy_from_slice(&sum[..own.len()]),
                }
            }
        }
    }
}

/// The gradients of the parameters, from that of the result, `dy` `[B, H, W, C]`, and the images `x`.
pub fn depthwise_parameter_gradients(
    dy: &[f32],
    x: &[f32],
    shape: &DepthwiseShape,
) -> DepthwiseGradients {
    shape.check(x, None, None);
    shape.check(dy, None, None);
    let mut gradients = DepthwiseGradients {
        weight: vec![0.0; shape.channels * PLACES],
        bias: vec![0.0; shape.channels],
    };
    if dy.is_empty() {
        return gradients;
    }
    let groups = shape.images.div_ceil(GROUP);
    let chunks: Vec<_> = shape.chunks().collect();
    let shares: Vec<_> = (0..chunks.len() * groups)
        .into_par_iter()
        .with_max_len(1)
        .map(|task| {
            let group = task % groups * GROUP;
            let images = group..shape.images.min(group + GROUP);
            group_gradients(dy, x, shape, &chunks[task / groups], images)
        })
        .collect();
    for (channels, shares) in chunks.iter().zip(shares.chunks_exact(groups)) {
        for (lane, channel) in channels.clone().enumerate() {
            let sum = |place: usize| shares.iter().map(|share| share[place][lane]).sum();
            let weight = &mut gradients.weight[channel * PLACES..][..PLACES];
            for (place, weight) in weight.iter_mut().enumerate() {
                *weight = sum(place);
            }
            gradients.bias[channel] = sum(PLACES);
        }
    }
    gradients
}

/// The share of some images in the gradients of a chunk of channels.
fn group_gradients(
    dy: &[f32],
    x: &[f32],
    shape: &DepthwiseShape,
    channels: &Range<usize>,
    images: Range<usize>,
) -> [Lane; PLACES + 1] {
    let [rows, columns] = shape.block();
    let [mut of_x, mut of_dy] = [(); 2].map(|()| Scratch::take());
    let most = (rows + 2 * BORDER) * (columns + 2 * BORDER);
    let (of_x, _) = of_x.room(most * LANES).as_chunks_mut();
    let (of_dy, _) = of_dy.room(rows * columns * LANES).as_chunks_mut();
    let mut sums = [[0.0; LANES]; PLACES + 1];
    let values = images.start * shape.image()..images.end * shape.image();
    let images = x[values.clone()]
        .chunks_exact(shape.image())
        .zip(dy[values].chunks_exact(shape.image()));
    for (x, dy) in images {
        for row in (0..shape.height).step_by(rows) {
            for column in (0..shape.width).step_by(columns) {
                let rows = rows.min(shape.height - row);
                let columns = columns.min(shape.width - column);
                let with_border = columns + 2 * BORDER;
                let of_x = &mut of_x[..(rows + 2 * BORDER) * with_border];
                let of_dy = &mut of_dy[..rows * columns];
                let place = [row, column];
                shape.copy_block(x, channels, place, BORDER, of_x, with_border);
                shape.copy_block(dy, channels, place, 0, of_dy, columns);
                add_gradients(of_x, with_border, of_dy, columns, &mut sums);
            }
        }
    }
    sums
}
