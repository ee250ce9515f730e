//! Products, and operators that look at a whole row.

use dinolab_kernels::input_gradient;

use super::tensor::{Tensor, broadcast, repeated};
use super::{Call, Outcome};

pub(super) fn call(call: &Call) -> Outcome<Tensor> {
    match call.op() {
        "MatMul" => {
            call.only(&[])?;
            let [a, b] = call.operands()?;
            matmul(a, b)
        }
        "Conv" => conv(call),
        "LayerNormalization" => layer_normalization(call),
        "Softmax" => softmax(call),
        "ReduceSum" => reduce_sum(call),
        other => Err(format!("operator {other} is not known")),
    }
}

/// `[rows, inner]` · `[inner, columns]`. The kernel is written as a gradient, and is this product.
fn product(a: &[f32], b: &[f32], inner: usize, columns: usize) -> Vec<f32> {
    if inner == 0 || columns == 0 {
        return vec![0.0; a.len().checked_div(inner).unwrap_or(0) * columns];
    }
    input_gradient(a, b, columns)
}

/// Of the last two axes; those before are repeated to go together.
fn matmul(a: &Tensor, b: &Tensor) -> Outcome<Tensor> {
    let fail = || format!("{:?} and {:?} do not go together", a.shape(), b.shape());
    let ([.., rows, inner], [.., also_inner, columns]) = (a.shape(), b.shape()) else {
        return Err(fail());
    };
    let (&rows, &inner, &columns) = (rows, inner, columns);
    if inner != *also_inner {
        return Err(fail());
    }
    let before_a = &a.shape()[..a.shape().len() - 2];
    let before_b = &b.shape()[..b.shape().len() - 2];
    let before = broadcast(before_a, before_b)?;
    let shape = [before.as_slice(), &[rows, columns]].concat();
    let (from, by) = (a.floats()?, b.floats()?);
    if before_b.iter().all(|&size| size == 1) && before == before_a {
        return Tensor::f32(shape, product(from, by, inner, columns));
    }
    let mut values = Vec::with_capacity(shape.iter().product());
    let pairs = repeated(before_a, &before)
        .into_iter()
        .zip(repeated(before_b, &before));
    for (i, j) in pairs {
        let a = &from[i * rows * inner..][..rows * inner];
        let b = &by[j * inner * columns..][..inner * columns];
        values.extend(product(a, b, inner, columns));
    }
    Tensor::f32(shape, values)
}

/// Of patches side by side, without padding: `[B, C, H, W]`, `[O, C, h, w]` and `[O]`.
fn conv(call: &Call) -> Outcome<Tensor> {
    call.only(&["kernel_shape", "strides"])?;
    let [x, weight, bias] = call.operands()?;
    let (&[b, c, height, width], &[outputs, channels, kh, kw]) = (x.shape(), weight.shape()) else {
        return Err("takes images and kernels of two dimensions".into());
    };
    let kernel = Some(vec![kh as i64, kw as i64]);
    if call.ints("kernel_shape")? != kernel || call.ints("strides")? != kernel {
        return Err("strides and kernel_shape have to be the kernel's size".into());
    }
    if c != channels || kh == 0 || kw == 0 || height < kh || width < kw {
        return Err(format!(
            "{:?} and {:?} do not go together",
            x.shape(),
            weight.shape()
        ));
    }
    let (h, w) = (height / kh, width / kw);
    let (from, inner) = (x.floats()?, c * kh * kw);
    let mut columns = vec![0.0; inner * h * w];
    let mut values = Vec::with_capacity(b * outputs * h * w);
    for image in from.chunks_exact(c * height * width) {
        for (i, row) in columns.chunks_exact_mut(h * w).enumerate() {
            let (channel, y, x) = (i / (kh * kw), i / kw % kh, i % kw);
            for (at, value) in row.iter_mut().enumerate() {
                let (y, x) = (at / w * kh + y, at % w * kw + x);
                *value = image[(channel * height + y) * width + x];
            }
        }
        values.extend(product(weight.floats()?, &columns, inner, h * w));
    }
    let bias = bias.floats()?;
    for (i, plane) in values.chunks_exact_mut(h * w).enumerate() {
        let offset = *bias.get(i % outputs).ok_or("has too short a bias")?;
        plane.iter_mut().for_each(|value| *value += offset);
    }
    Tensor::f32(vec![b, outputs, h, w], values)
}

/// Over the last axis.
fn layer_normalization(call: &Call) -> Outcome<Tensor> {
    call.only(&["axis", "epsilon"])?;
    let [x, scale, bias] = call.operands()?;
    let width = last_axis(call, x)?;
    let eps = f64::from(call.float("epsilon")?.unwrap_or(1e-5));
    let (scale, bias) = (scale.floats()?, bias.floats()?);
    if scale.len() != width || bias.len() != width {
        return Err("scale and bias have to be as long as a row".into());
    }
    let mut values = x.floats()?.to_vec();
    for row in values.chunks_exact_mut(width) {
        let mean = row.iter().map(|&v| f64::from(v)).sum::<f64>() / width as f64;
        let squares = row.iter().map(|&v| (f64::from(v) - mean).powi(2));
        let deviation = (squares.sum::<f64>() / width as f64 + eps).sqrt();
        for ((value, scale), bias) in row.iter_mut().zip(scale).zip(bias) {
            *value = ((f64::from(*value) - mean) / deviation) as f32 * scale + bias;
        }
    }
    Tensor::f32(x.shape().to_vec(), values)
}

/// Over the last axis.
fn softmax(call: &Call) -> Outcome<Tensor> {
    call.only(&["axis"])?;
    let [x] = call.operands()?;
    let width = last_axis(call, x)?;
    let mut values = x.floats()?.to_vec();
    for row in values.chunks_exact_mut(width) {
        let largest = row.iter().fold(f32::NEG_INFINITY, |a, &b| a.max(b));
        row.iter_mut()
            .for_each(|value| *value = (*value - largest).exp());
        let sum: f32 = row.iter().sum();
        row.iter_mut().for_each(|value| *value /= sum);
    }
    Tensor::f32(x.shape().to_vec(), values)
}

/// Over the last axis, which is kept as 1.
fn reduce_sum(call: &Call) -> Outcome<Tensor> {
    call.only(&["keepdims"])?;
    let [x, axes] = call.operands()?;
    let rank = x.shape().len();
    if rank == 0 || x.axis(axes.integer()?)? + 1 != rank || call.int("keepdims")? != Some(1) {
        return Err("sums over the last axis and keeps it".into());
    }
    let mut shape = x.shape().to_vec();
    let width = std::mem::replace(&mut shape[rank - 1], 1);
    if width == 0 {
        return Err("has nothing to sum".into());
    }
    Tensor::f32(
        shape,
        x.floats()?
            .chunks_exact(width)
            .map(|row| row.iter().sum())
            .collect(),
    )
}

/// The size of the last axis, which has to be the one of the attribute `axis`.
fn last_axis(call: &Call, x: &Tensor) -> Outcome<usize> {
    let axis = x.axis(call.int("axis")?.unwrap_or(-1))?;
    match x.shape() {
        [.., width] if axis + 1 == x.shape().len() && *width > 0 => Ok(*width),
        shape => Err(format!("axis {axis} of {shape:?} is not the last")),
    }
}
