//! Bodies for GPUs: kernels in CubeCL's subset of Rust, compiled for the device when they first run.
//!
//! A tensor may be a part of a larger buffer: kernels are told how many elements there are.
//!
//! They serve what would otherwise be a dozen passes over memory, or a dozen launches for each
//! parameter; matrix multiplications are Burn's. Sums are taken in a fixed order.

#![allow(
    clippy::assign_op_pattern,
    clippy::neg_cmp_op_on_partial_ord,
    reason = "kernels are in a subset of Rust, as they ran on the devices they were tested on; NaN goes through"
)]

pub(super) mod bias;
pub(super) mod gelu;
pub(super) mod layer_norm;
pub(super) mod softmax;
mod sums;
pub(super) mod update;

use burn::backend::cubecl::dtype_to_storage_type;
use burn::backend::{DType, DispatchDevice, TensorMetadata};
use burn::tensor::{Shape, Tensor};
use burn_cubecl::CubeBackend;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use burn_cubecl::tensor::CubeTensor;
use cubecl::ir::ElemType;
use cubecl::prelude::*;

/// Units that share a row.
const LANES: usize = 32;
/// Halvings of the lanes down to one.
const STEPS: usize = LANES.ilog2() as usize;
/// Rows of a cube.
const ROWS: usize = 4;

/// Whether the bodies here serve this tensor: on a GPU.
pub(super) fn applies<const D: usize>(x: &Tensor<D>) -> bool {
    let on_gpu = |device: &DispatchDevice| match device {
        DispatchDevice::Cube(_) => true,
        DispatchDevice::Autodiff(inner) => matches!(**inner, DispatchDevice::Cube(_)),
        _ => false,
    };
    super::fused::enabled() && on_gpu(x.device().as_dispatch())
}

/// The backend's own tensor, dense, of one that [`applies`] and is outside of any gradient graph.
fn primitive<const D: usize>(x: Tensor<D>) -> CubeTensor {
    let x = x.try_into_primitive::<CubeBackend>();
    into_contiguous(x.expect("a plain tensor of a GPU"))
}

/// The inverse of [`primitive`].
fn wrap<const D: usize>(x: CubeTensor) -> Tensor<D> {
    Tensor::from_primitive::<CubeBackend>(x)
}

/// A tensor of its own beside `like`, its values not yet written.
fn beside(like: &CubeTensor, shape: impl Into<Shape>, dtype: DType) -> CubeTensor {
    empty_device_contiguous_dtype(
        like.client.clone(),
        like.device.clone(),
        shape.into(),
        dtype,
    )
}

/// The elements of a tensor, for kernels that take any.
fn element(x: &CubeTensor) -> ElemType {
    dtype_to_storage_type(x.dtype)
}

/// Rows and width of a tensor seen as a matrix of its last dimension.
fn matrix(x: &CubeTensor) -> [usize; 2] {
    let shape = x.shape();
    let width = shape[shape.num_dims() - 1];
    [shape.num_elements() / width.max(1), width]
}

/// Cubes of [`LANES`] × [`ROWS`] units, enough for `rows` rows.
fn cubes_of_rows(x: &CubeTensor, rows: usize) -> (CubeCount, CubeDim) {
    let dim = CubeDim::new_2d(LANES as u32, ROWS as u32);
    let count = cubecl::calculate_cube_count_elemwise(&x.client, rows * LANES, dim);
    (count, dim)
}

/// The row of this unit.
#[cube]
fn own_row() -> usize {
    CUBE_POS * ROWS + UNIT_POS_Y as usize
}

/// The sum over the lanes of this row, in each of them. All units of the cube take part.
#[cube]
fn sum_of_row(value: f32, shared: &mut Shared<[f32]>) -> f32 {
    let lane = UNIT_POS_X as usize;
    let first = UNIT_POS_Y as usize * LANES;
    shared[first + lane] = value;
    sync_cube();
    #[unroll]
    for step in 0..STEPS {
        let half = comptime![LANES >> (step + 1)];
        if lane < half {
            shared[first + lane] = shared[first + lane] + shared[first + lane + half];
        }
        sync_cube();
    }
    let sum = shared[first];
    sync_cube();
    sum
}

/// The largest over the lanes of this row, in each of them. All units of the cube take part.
#[cube]
fn max_of_row(value: f32, shared: &mut Shared<[f32]>) -> f32 {
    let lane = UNIT_POS_X as usize;
    let first = UNIT_POS_Y as usize * LANES;
    shared[first + lane] = value;
    sync_cube();
    #[unroll]
    for step in 0..STEPS {
        let half = comptime![LANES >> (step + 1)];
        if lane < half {
            shared[first + lane] = max(shared[first + lane], shared[first + lane + half]);
        }
        sync_cube();
    }
    let largest = shared[first];
    sync_cube();
    largest
}
