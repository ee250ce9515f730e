//! `bf16` against `f32`, on devices that have both.

use crate::common;
use burn::tensor::{DType, Device, Gradients, Tensor, TensorData};
use dinolab_nn::init::Init;
use dinolab_nn::vit::NoDropPath;
use dinolab_nn::{HeadConfig, Network, Parameters, Precision, VitConfig};

fn network(device: &Device, precision: Precision) -> Network {
    let vit = VitConfig {
        image_size: 32,
        patch_size: 8,
        width: 48,
        depth: 4,
        heads: 3,
        ..Default::default()
    };
    let head = HeadConfig {
        out_dim: 70,
        hidden_dim: 64,
        bottleneck_dim: 32,
        use_bn: true,
        norm_last_layer: false,
        ..HeadConfig::default()
    };
    let mut network = Network::new(&vit, &head, 5, device).unwrap();
    // Larger than at the start of training, so that attention and GELU leave their linear part.
    network.visit_mut("", &mut |name, param| {
        if name.ends_with("weight") && param.shape().len() == 2 {
            param.set_flat(param.flat() * 6.0);
        }
    });
    network.set_precision(precision);
    network
}

fn to_host_f32<const D: usize>(x: Tensor<D>) -> Vec<f32> {
    assert_eq!(x.dtype(), DType::F32);
    x.without_autodiff().into_data().try_to_vec().unwrap()
}

fn norm(values: impl Iterator<Item = f64>) -> f64 {
    values.map(|v| v * v).sum::<f64>().sqrt()
}

fn length(values: &[f32]) -> f64 {
    norm(values.iter().map(|&v| f64::from(v)))
}

/// ‖a − b‖ / ‖b‖, of a `b` of at least the length `least`.
fn relative(a: &[f32], b: &[f32], least: f64) -> f64 {
    let difference = norm(a.iter().zip(b).map(|(&x, &y)| f64::from(x) - f64::from(y)));
    difference / length(b).max(least)
}

/// Logits, features, attention, and the gradient of every parameter.
fn everything(precision: Precision, views: &TensorData) -> [Vec<(String, Vec<f32>)>; 2] {
    let device = common::device();
    let views = Tensor::<4>::from_data(views.clone(), &device);
    let plain = network(&device, precision);
    let mut found = vec![
        (
            "features".into(),
            to_host_f32(plain.backbone.vit().unwrap().forward(views.clone())),
        ),
        (
            "attention".into(),
            to_host_f32(plain.backbone.vit().unwrap().last_attention(views.clone())),
        ),
        (
            "logits".into(),
            to_host_f32(plain.forward(vec![views.clone()], &NoDropPath)),
        ),
    ];
    let student = network(&device.autodiff(), precision);
    let logits = student.forward(vec![Tensor::from_inner(views)], &NoDropPath);
    found.push(("logits while recording".into(), to_host_f32(logits.clone())));
    let mut grads: Gradients = (logits.clone() * logits).sum().backward();
    let mut all = Vec::new();
    student.visit("", &mut |name, param| {
        if let Some(grad) = param.take_grad(&mut grads) {
            all.push((name.to_owned(), to_host_f32(grad)));
        }
    });
    assert_eq!(all.len(), 66);
    [found, all]
}

#[test]
fn bf16_is_near_f32_where_there_is_bf16() {
    if let Err(error) = Precision::Bf16.check(&common::device()) {
        let error = error.to_string();
        assert!(
            error.contains("precision") && error.contains("bf16"),
            "{error}"
        );
        return;
    }
    let pixels = Init::new(1).truncated_normal(6 * 3 * 32 * 32, 1.0);
    let views = TensorData::new(pixels, [6, 3, 32, 32]);
    let (single, half) = (
        everything(Precision::F32, &views),
        everything(Precision::Bf16, &views),
    );
    // A number is rounded by at most 2⁻⁹ = 0.002, some ten times on its way through four
    // blocks and the head, forward, and as often again backward, by weights six times as large as
    // those that training starts from. Measured: 0.020 and 0.090. A mistake in a formula is of order 1.
    for ((ours, expected), limit) in half.iter().zip(&single).zip([0.04, 0.18]) {
        // Some gradients are 0 by nature: batch normalisation takes away what shifts all rows.
        let longest = expected.iter().map(|(_, b)| length(b)).fold(0.0, f64::max);
        for ((name, a), (_, b)) in ours.iter().zip(expected) {
            let error = relative(a, b, 1e-3 * longest);
            println!("{name}: {error:.1e} of {limit}");
            assert!(error < limit, "{name}: {error}");
        }
    }
    // It did round.
    assert!(relative(&half[0][0].1, &single[0][0].1, 0.0) > 1e-4);
}

/// Products whose rows are not as long as hardware likes, transposed operands, and an inner dimension that is
/// long enough to be divided.
#[test]
fn products_of_bf16_are_those_of_f32_at_odd_sizes() {
    use burn::tensor::FloatDType;
    use dinolab_nn::ops;
    let device = common::device();
    if Precision::Bf16.check(&device).is_err() {
        return;
    }
    for (case, (m, k, n)) in [
        (1, 1, 1),
        (37, 64, 37),
        (197, 197, 64),
        (130, 33, 259),
        (64, 8192, 96),
        (5, 6007, 9),
    ]
    .into_iter()
    .enumerate()
    {
        for transposed in [[false, false], [true, false], [false, true]] {
            let operand = |rows: usize, columns: usize, transposed: bool, seed: u64| {
                let shape = if transposed {
                    [columns, rows]
                } else {
                    [rows, columns]
                };
                let values =
                    Init::new(seed + 10 * case as u64).truncated_normal(rows * columns, 1.0);
                let x = Tensor::<2>::from_data(TensorData::new(values, shape), &device);
                let x = x.cast(FloatDType::BF16);
                if transposed { x.transpose() } else { x }
            };
            let (a, b) = (
                operand(m, k, transposed[0], 1),
                operand(k, n, transposed[1], 2),
            );
            let expected = ops::matmul_f32(
                a.clone().cast(FloatDType::F32),
                b.clone().cast(FloatDType::F32),
            );
            let found = to_host_f32(ops::matmul(a, b).cast(FloatDType::F32));
            let error = relative(&found, &to_host_f32(expected), 1e-3);
            // The result is rounded once, by at most 2⁻⁹.
            assert!(error < 4e-3, "{m} × {k} × {n}, {transposed:?}: {error}");
        }
    }
}

#[test]
fn single_precision_is_everywhere_and_names_are_read() {
    Precision::F32.check(&common::device()).unwrap();
    for precision in [Precision::F32, Precision::Bf16] {
        assert_eq!(precision.to_string().parse(), Ok(precision));
    }
    assert!("f16".parse::<Precision>().unwrap_err().contains("bf16"));
}
