//! Layer normalisation: one kernel forward; backward one for the rows and one for the parameters. Saves its
//! input and the rows' statistics.

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, DType, TensorMetadata, backend_extension};
use burn_cubecl::CubeBackend;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;
use cubecl::ir::ElemType;
use cubecl::prelude::*;

use super::{
    LANES, ROWS, beside, cubes_of_rows, element, matrix, own_row, primitive, sum_of_row, sums, wrap,
};

/// Rows whose shares of the parameters' gradients one cube sums.
const CHUNK: usize = 256;

/// Layer normalisation as an operation of a backend.
#[backend_extension(Cube, Autodiff)]
pub trait GpuLayerNormOp: Backend {
    /// `x` `[.., D]`, `gamma` and `beta` `[D]` in `f32` → `[.., D]` in `f32`.
    fn dinolab_gpu_layer_norm(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        eps: f64,
    ) -> FloatTensor<Self>;
}

/// `statistics` `[R, 2]`: mean, and reciprocal of the deviation.
#[cube(launch_unchecked)]
fn forward<E: Float>(
    x: &[E],
    gamma: &[f32],
    beta: &[f32],
    y: &mut [f32],
    statistics: &mut [f32],
    rows: usize,
    width: usize,
    eps: f32,
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
            sum += f32::cast_from(x[first + i]);
            i += LANES;
        }
    }
    let mean = sum_of_row(sum, &mut shared) / f32::cast_from(width as u32);
    let mut squares = 0.0f32;
    if within {
        let mut i = UNIT_POS_X as usize;
        while i < width {
            let centred = f32::cast_from(x[first + i]) - mean;
            squares += centred * centred;
            i += LANES;
        }
    }
    let variance = sum_of_row(squares, &mut shared) / f32::cast_from(width as u32);
    let inverse = 1.0f32 / (variance + eps).sqrt();
    if within {
        let mut i = UNIT_POS_X as usize;
        while i < width {
            let normalised = (f32::cast_from(x[first + i]) - mean) * inverse;
            y[first + i] = normalised * gamma[i] + beta[i];
            i += LANES;
        }
        if UNIT_POS_X == 0 {
            statistics[2 * row] = mean;
            statistics[2 * row + 1] = inverse;
        }
    }
}

#[cube(launch_unchecked)]
fn backward<E: Float>(
    x: &[E],
    gamma: &[f32],
    statistics: &[f32],
    dy: &[f32],
    dx: &mut [E],
    rows: usize,
    width: usize,
    #[define(E)] _element: ElemType,
) {
    let mut shared = Shared::<[f32]>::new_slice(LANES * ROWS);
    let row = own_row();
    let first = row * width;
    let within = row < rows;
    let mut mean = 0.0f32;
    let mut inverse = 0.0f32;
    let mut sum = 0.0f32;
    let mut along = 0.0f32;
    if within {
        mean = statistics[2 * row];
        inverse = statistics[2 * row + 1];
        let mut i = UNIT_POS_X as usize;
        while i < width {
            let scaled = dy[first + i] * gamma[i];
            sum += scaled;
            along += scaled * (f32::cast_from(x[first + i]) - mean) * inverse;
            i += LANES;
        }
    }
    let sum = sum_of_row(sum, &mut shared) / f32::cast_from(width as u32);
    let along = sum_of_row(along, &mut shared) / f32::cast_from(width as u32);
    if within {
        let mut i = UNIT_POS_X as usize;
        while i < width {
            let normalised = (f32::cast_from(x[first + i]) - mean) * inverse;
            let slope = (dy[first + i] * gamma[i] - sum - normalised * along) * inverse;
            dx[first + i] = E::cast_from(slope);
            i += LANES;
        }
    }
}

/// The shares of a chunk of rows in the gradients of both parameters: `[chunks, 2·D]`. A cube has
/// [`LANES`] columns, and [`ROWS`] rows at a time.
#[cube(launch_unchecked)]
fn parameters<E: Float>(
    x: &[E],
    statistics: &[f32],
    dy: &[f32],
    shares: &mut [f32],
    rows: usize,
    width: usize,
    #[define(E)] _element: ElemType,
) {
    let mut of_gamma = Shared::<[f32]>::new_slice(LANES * ROWS);
    let mut of_beta = Shared::<[f32]>::new_slice(LANES * ROWS);
    let column = CUBE_POS_X as usize * LANES + UNIT_POS_X as usize;
    let chunk = CUBE_POS_Y as usize;
    let place = UNIT_POS_Y as usize * LANES + UNIT_POS_X as usize;
    let mut gamma = 0.0f32;
    let mut beta = 0.0f32;
    if column < width {
        let mut row = chunk * CHUNK + UNIT_POS_Y as usize;
        let mut end = (chunk + 1) * CHUNK;
        if end > rows {
            end = rows;
        }
        while row < end {
            let slope = dy[row * width + column];
            let centred = f32::cast_from(x[row * width + column]) - statistics[2 * row];
            gamma += slope * centred * statistics[2 * row + 1];
            beta += slope;
            row += ROWS;
        }
    }
    of_gamma[place] = gamma;
    of_beta[place] = beta;
    sync_cube();
    if UNIT_POS_Y == 0 && column < width {
        let mut i = 1usize;
        while i < ROWS {
            gamma += of_gamma[i * LANES + UNIT_POS_X as usize];
            beta += of_beta[i * LANES + UNIT_POS_X as usize];
            i += 1;
        }
        shares[chunk * 2 * width + column] = gamma;
        shares[chunk * 2 * width + width + column] = beta;
    }
}

