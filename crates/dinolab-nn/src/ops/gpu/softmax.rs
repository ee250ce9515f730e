//! The softmax of scaled scores: one kernel forward, one backward; saves its result.

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, TensorMetadata, backend_extension};
use burn_cubecl::CubeBackend;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;
use cubecl::ir::ElemType;
use cubecl::prelude::*;

use super::{LANES, ROWS, beside, cubes_of_rows, element, matrix, max_of_row, own_row, sum_of_row};

/// The softmax as an operation of a backend.
#[backend_extension(Cube, Autodiff)]
pub trait GpuSoftmaxOp: Backend {
    /// `softmax(scale · x)` over the last dimension, in the numbers of `x` and in `f32` inside. Any shape,
    /// kept.
    fn dinolab_gpu_softmax(x: FloatTensor<Self>, scale: f64) -> FloatTensor<Self>;
}

#[cube(launch_unchecked)]
fn forward<E: Float>(
    x: &[E],
    p: &mut [E],
    rows: usize,
    width: usize,
    scale: f32,
    #[define(E)] _element: ElemType,
) {
    let mut shared = Shared::<[f32]>::new_slice(LANES * ROWS);
    let row = own_row();
    let first = row * width;
    let within = row < rows;
    let mut largest = f32::min_value();
    if within {
        let mut i = UNIT_POS_X as usize;
        while i < width {
            largest = max(largest, f32::cast_from(x[first + i]) * scale);
            i += LANES;
        }
    }
    let largest = max_of_row(largest, &mut shared);
    let mut sum = 0.0f32;
    if within {
        let mut i = UNIT_POS_X as usize;
        while i < width {
            sum += (f32::cast_from(x[first + i]) * scale - largest).exp();
            i += LANES;
        }
    }
    let sum = sum_of_row(sum, &mut shared);
    if within {
        let mut i = UNIT_POS_X as usize;
        while i < width {
            let exponential = (f32::cast_from(x[first + i]) * scale - largest).exp();
            p[first + i] = E::cast_from(exponential / sum);
            i += LANES;
        }
    }
}

#[cube(launch_unchecked)]
fn backward<E: Float>(
    p: &[E],
    dp: &[E],
    dx: &mut [E],
    rows: usize,
    width: usize,
    scale: f32,
    #[define(E)] _element: ElemType,
) {
    let mut shared = Shared::<[f32]>::new_slice(LANES * ROWS);
    let row = own_row();
    let first = row * width;
    let within = row < rows;
    let mut sum = 0.0f32;
    if within {
        let mut i = UNIT_POS_X as usize;
        while i < width {
            sum += f32::cast_from(p[first + i]) * f32::cast_from(dp[first + i]);
            i += LANES;
        }
    }
    let sum = sum_of_row(sum, &mut shared);
    if within {
        let mut i = UNIT_POS_X as usize;
        while i < width {
            let slope = f32::cast_from(p[first + i]) * (f32::cast_from(dp[first + i]) - sum);
            dx[first + i] = E::cast_from(slope * scale);
            i += LANES;
        }
    }
}

impl GpuSoftmaxOp for CubeBackend {
    fn dinolab_gpu_softmax(x: FloatTensor<Self>, scale: f64) -> FloatTensor<Self> {
        let x = into_contiguous(x);
        let p = beside(&x, x.shape(), x.dtype);
        let [rows, width] = matrix(&x);
        let (count, dim) = cubes_of_rows(&x, rows);
        let (client, element) = (x.client.clone(), element(&x));
        // SAFETY: both are `rows × width`, and the kernel stays within.
        unsafe {
            forward::launch_unchecked(
                &client,
                count,
                dim,
                x.into_buffer_arg(),
                p.clone().into_buffer_arg(),
                rows,
                width,
                scale as f32,
                element,
            );
        }
        p
    }
}

#[derive(Debug)]
struct Softmax;

impl Backward<CubeBackend, 1> for Softmax {
    /// The result, and the scale.
    type State = (CubeTensor, f64);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let dp = into_contiguous(grads.consume::<CubeBackend>(&ops.node));
        let ([node], (p, scale)) = (ops.parents, ops.state);
        let Some(node) = node else { return };
        let dx = beside(&p, p.shape(), p.dtype);
        let [rows, width] = matrix(&p);
        let (count, dim) = cubes_of_rows(&p, rows);
        let (client, element) = (p.client.clone(), element(&p));
        // SAFETY: all are `rows × width`, and the kernel stays within.
        unsafe {
            backward::launch_unchecked(
                &client,
                count,
                dim,
                p.into_buffer_arg(),
                dp.into_buffer_arg(),
                dx.clone().into_buffer_arg(),
                rows,
                width,
                scale as f32,
                element,
            );
        }
        grads.register::<CubeBackend>(node.id, dx);
    }
}

impl<C: CheckpointStrategy> GpuSoftmaxOp for Autodiff<CubeBackend, C> {
    fn dinolab_gpu_softmax(x: FloatTensor<Self>, scale: f64) -> FloatTensor<Self> {
        let (x, node) = x.into_parts();
        let p = CubeBackend::dinolab_gpu_softmax(x, scale);
        match Softmax.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((p.clone(), scale), p),
            OpsKind::UnTracked(prep) => prep.finish(p),
        }
    }
}
