//! Recorded numbers, and comparison with them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use burn::tensor::{Device, Tensor, TensorData};
use dinolab_nn::weights::{Array, file_arrays};
use serde_json::Value;

pub type Arrays = BTreeMap<String, Array>;

pub fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(name)
}

pub fn arrays(name: &str) -> Arrays {
    let path = fixture(name);
    file_arrays(&path, &std::fs::read(&path).unwrap())
        .unwrap()
        .0
}

pub fn json(name: &str) -> Value {
    serde_json::from_slice(&std::fs::read(fixture(name)).unwrap()).unwrap()
}

pub fn number(value: &Value) -> f64 {
    value.as_f64().unwrap()
}

pub fn size(value: &Value) -> usize {
    value.as_u64().unwrap() as usize
}

pub fn array(value: &Value) -> Array {
    let list = |value: &Value| value.as_array().unwrap().clone();
    Array {
        shape: list(&value["shape"]).iter().map(size).collect(),
        data: list(&value["data"])
            .iter()
            .map(|v| number(v) as f32)
            .collect(),
    }
}

pub fn tensor<const D: usize>(array: &Array, device: &Device) -> Tensor<D> {
    let shape: [usize; D] = array.shape.as_slice().try_into().unwrap();
    Tensor::from_data(TensorData::new(array.data.clone(), shape), device)
}

pub fn to_host_f32<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    dinolab_nn::device::to_host_f32(tensor.without_autodiff())
}

/// ‖a − b‖ ≤ tolerance · max(‖b‖, floor).
#[track_caller]
pub fn close(what: &str, a: &[f32], b: &[f32], tolerance: f64, floor: f64) {
    assert_eq!(a.len(), b.len(), "{what}");
    let norm = |x: &dyn Fn(usize) -> f64| (0..a.len()).map(|i| x(i).powi(2)).sum::<f64>().sqrt();
    let difference = norm(&|i| f64::from(a[i]) - f64::from(b[i]));
    let length = norm(&|i| f64::from(b[i])).max(floor);
    assert!(
        difference <= tolerance * length,
        "{what}: {difference} of {length}"
    );
}

#[track_caller]
pub fn near(what: &str, found: f64, expected: &Value, tolerance: f64) {
    let expected = number(expected);
    let error = (found - expected).abs() / expected.abs().max(1e-3);
    assert!(error <= tolerance, "{what}: {found} {expected}");
}
