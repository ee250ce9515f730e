//! GELU: one kernel forward, one backward; saves its input.

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

use super::{beside, element};

/// GELU as an operation of a backend.
#[backend_extension(Cube, Autodiff)]
pub trait GpuGeluOp: Backend {
    /// Any shape, kept.
    fn dinolab_gpu_gelu(x: FloatTensor<Self>) -> FloatTensor<Self>;
}

/// `Φ(x)`, the normal distribution function.
#[allow(
    unstable_name_collisions,
    reason = "CubeCL has its own `erf` of numbers"
)]
#[cube]
fn normal_cdf(x: f32) -> f32 {
    0.5f32 * (1.0f32 + (x * std::f32::consts::FRAC_1_SQRT_2).erf())
}

#[cube(launch_unchecked)]
fn forward<E: Float>(x: &[E], y: &mut [E], n: usize, #[define(E)] _element: ElemType) {
    if ABSOLUTE_POS < n {
        let value = f32::cast_from(x[ABSOLUTE_POS]);
        y[ABSOLUTE_POS] = E::cast_from(value * normal_cdf(value));
    }
}

#[cube(launch_unchecked)]
fn backward<E: Float>(x: &[E], dy: &[E], dx: &mut [E], n: usize, #[define(E)] _element: ElemType) {
    if ABSOLUTE_POS < n {
        let value = f32::cast_from(x[ABSOLUTE_POS]);
        // 1 / sqrt(2 pi)
        let density = (value * value * -0.5f32).exp() * 0.398_942_3_f32;
        let slope = normal_cdf(value) + value * density;
        dx[ABSOLUTE_POS] = E::cast_from(f32::cast_from(dy[ABSOLUTE_POS]) * slope);
    }
}

/// Elements, cubes and their units.
fn grid(x: &CubeTensor) -> (usize, CubeCount, CubeDim) {
    let elements = x.shape().num_elements();
    let dim = CubeDim::new_1d(256);
    let count = cubecl::calculate_cube_count_elemwise(&x.client, elements, dim);
    (elements, count, dim)
}

impl GpuGeluOp for CubeBackend {
    fn dinolab_gpu_gelu(x: FloatTensor<Self>) -> FloatTensor<Self> {
        let x = into_contiguous(x);
        let y = beside(&x, x.shape(), x.dtype);
        let (elements, count, dim) = grid(&x);
        let (client, element) = (x.client.clone(), element(&x));
        // SAFETY: both have as many elements, and the kernel stops at their end.
        unsafe {
            forward::launch_unchecked(
                &client,
                count,
                dim,
                x.into_buffer_arg(),
                y.clone().into_buffer_arg(),
                elements,
                element,
            );
        }
        y
    }
}

#[derive(Debug)]
struct Gelu;

impl Backward<CubeBackend, 1> for Gelu {
    /// The input.
    type State = CubeTensor;

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let dy = into_contiguous(grads.consume::<CubeBackend>(&ops.node));
        let ([node], x) = (ops.parents, ops.state);
        let Some(node) = node else { return };
        let dx = beside(&x, x.shape(), x.dtype);
        let (elements, count, dim) = grid(&x);
        let (client, element) = (x.client.clone(), element(&x));
        // SAFETY: all have as many elements, and the kernel stops at their end.
        unsafe {
            backward::launch_unchecked(
                &client,
                count,
                dim,
                x.into_buffer_arg(),
                dy.into_buffer_arg(),
                dx.clone().into_buffer_arg(),
                elements,
                element,
            );
        }
        grads.register::<CubeBackend>(node.id, dx);
    }
}

impl<C: CheckpointStrategy> GpuGeluOp for Autodiff<CubeBackend, C> {
    fn dinolab_gpu_gelu(x: FloatTensor<Self>) -> FloatTensor<Self> {
        let (x, node) = x.into_parts();
        let x = into_contiguous(x);
        match Gelu.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish(x.clone(), CubeBackend::dinolab_gpu_gelu(x)),
            OpsKind::UnTracked(prep) => prep.finish(CubeBackend::dinolab_gpu_gelu(x)),
        }
    }
}
