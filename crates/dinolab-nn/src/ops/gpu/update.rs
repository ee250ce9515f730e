//! The gradient's norm, clipping, AdamW and the moving average: two launches for each parameter, on `[n]`
//! tensors outside of any gradient graph.

use burn::backend::{DType, TensorMetadata};
use burn::tensor::Tensor;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;
use dinolab_kernels::AdamWStep;

use super::{beside, primitive, wrap};

/// Units of a cube, and the most shares that a norm is summed of.
const UNITS: usize = 256;
/// Halvings of the units down to one.
const STEPS: usize = UNITS.ilog2() as usize;
/// Values whose squares one unit adds up, at least.
const SHARE: usize = 16;

/// The sum over all units of the cube, in each of them.
#[cube]
fn sum_of_cube(value: f32, shared: &mut Shared<[f32]>) -> f32 {
    let unit = UNIT_POS as usize;
    shared[unit] = value;
    sync_cube();
    #[unroll]
    for step in 0..STEPS {
        let half = comptime![UNITS >> (step + 1)];
        if unit < half {
            shared[unit] = shared[unit] + shared[unit + half];
        }
        sync_cube();
    }
    shared[0]
}

/// A share of the sum of squares from each cube.
#[cube(launch_unchecked)]
fn squares(x: &[f32], shares: &mut [f32], n: usize, cubes: usize) {
    let mut shared = Shared::<[f32]>::new_slice(UNITS);
    let stride = cubes * UNITS;
    let mut i = CUBE_POS * UNITS + UNIT_POS as usize;
    let mut sum = 0.0f32;
    while i < n {
        sum += x[i] * x[i];
        i += stride;
    }
    let sum = sum_of_cube(sum, &mut shared);
    if UNIT_POS == 0 {
        shares[CUBE_POS] = sum;
    }
}

/// The root of the sum of at most [`UNITS`] shares, in each unit.
#[cube]
fn root_of_shares(shares: &[f32], cubes: usize) -> f32 {
    let mut shared = Shared::<[f32]>::new_slice(UNITS);
    let mut share = 0.0f32;
    if (UNIT_POS as usize) < cubes {
        share = shares[UNIT_POS as usize];
    }
    sum_of_cube(share, &mut shared).sqrt()
}

#[cube(launch_unchecked)]
fn root(shares: &[f32], norm: &mut [f32], cubes: usize) {
    let found = root_of_shares(shares, cubes);
    if UNIT_POS == 0 {
        norm[0] = found;
    }
}

/// The numbers of a step, as a kernel takes them.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
struct Step {
    /// Largest norm of the gradient.
    clip: f32,
    beta1: f32,
    rest1: f32,
    beta2: f32,
    rest2: f32,
    eps: f32,
    decay: f32,
    rate: f32,
    root_correction2: f32,
    momentum: f32,
    rest_momentum: f32,
}

#[cube(launch_unchecked)]
fn adamw(
    value: &mut [f32],
    m: &mut [f32],
    v: &mut [f32],
    average: &mut [f32],
    grad: &[f32],
    shares: &[f32],
    norm: &mut [f32],
    step: &Step,
    n: usize,
    cubes: usize,
    #[comptime] clips: bool,
    #[comptime] averages: bool,
) {
    let found = root_of_shares(shares, cubes);
    if ABSOLUTE_POS == 0 {
        norm[0] = found;
    }
    if ABSOLUTE_POS < n {
        let i = ABSOLUTE_POS;
        let mut g = grad[i];
        if clips {
            let factor = step.clip / (found + 1e-6f32);
            // NaN goes through.
            if !(factor >= 1.0f32) {
                g *= factor;
            }
        }
        let first = m[i] * step.beta1 + g * step.rest1;
        let second = v[i] * step.beta2 + g * g * step.rest2;
        let denominator = second.sqrt() / step.root_correction2 + step.eps;
        let new = value[i] * step.decay - first / denominator * step.rate;
        m[i] = first;
        v[i] = second;
        value[i] = new;
        if averages {
            average[i] = average[i] * step.momentum + new * step.rest_momentum;
        }
    }
}