/// The result, and the statistics.
fn normalise(
    x: CubeTensor,
    gamma: CubeTensor,
    beta: CubeTensor,
    eps: f64,
) -> (CubeTensor, CubeTensor) {
    let [rows, width] = matrix(&x);
    let y = beside(&x, x.shape(), DType::F32);
    let statistics = beside(&x, [rows, 2], DType::F32);
    let (count, dim) = cubes_of_rows(&x, rows);
    let (client, element) = (x.client.clone(), element(&x));
    // SAFETY: x and y are `rows × width`, the parameters as wide, and the kernel stays within.
    unsafe {
        forward::launch_unchecked(
            &client,
            count,
            dim,
            x.into_buffer_arg(),
            into_contiguous(gamma).into_buffer_arg(),
            into_contiguous(beta).into_buffer_arg(),
            y.clone().into_buffer_arg(),
            statistics.clone().into_buffer_arg(),
            rows,
            width,
            eps as f32,
            element,
        );
    }
    (y, statistics)
}

impl GpuLayerNormOp for CubeBackend {
    fn dinolab_gpu_layer_norm(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        eps: f64,
    ) -> FloatTensor<Self> {
        normalise(into_contiguous(x), gamma, beta, eps).0
    }
}

#[derive(Debug)]
struct LayerNorm;

impl Backward<CubeBackend, 3> for LayerNorm {
    /// Input, scale, statistics of the rows.
    type State = [CubeTensor; 3];

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let dy = into_contiguous(grads.consume::<CubeBackend>(&ops.node));
        let ([of_x, of_gamma, of_beta], [x, gamma, statistics]) = (ops.parents, ops.state);
        let [rows, width] = matrix(&x);
        let (client, element) = (x.client.clone(), element(&x));
        if let Some(node) = of_x {
            let dx = beside(&x, x.shape(), x.dtype);
            let (count, dim) = cubes_of_rows(&x, rows);
            // SAFETY: x, dy and dx are `rows × width`, the scale as wide; the kernel stays within.
            unsafe {
                backward::launch_unchecked(
                    &client,
                    count,
                    dim,
                    x.clone().into_buffer_arg(),
                    into_contiguous(gamma).into_buffer_arg(),
                    statistics.clone().into_buffer_arg(),
                    dy.clone().into_buffer_arg(),
                    dx.clone().into_buffer_arg(),
                    rows,
                    width,
                    element,
                );
            }
            grads.register::<CubeBackend>(node.id, dx);
        }
        if of_gamma.is_none() && of_beta.is_none() {
            return;
        }
        let chunks = rows.div_ceil(CHUNK).max(1);
        let shares = beside(&x, [chunks, 2 * width], DType::F32);
        let count = CubeCount::Static(width.div_ceil(LANES) as u32, chunks as u32, 1);
        // SAFETY: as above, and a chunk writes its own row of the shares.
        unsafe {
            parameters::launch_unchecked(
                &client,
                count,
                CubeDim::new_2d(LANES as u32, ROWS as u32),
                x.into_buffer_arg(),
                statistics.into_buffer_arg(),
                dy.into_buffer_arg(),
                shares.clone().into_buffer_arg(),
                rows,
                width,
                element,
            );
        }
        let sums = wrap::<1>(sums::over_rows(shares)).reshape([2, width]);
        for (node, row) in [(of_gamma, 0), (of_beta, 1)] {
            if let Some(node) = node {
                let grad = sums.clone().narrow(0, row, 1).reshape([width]);
                grads.register::<CubeBackend>(node.id, primitive(grad));
            }
        }
    }
}

impl<C: CheckpointStrategy> GpuLayerNormOp for Autodiff<CubeBackend, C> {
    fn dinolab_gpu_layer_norm(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        eps: f64,
    ) -> FloatTensor<Self> {
        let ((x, nx), (gamma, ng), (beta, nb)) =
            (x.into_parts(), gamma.into_parts(), beta.into_parts());
        let x = into_contiguous(x);
        let (y, statistics) = normalise(x.clone(), gamma.clone(), beta, eps);
        match LayerNorm
            .prepare::<C>([nx, ng, nb])
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => prep.finish([x, gamma, statistics], y),
            OpsKind::UnTracked(prep) => prep.finish(y),
        }
    }
}
