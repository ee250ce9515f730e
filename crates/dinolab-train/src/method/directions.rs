//! Random directions, by key.

use std::f64::consts::TAU;

use burn::tensor::{Device, Tensor, TensorData};
use dinolab_data::random::{Purpose, Random};

/// `count` directions `[count, width]` of unit length, uniform on the sphere, that depend on seed and
/// step alone.
pub fn directions(seed: u64, step: u64, [count, width]: [usize; 2], device: &Device) -> Tensor<2> {
    let mut random = Random::new(seed, step, 0, Purpose::Directions);
    let mut values = Vec::with_capacity(count * width);
    for _ in 0..count {
        let row: Vec<f64> = (0..width).map(|_| normal(&mut random)).collect();
        let length = row.iter().map(|v| v * v).sum::<f64>().sqrt();
        values.extend(row.into_iter().map(|v| (v / length.max(1e-12)) as f32));
    }
    Tensor::from_data(TensorData::new(values, [count, width]), device)
}

/// A standard normal number (Box–Muller); 1 − u keeps the logarithm finite.
fn normal(random: &mut Random) -> f64 {
    let radius = (-2.0 * (1.0 - random.unit()).ln()).sqrt();
    radius * (TAU * random.unit()).cos()
}
