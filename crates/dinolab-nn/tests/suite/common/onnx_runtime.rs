//! Exported files in an ONNX runtime.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use dinolab_nn::init::Init;
use rten_tensor::prelude::*;

/// A shape and values.
pub type Array = (Vec<usize>, Vec<f32>);

/// Random images of `[B, C, H, W]`.
pub fn images(shape: [usize; 4]) -> Vec<f32> {
    Init::new(3).truncated_normal(shape.iter().product(), 1.0)
}

/// The outputs of the file at `path` in an ONNX runtime.
pub fn computed(path: &Path, shape: [usize; 4]) -> BTreeMap<String, Array> {
    let model = rten::Model::load(fs::read(path).unwrap()).unwrap();
    let input = rten_tensor::Tensor::from_data(&shape, images(shape));
    let outputs = model.output_ids().to_vec();
    let values = model
        .run(vec![(model.input_ids()[0], input.into())], &outputs, None)
        .unwrap();
    let name = |id: &rten::NodeId| model.node_info(*id).unwrap().name().unwrap().to_owned();
    let array = |value: rten::Value| {
        let tensor: rten_tensor::Tensor<f32> = value.try_into().unwrap();
        (tensor.shape().to_vec(), tensor.into_data())
    };
    outputs
        .iter()
        .map(name)
        .zip(values.into_iter().map(array))
        .collect()
}

/// The error of the worst row (a token, a map of a head, an image's logits), relative to its
/// length.
pub fn deviation(found: &Array, expected: &Array) -> f64 {
    assert_eq!(found.0, expected.0);
    let row = match found.0[..] {
        [_, _, h, w] => h * w,
        [.., width] => width,
        [] => 1,
    };
    let length = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>().sqrt();
    let rows = found.1.chunks(row).zip(expected.1.chunks(row));
    let errors = rows.map(|(found, expected)| {
        let pairs = found.iter().zip(expected);
        let error = length(&mut pairs.map(|(f, e)| f64::from(*f) - f64::from(*e)));
        error / length(&mut expected.iter().map(|&e| f64::from(e)))
    });
    // NaN is not smaller than anything, and stays.
    errors.fold(0.0, |worst, next| if next <= worst { worst } else { next })
}