fn grid(x: &CubeTensor) -> (CubeCount, CubeDim) {
    let dim = CubeDim::new_1d(UNITS as u32);
    let count = cubecl::calculate_cube_count_elemwise(&x.client, x.shape().num_elements(), dim);
    (count, dim)
}

/// The shares of the sum of squares, and how many they are.
fn shares(x: &CubeTensor) -> (CubeTensor, usize) {
    let elements = x.shape().num_elements();
    let cubes = elements.div_ceil(UNITS * SHARE).clamp(1, UNITS);
    let shares = beside(x, [cubes], DType::F32);
    // SAFETY: the kernel stops at the end of x, and each cube writes its own share.
    unsafe {
        squares::launch_unchecked(
            &x.client,
            CubeCount::Static(cubes as u32, 1, 1),
            CubeDim::new_1d(UNITS as u32),
            x.clone().into_buffer_arg(),
            shares.clone().into_buffer_arg(),
            elements,
            cubes,
        );
    }
    (shares, cubes)
}

/// The Euclidean norm, `[1]`.
pub fn norm(x: &Tensor<1>) -> Tensor<1> {
    let x = primitive(x.clone());
    let (shares, cubes) = shares(&x);
    let norm = beside(&x, [1], DType::F32);
    // SAFETY: there are at most as many shares as units, and the norm is one number.
    unsafe {
        root::launch_unchecked(
            &x.client,
            CubeCount::Static(1, 1, 1),
            CubeDim::new_1d(UNITS as u32),
            shares.into_buffer_arg(),
            norm.clone().into_buffer_arg(),
            cubes,
        );
    }
    wrap(norm)
}

/// Takes a tensor for change in place; its place holds `small` meanwhile.
fn take(place: &mut Tensor<1>, small: &Tensor<1>) -> CubeTensor {
    let x = primitive(std::mem::replace(place, small.clone()));
    // Where something else shares the values, they are copied.
    if x.can_mut() && x.is_contiguous_buffer() {
        x
    } else {
        x.copy()
    }
}

/// One step of AdamW of value and both moments, in place, and of the moving average if there is one. The
/// gradient is clipped to norm `clip`, if that is above 0. Returns its norm before, `[1]`.
pub fn adamw_step(
    [value, m, v]: [&mut Tensor<1>; 3],
    average: Option<(&mut Tensor<1>, f64)>,
    grad: Tensor<1>,
    clip: f64,
    step: &AdamWStep,
) -> Tensor<1> {
    let grad = primitive(grad);
    let (shares, cubes) = shares(&grad);
    let norm = beside(&grad, [1], DType::F32);
    let small = wrap::<1>(norm.clone());
    let [x, first, second] = [&mut *value, &mut *m, &mut *v].map(|place| take(place, &small));
    let momentum = average.as_ref().map_or(1.0, |(_, momentum)| *momentum);
    let averages = average.is_some();
    let (average, averaged) = match average {
        Some((place, _)) => {
            let averaged = take(place, &small);
            (Some(place), averaged)
        }
        // Not touched.
        None => (None, shares.clone()),
    };
    let numbers = StepLaunch::new(
        clip as f32,
        step.beta1 as f32,
        (1.0 - step.beta1) as f32,
        step.beta2 as f32,
        (1.0 - step.beta2) as f32,
        step.eps as f32,
        step.decay as f32,
        step.rate as f32,
        step.root_correction2 as f32,
        momentum as f32,
        (1.0 - momentum) as f32,
    );
    let (count, dim) = grid(&x);
    // SAFETY: value, moments, average and gradient have as many elements, and the kernel stops at their
    // end; there are at most as many shares as units, and the norm is one number.
    unsafe {
        adamw::launch_unchecked(
            &x.client,
            count,
            dim,
            x.clone().into_buffer_arg(),
            first.clone().into_buffer_arg(),
            second.clone().into_buffer_arg(),
            averaged.clone().into_buffer_arg(),
            grad.into_buffer_arg(),
            shares.into_buffer_arg(),
            norm.clone().into_buffer_arg(),
            numbers,
            x.shape().num_elements(),
            cubes,
            clip > 0.0,
            averages,
        );
    }
    *value = wrap(x);
    *m = wrap(first);
    *v = wrap(second);
    if let Some(place) = average {
        *place = wrap(averaged);
    }
    wrap(norm)
}
