//! Arrays of fixtures as images, and the distance from what other programs computed.

use burn::tensor::{Tensor, TensorData};
use dinolab_nn::Device;
use dinolab_nn::weights::Array;

/// Images `[B, C, H, W]` on a device.
pub fn images(array: &Array, device: &Device) -> Tensor<4> {
    let shape: [usize; 4] = array.shape.as_slice().try_into().unwrap();
    Tensor::from_data(TensorData::new(array.data.clone(), shape), device)
}

/// ‖a − b‖ / ‖b‖.
pub fn error(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    let square = |x: f32| f64::from(x).powi(2);
    let difference: f64 = a.iter().zip(b).map(|(a, b)| square(a - b)).sum();
    let norm: f64 = b.iter().map(|&b| square(b)).sum();
    (difference / norm).sqrt()
}
