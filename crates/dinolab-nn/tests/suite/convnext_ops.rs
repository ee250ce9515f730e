//! The operations of ConvNeXts against their composite bodies: results and all gradients.

use crate::common;
use std::sync::Arc;

use burn::tensor::{Device, Tensor, TensorData};
use dinolab_nn::device::to_host_f32;
use dinolab_nn::init::Init;
use dinolab_nn::ops::branch::{BranchParams, MlpActivation, TokenGroup, TokenLayout};
use dinolab_nn::ops::conv::Kernel;
use dinolab_nn::ops::{self, composite};

/// Normal numbers, on the CPU.
fn random<const D: usize>(seed: u64, shape: [usize; D]) -> Tensor<D> {
    let values = Init::new(seed).truncated_normal(shape.iter().product(), 1.0);
    Tensor::from_data(TensorData::new(values, shape), &Device::flex())
}

/// The same numbers on another device, as a leaf of its graph.
fn leaf<const D: usize>(x: &Tensor<D>, device: &Device) -> Tensor<D> {
    Tensor::from_data(x.to_data(), device).require_grad()
}

#[track_caller]
fn same(what: &str, a: &[f32], b: &[f32]) {
    assert_eq!(a.len(), b.len(), "{what}");
    let square = |x: f32| f64::from(x).powi(2);
    let length = b.iter().map(|&b| square(b)).sum::<f64>().sqrt();
    let pairs = a.iter().zip(b);
    let off = pairs.map(|(a, b)| square(a - b)).sum::<f64>().sqrt();
    assert!(off <= 1e-5 * length.max(1e-3), "{what}: {off} of {length}");
}

fn host<const D: usize>(x: Tensor<D>) -> Vec<f32> {
    to_host_f32(x)
}

#[test]
fn depthwise_convolutions() {
    type Op = fn(Tensor<4>, Tensor<2>, Tensor<1>) -> Tensor<4>;
    for [b, h, w, c] in [[2, 9, 5, 3], [3, 1, 2, 17], [1, 14, 15, 20]] {
        let (x, weight) = (random(1, [b, h, w, c]), random(2, [c, 49]));
        let (bias, along) = (random(3, [c]), random(4, [b, h, w, c]));
        let run = |device: &Device, f: Op| {
            let (x, weight) = (leaf(&x, device), leaf(&weight, device));
            let bias = leaf(&bias, device);
            let y = f(x.clone(), weight.clone(), bias.clone());
            let grads = (y.clone() * leaf(&along, device)).sum().backward();
            [
                host(y.inner()),
                host(x.grad(&grads).unwrap()),
                host(weight.grad(&grads).unwrap()),
                host(bias.grad(&grads).unwrap()),
            ]
        };
        let ours = run(&common::device().autodiff(), ops::depthwise_conv);
        let theirs = run(&Device::flex().autodiff(), composite::depthwise_conv);
        for ((ours, theirs), what) in ours.iter().zip(&theirs).zip(["y", "dx", "dw", "db"]) {
            same(what, ours, theirs);
        }
    }
}

#[test]
fn branches_onto_other_tokens() {
    let group = [
        TokenGroup {
            images: 2,
            tokens: 3,
        },
        TokenGroup {
            images: 2,
            tokens: 4,
        },
    ];
    let (rows, d) = (14, 6);
    for (kind, h, inner) in [
        (MlpActivation::Gelu, 10, 10),
        (MlpActivation::SwiGlu, 10, 5),
    ] {
        for layout in [
            TokenLayout::all(&group),
            TokenLayout::new(&group, &[1.5, 0.0, 0.0, 1.5]),
        ] {
            let layout = Arc::new(layout);
            let (base, x, along) = (
                random(1, [rows, d]),
                random(2, [rows, d]),
                random(3, [rows, d]),
            );
            let (first, second) = (random(4, [h, d]), random(5, [d, inner]));
            let [gamma, beta, second_bias] = [6, 7, 8].map(|seed| random(seed, [d]));
            let first_bias = random(9, [h]);
            let run = |device: &Device, fused: bool| {
                let [base, x] = [&base, &x].map(|tokens| leaf(tokens, device));
                let params = BranchParams {
                    gamma: leaf(&gamma, device),
                    beta: leaf(&beta, device),
                    eps: 1e-6,
                    first: leaf(&first, device),
                    first_bias: leaf(&first_bias, device),
                    second: leaf(&second, device),
                    second_bias: leaf(&second_bias, device),
                };
                let p = params.clone();
                let (of_base, of_x, layout) = (base.clone(), x.clone(), layout.clone());
                let y = match fused {
                    true => ops::branch_onto(kind, of_base, of_x, params, layout),
                    false => composite::branch_onto(kind, of_base, of_x, params, &layout),
                };
                let grads = (y.clone() * leaf(&along, device)).sum().backward();
                let vectors = [p.gamma, p.beta, p.first_bias, p.second_bias];
                let matrices = [base, x, p.first, p.second];
                let mut all = vec![host(y.inner())];
                all.extend(matrices.map(|x| host(x.grad(&grads).unwrap())));
                all.extend(vectors.map(|x| host(x.grad(&grads).unwrap())));
                all
            };
            let ours = run(&common::device().autodiff(), true);
            let theirs = run(&Device::flex().autodiff(), false);
            for (i, (ours, theirs)) in ours.iter().zip(&theirs).enumerate() {
                same(&format!("{kind:?} {i}"), ours, theirs);
            }
        }
    }
}

/// With and without a graph: a sum afterwards, or an epilogue.
#[test]
fn a_bias_of_a_convolution_is_added_to_every_position() {
    let kernel = Kernel {
        side: 2,
        stride: 2,
        padding: 0,
    };
    let (x, weight, bias) = (random(1, [2, 5, 7, 3]), random(2, [6, 12]), random(3, [6]));
    let plain = composite::conv(x.clone(), weight.clone(), kernel);
    let wanted = host(plain + bias.clone().reshape([1, 1, 1, 6]));
    let device = common::device();
    let at = |device: &Device| {
        let y = ops::conv_bias(
            leaf(&x, device),
            leaf(&weight, device),
            leaf(&bias, device),
            kernel,
        );
        host(y.without_autodiff())
    };
    same("recorded", &at(&device.clone().autodiff()), &wanted);
    let here = |x: &Tensor<4>| Tensor::from_data(x.to_data(), &device);
    let y = ops::conv_bias(
        here(&x),
        Tensor::from_data(weight.to_data(), &device),
        Tensor::from_data(bias.to_data(), &device),
        kernel,
    );
    same("plain", &host(y), &wanted);
}
