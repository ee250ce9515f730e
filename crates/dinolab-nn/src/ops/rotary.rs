//! Rotary position embeddings of the joint query-key-value buffer.

use burn::tensor::{FloatDType, Int, Tensor, TensorData};
use dinolab_kernels::Rotation;

use crate::precision::single;

/// Turns queries and keys of `qkv` `[B, N, 3·D]` by `rotation`, which has a place for each of the `B · N`
/// rows; values stay. In `f32` inside.
pub fn rotate(qkv: Tensor<3>, rotation: &Rotation) -> Tensor<3> {
    let [b, n, three_d] = qkv.dims();
    let (rows, width) = (b * n, rotation.head_width());
    let (half, parts) = (width / 2, three_d / width);
    let turned = parts / 3 * 2;
    let dtype = FloatDType::from(qkv.dtype());
    let device = qkv.device();
    // A place more, for tokens that are not turned.
    let mut table = rotation.table().to_vec();
    let nowhere = table.len() / width;
    table.extend((0..width).map(|i| if i < half { 1.0 } else { 0.0 }));
    let table = Tensor::<2>::from_data(TensorData::new(table, [nowhere + 1, width]), &device);
    let places = rotation.places().iter().map(|&place| match place {
        Rotation::NOWHERE => nowhere as i64,
        place => i64::from(place),
    });
    let places = TensorData::new(places.collect::<Vec<_>>(), [rows]);
    let angles = table.select(0, Tensor::<1, Int>::from_data(places, &device));
    let angles = angles.reshape([rows, 1, width]);
    let cosines = angles.clone().narrow(2, 0, half);
    let sines = angles.narrow(2, half, half);
    let x = single(qkv).reshape([rows, parts, width]);
    let values = x.clone().narrow(1, turned, parts - turned);
    let x = x.narrow(1, 0, turned);
    let (a, b_) = (x.clone().narrow(2, 0, half), x.narrow(2, half, half));
    let first = a.clone() * cosines.clone() - b_.clone() * sines.clone();
    let second = b_ * cosines + a * sines;
    let x = Tensor::cat(vec![Tensor::cat(vec![first, second], 2), values], 1);
    x.reshape([b, n, three_d]).cast(dtype)
}
