//! Sums over the rows of a matrix, in a fixed order. A tree of few launches, where a reduction with a unit
//! for each column would walk through tens of thousands of rows.

use burn::backend::{DType, TensorMetadata};
use burn_cubecl::tensor::CubeTensor;
use cubecl::ir::ElemType;
use cubecl::prelude::*;

use super::{LANES, ROWS, beside, element, matrix};

/// Rows that one cube sums.
const CHUNK: usize = 256;

/// `[R, C]` → `[ceil(R / CHUNK), C]`. A cube has [`LANES`] columns, and [`ROWS`] rows at a time.
#[cube(launch_unchecked)]
fn chunk_sums<E: Float>(
    x: &[E],
    sums: &mut [f32],
    rows: usize,
    width: usize,
    #[define(E)] _element: ElemType,
) {
    let mut shared = Shared::<[f32]>::new_slice(LANES * ROWS);
    let column = CUBE_POS_X as usize * LANES + UNIT_POS_X as usize;
    let chunk = CUBE_POS_Y as usize;
    let mut sum = 0.0f32;
    if column < width {
        let mut row = chunk * CHUNK + UNIT_POS_Y as usize;
        let mut end = (chunk + 1) * CHUNK;
        if end > rows {
            end = rows;
        }
        while row < end {
            sum += f32::cast_from(x[row * width + column]);
            row += ROWS;
        }
    }
    shared[UNIT_POS_Y as usize * LANES + UNIT_POS_X as usize] = sum;
    sync_cube();
    if UNIT_POS_Y == 0 && column < width {
        let mut i = 1usize;
        while i < ROWS {
            sum += shared[i * LANES + UNIT_POS_X as usize];
            i += 1;
        }
        sums[chunk * width + column] = sum;
    }
}

/// The sum over all dimensions but the last of a dense tensor `[.., C]`: `[C]`, in `f32`.
pub(super) fn over_rows(x: CubeTensor) -> CubeTensor {
    let [mut rows, width] = matrix(&x);
    let mut x = x;
    loop {
        let chunks = rows.div_ceil(CHUNK).max(1);
        let sums = beside(&x, [chunks, width], DType::F32);
        let (client, element) = (x.client.clone(), element(&x));
        let count = CubeCount::Static(width.div_ceil(LANES) as u32, chunks as u32, 1);
        // SAFETY: x is `rows × width`, a chunk writes its own row of the sums, and the kernel stays within.
        unsafe {
            chunk_sums::launch_unchecked(
                &client,
                count,
                CubeDim::new_2d(LANES as u32, ROWS as u32),
                x.into_buffer_arg(),
                sums.clone().into_buffer_arg(),
                rows,
                width,
                element,
            );
        }
        (x, rows) = (sums, chunks);
        if chunks == 1 {
            x.meta.remove(0);
            debug_assert_eq!(x.shape().num_dims(), 1);
            return x;
        }
    }
}
