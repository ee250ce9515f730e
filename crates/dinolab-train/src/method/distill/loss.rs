//! How far predictions are from standardised targets.

use burn::tensor::Tensor;

/// Mean square distance of predictions `[R, F]` from targets `[R, F]`, `[1]`. Of targets with mean 0
/// and variance 1 in each dimension it is 1 for predicting nothing, and 0 for the targets: the share of
/// their variance that is not explained. Gradients reach the predictions alone.
pub fn unexplained(predicted: Tensor<2>, targets: Tensor<2>) -> Tensor<1> {
    let [rows, width] = predicted.dims();
    let targets = match predicted.is_autodiff() {
        true => Tensor::from_inner(targets),
        false => targets,
    };
    let distance = predicted - targets;
    // Row sums first: a fixed order of additions, whatever the number of threads.
    let squares = (distance.clone() * distance).sum_dim(1).reshape([rows]);
    squares.sum() / (rows * width) as f64
}
