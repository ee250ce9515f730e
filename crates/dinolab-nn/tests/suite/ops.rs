//! The operations on the device under test against the composite bodies on the CPU: results
//! and all gradients.

use crate::common;
use std::cell::{Cell, RefCell};
use std::sync::Arc;

use burn::tensor::{Device, Gradients, Tensor, TensorData};
use dinolab_nn::device::to_host_f32;
use dinolab_nn::init::Init;
use dinolab_nn::ops::branch::{Branch, BranchParams, Rotation, TokenGroup, TokenLayout};
use dinolab_nn::ops::{self, composite};

thread_local! {
    /// Where leaves are made.
    static DEVICE: RefCell<Device> = RefCell::new(common::device().autodiff());
    /// How many random tensors the test has drawn.
    static DRAWS: Cell<u64> = const { Cell::new(1) };
}

fn device() -> Device {
    DEVICE.with_borrow(Clone::clone)
}

/// What `f` finds with its leaves on the CPU.
fn on_cpu<T>(f: impl FnOnce() -> T) -> T {
    let under_test = DEVICE.replace(Device::flex().autodiff());
    let found = f();
    DEVICE.set(under_test);
    found
}

/// The same numbers where leaves are made, outside of any graph.
fn here<const D: usize>(x: &Tensor<D>) -> Tensor<D> {
    Tensor::from_data(x.to_data(), &device().without_autodiff())
}

/// Normal numbers, the same ones whenever a test runs: where a result vanishes by chance, as the
/// derivative of GELU may for a single number, no relative bound holds.
fn random<const D: usize>(shape: [usize; D]) -> Tensor<D> {
    let seed = DRAWS.replace(DRAWS.get() + 1);
    let values = Init::new(seed).truncated_normal(shape.iter().product(), 1.0);
    Tensor::from_data(TensorData::new(values, shape), &Device::flex())
}

#[track_caller]
fn same<const D: usize>(what: &str, a: Tensor<D>, b: Tensor<D>) {
    assert_eq!(a.dims(), b.dims(), "{what}");
    let (a, b) = (to_host_f32(a), to_host_f32(b));
    let length = b.iter().map(|b| f64::from(*b).powi(2)).sum::<f64>().sqrt();
    let difference = a
        .iter()
        .zip(&b)
        .map(|(a, b)| f64::from(a - b).powi(2))
        .sum::<f64>()
        .sqrt();
    assert!(
        difference <= 1e-5 * length.max(1e-3),
        "{what}: {difference} of {length}"
    );
}

/// A leaf of a graph.
fn leaf<const D: usize>(x: &Tensor<D>) -> Tensor<D> {
    Tensor::<D>::from_inner(here(x)).require_grad()
}

/// Gradients of a weighted sum of the result, so that no gradient is uniform.
fn backward<const D: usize>(y: Tensor<D>, weights: &Tensor<D>) -> Gradients {
    assert!(y.device() == device());
    (y * Tensor::from_inner(here(weights))).sum().backward()
}

#[test]
fn gelu() {
    for shape in [[1, 1, 1], [2, 3, 7], [5, 37, 33]] {
        let (x, w) = (random(shape) * 3.0, random(shape));
        let run = |f: fn(Tensor<3>) -> Tensor<3>| {
            let x = leaf(&x);
            let y = f(x.clone());
            let grads = backward(y.clone(), &w);
            (y.inner(), x.grad(&grads).unwrap())
        };
        let ((y, dx), (y2, dx2)) = (run(ops::gelu), on_cpu(|| run(composite::gelu)));
        same("plain", ops::gelu(here(&x)), y2.clone());
        same("y", y, y2);
        same("dx", dx, dx2);
    }
}

#[test]
fn layer_norm() {
    for [b, n, d] in [[1, 1, 5], [3, 7, 33], [2, 300, 48]] {
        let (x, w) = (random([b, n, d]), random([b, n, d]));
        let (gamma, beta) = (random([d]), random([d]));
        let run = |f: fn(Tensor<3>, Tensor<1>, Tensor<1>, f64) -> Tensor<3>| {
            let (x, gamma, beta) = (leaf(&x), leaf(&gamma), leaf(&beta));
            let y = f(x.clone(), gamma.clone(), beta.clone(), 1e-6);
            let grads = backward(y.clone(), &w);
            let grad = [gamma, beta].map(|p| p.grad(&grads).unwrap());
            (y.inner(), x.grad(&grads).unwrap(), grad)
        };
        let (y, dx, [dg, db]) = run(ops::layer_norm);
        let (y2, dx2, [dg2, db2]) = on_cpu(|| run(composite::layer_norm));
        same(
            "plain",
            ops::layer_norm(here(&x), here(&gamma), here(&beta), 1e-6),
            y2.clone(),
        );
        same("y", y, y2);
        same("dx", dx, dx2);
        same("dgamma", dg, dg2);
        same("dbeta", db, db2);
    }
}

/// A part of the tokens, as the final normalisation sees the class token: a strided view.
#[test]
fn views_and_broadcast_gradients() {
    let x = random([3, 5, 16]);
    let (gamma, beta) = (random([16]), random([16]));
    let run = |f: fn(Tensor<3>, Tensor<1>, Tensor<1>, f64) -> Tensor<3>| {
        let leaf = leaf(&x);
        let (gamma, beta) = (
            Tensor::from_inner(here(&gamma)),
            Tensor::from_inner(here(&beta)),
        );
        // The gradient of a mean is one number, broadcast.
        let y = f(leaf.clone().narrow(1, 1, 2), gamma, beta, 1e-6);
        let grads = (y.clone() * y.clone()).mean().backward();
        (y.inner(), leaf.grad(&grads).unwrap())
    };
    let ((y, dx), (y2, dx2)) = (run(ops::layer_norm), on_cpu(|| run(composite::layer_norm)));
    same("y", y, y2);
    same("dx", dx, dx2);
    let run = |f: fn(Tensor<3>) -> Tensor<3>| {
        let leaf = leaf(&x);
        let grads = f(leaf.clone().swap_dims(0, 1)).mean().backward();
        leaf.grad(&grads).unwrap()
    };
    same("gelu", run(ops::gelu), on_cpu(|| run(composite::gelu)));
}

#[test]
fn attention() {
    for (b, n, d, heads) in [(1, 1, 4, 1), (2, 5, 12, 3), (3, 37, 64, 2), (1, 150, 10, 2)] {
        let (x, w) = (random([b, n, 3 * d]), random([b, n, d]));
        let run = |f: fn(Tensor<3>, usize) -> Tensor<3>| {
            let x = leaf(&x);
            let y = f(x.clone(), heads);
            let grads = backward(y.clone(), &w);
            (y.inner(), x.grad(&grads).unwrap())
        };
        let ((y, dx), (y2, dx2)) = (run(ops::attention), on_cpu(|| run(composite::attention)));
        same("plain", ops::attention(here(&x), heads), y2.clone());
        same("y", y, y2);
        same("dx", dx, dx2);
    }
}

type Linear = fn(Tensor<3>, Tensor<2>, Option<Tensor<1>>) -> Tensor<3>;

#[test]
fn linear_maps() {
    for (b, n, i, o) in [
        (1, 1, 3, 1),
        (2, 3, 5, 7),
        (3, 37, 33, 130),
        (7, 190, 20, 12),
    ] {
        let (x, weight, bias) = (random([b, n, i]), random([o, i]), random([o]));
        let w = random([b, n, o]);
        for biased in [true, false] {
            let run = |f: Linear| {
                let (x, weight, bias) = (leaf(&x), leaf(&weight), leaf(&bias));
                let y = f(x.clone(), weight.clone(), biased.then(|| bias.clone()));
                let grads = backward(y.clone(), &w);
                let of_bias = if biased {
                    bias.grad(&grads).unwrap()
                } else {
                    bias.inner()
                };
                (
                    y.inner(),
                    x.grad(&grads).unwrap(),
                    weight.grad(&grads).unwrap(),
                    of_bias,
                )
            };
            let plain_bias = || biased.then(|| here(&bias));
            let pairs: [(Linear, Linear); 2] = [
                (ops::linear, composite::linear),
                (ops::linear_gelu, composite::linear_gelu),
            ];
            for (fused, plain) in pairs {
                let ((y, dx, dw, db), (y2, dx2, dw2, db2)) = (run(fused), on_cpu(|| run(plain)));
                same(
                    "plain",
                    fused(here(&x), here(&weight), plain_bias()),
                    y2.clone(),
                );
                same("y", y, y2);
                same("dx", dx, dx2);
                same("dw", dw, dw2);
                same("db", db, db2);
            }
        }
    }
}

#[test]
fn frozen_parts_get_no_gradient() {
    let (x, weight, bias) = (random([2, 3, 8]), random([4, 8]), random([4]));
    let frozen = Tensor::<2>::from_inner(here(&weight));
    let bias = Tensor::from_inner(here(&bias));
    let x = leaf(&x);
    let y = ops::linear_gelu(x.clone(), frozen.clone(), Some(bias));
    let grads = y.sum().backward();
    assert!(x.grad(&grads).is_some() && frozen.grad(&grads).is_none());
}

#[test]
fn loss() {
    for (batch, views, k) in [(1, 2, 5), (3, 6, 33), (4, 3, 257)] {
        let (logits, centre) = (random([2 * batch, k]), random([k]));
        let targets = ops::teacher_probabilities(here(&logits), here(&centre), 0.07);
        same(
            "targets",
            targets.clone(),
            composite::teacher_probabilities(logits, centre, 0.07),
        );
        let student = random([views * batch, k]);
        let run = |f: fn(Tensor<2>, Tensor<2>, usize, f64) -> Tensor<1>| {
            let student = leaf(&student);
            let loss = f(
                student.clone(),
                Tensor::from_inner(here(&targets)),
                batch,
                0.1,
            );
            let grads = (loss.clone() * 0.25).backward();
            (loss.inner(), student.grad(&grads).unwrap())
        };
        let ((loss, grad), (loss2, grad2)) =
            (run(ops::dino_loss), on_cpu(|| run(composite::dino_loss)));
        same("loss", loss, loss2);
        same("gradient", grad, grad2);
    }
}

#[test]
fn loss_of_weighted_rows() {
    for (rows, k) in [(1, 5), (7, 33), (40, 257)] {
        let logits = random([rows, k]);
        let targets = composite::sinkhorn(logits, 0.07);
        let student = random([rows, k]);
        let weights: Vec<f32> = (0..rows).map(|row| 0.01 * (1 + row % 5) as f32).collect();
        let run = |f: fn(Tensor<2>, Tensor<2>, Vec<f32>, f64) -> Tensor<1>| {
            let student = leaf(&student);
            let targets = Tensor::from_inner(here(&targets));
            let loss = f(student.clone(), targets, weights.clone(), 0.1);
            let grads = (loss.clone() * 0.25).backward();
            (loss.inner(), student.grad(&grads).unwrap())
        };
        let (loss, grad) = run(ops::weighted_cross_entropy);
        let (loss2, grad2) = on_cpu(|| run(composite::weighted_cross_entropy));
        same("loss", loss, loss2);
        same("gradient", grad, grad2);
    }
}

/// A branch with its parameters as leaves: result and gradients of all of them.
fn branch_of(
    f: fn(Branch, Tensor<2>, BranchParams, Arc<TokenLayout>) -> Tensor<2>,
    kind: Branch,
    x: &Tensor<2>,
    params: &BranchParams,
    samples: &Arc<TokenLayout>,
    weights: &Tensor<2>,
) -> (Tensor<2>, Vec<Vec<f32>>) {
    let x = leaf(x);
    let own = BranchParams {
        gamma: leaf(&params.gamma),
        beta: leaf(&params.beta),
        eps: params.eps,
        first: leaf(&params.first),
        first_bias: leaf(&params.first_bias),
        second: leaf(&params.second),
        second_bias: leaf(&params.second_bias),
    };
    let y = f(kind, x.clone(), own.clone(), samples.clone());
    let grads = backward(y.clone(), weights);
    let vectors = [own.gamma, own.beta, own.first_bias, own.second_bias];
    let matrices = [x, own.first, own.second];
    let mut all: Vec<_> = vectors.map(|p| to_host_f32(p.grad(&grads).unwrap())).into();
    all.extend(matrices.map(|p| to_host_f32(p.grad(&grads).unwrap())));
    (y.inner(), all)
}

/// A rotation of heads of width `width`: of all tokens but the first two of an image, each of which has a
/// place of its own.
fn rotation(groups: &[TokenGroup], width: usize) -> Rotation {
    let (mut table, mut places) = (Vec::new(), Vec::new());
    for group in groups {
        for token in (0..group.images).flat_map(|_| 0..group.tokens) {
            if token < 2 {
                places.push(Rotation::NOWHERE);
                continue;
            }
            places.push((table.len() / width) as u32);
            let angles: Vec<f32> = (0..width / 2)
                .map(|i| (places.len() * (i + 1)) as f32 * 0.37)
                .collect();
            table.extend(angles.iter().map(|angle| angle.cos()));
            table.extend(angles.iter().map(|angle| angle.sin()));
        }
    }
    Rotation::new(width, table, places)
}

#[test]
fn branches() {
    let runs = [
        TokenGroup {
            images: 3,
            tokens: 37,
        },
        TokenGroup {
            images: 4,
            tokens: 10,
        },
    ];
    let rows = 3 * 37 + 4 * 10;
    let (d, h) = (24, 50);
    let dropping = TokenLayout::new(&runs, &[1.5, 0.0, 1.5, 1.5, 0.0, 1.5, 0.0]);
    let kinds = [
        (Branch::Attention(3), None),
        (Branch::ClassAttention(2), None),
        (Branch::Mlp, None),
        (Branch::GatedMlp, None),
        (Branch::Attention(3), Some(rotation(&runs, 8))),
        (Branch::ClassAttention(2), Some(rotation(&runs, 12))),
    ];
    for samples in [TokenLayout::all(&runs), dropping] {
        for (kind, rotation) in kinds.clone() {
            let samples = Arc::new(samples.clone().with_rotation(rotation.map(Arc::new)));
            let (hidden, inner) = match kind {
                Branch::Mlp => (h, h),
                Branch::GatedMlp => (2 * h, h),
                _ => (3 * d, d),
            };
            let x = random([rows, d]);
            let params = BranchParams {
                gamma: random([d]),
                beta: random([d]),
                eps: 1e-6,
                first: random([hidden, d]) * 0.2,
                first_bias: random([hidden]),
                second: random([d, inner]) * 0.2,
                second_bias: random([d]),
            };
            let results = if matches!(kind, Branch::ClassAttention(_)) {
                7
            } else {
                rows
            };
            let weights = random([results, d]);
            let plain = |kind, x, params, samples: Arc<TokenLayout>| {
                composite::branch(kind, x, params, &samples)
            };
            let (y, grads) = branch_of(ops::branch, kind, &x, &params, &samples, &weights);
            let (y2, grads2) = on_cpu(|| branch_of(plain, kind, &x, &params, &samples, &weights));
            same(&format!("{kind:?} y"), y, y2.clone());
            let params = BranchParams {
                gamma: here(&params.gamma),
                beta: here(&params.beta),
                eps: params.eps,
                first: here(&params.first),
                first_bias: here(&params.first_bias),
                second: here(&params.second),
                second_bias: here(&params.second_bias),
            };
            let plain = ops::branch(kind, here(&x), params, samples.clone());
            same("plain", plain, y2);
            for (i, (a, b)) in grads.iter().zip(&grads2).enumerate() {
                let tensor = |x: &Vec<f32>| Tensor::<1>::from_floats(&x[..], &Device::flex());
                same(&format!("{kind:?} gradient {i}"), tensor(a), tensor(b));
            }
        }
    }
}

#[test]
fn prototypes() {
    for (rows, width, k) in [(1, 3, 2), (9, 17, 300)] {
        let (x, v, g) = (random([rows, width]), random([k, width]), random([k]));
        let weights = random([rows, k]);
        let run = |f: fn(Tensor<2>, Tensor<2>, Tensor<1>) -> Tensor<2>| {
            let (x, v, g) = (leaf(&x), leaf(&v), leaf(&g));
            let y = f(x.clone(), v.clone(), g.clone());
            let grads = backward(y.clone(), &weights);
            let of = [x.grad(&grads).unwrap(), v.grad(&grads).unwrap()];
            (y.inner(), of, g.grad(&grads).unwrap())
        };
        let (y, [dx, dv], dg) = run(ops::prototypes);
        let (y2, [dx2, dv2], dg2) = on_cpu(|| run(composite::prototypes));
        let plain = ops::prototypes(here(&x), here(&v), here(&g));
        same("plain", plain, y2.clone());
        same("y", y, y2);
        same("dx", dx, dx2);
        same("dv", dv, dv2);
        same("dg", dg, dg2);
    }
}

/// `[.., M, K] · [.., K, N]` in double precision.
fn product(a: &[f32], b: &[f32], [batch, m, k, n]: [usize; 4]) -> Vec<f64> {
    let at = |x: &[f32], i: usize| f64::from(x[i]);
    let cell = |i: usize| {
        let (image, row, column) = (i / (m * n), i / n % m, i % n);
        (0..k)
            .map(|j| at(a, (image * m + row) * k + j) * at(b, (image * k + j) * n + column))
            .sum()
    };
    (0..batch * m * n).map(cell).collect()
}

/// Fewer bits than `f32` has, as in TF32, would leave a deviation of about 3e-4.
#[track_caller]
fn exact(what: &str, found: Vec<f32>, expected: &[f64]) {
    let length = expected.iter().map(|b| b * b).sum::<f64>().sqrt();
    let difference = found
        .iter()
        .zip(expected)
        .map(|(a, b)| (f64::from(*a) - b).powi(2))
        .sum::<f64>()
        .sqrt();
    assert!(
        difference <= 2e-6 * length,
        "{what}: {difference} of {length}"
    );
}

#[test]
fn products_of_single_precision_keep_it() {
    for [b, h, m, k, n] in [
        [1, 1, 1, 1, 1],
        [1, 1, 1, 300, 70],
        [1, 1, 97, 130, 1],
        [1, 1, 65, 192, 577],
        [2, 3, 37, 64, 37],
        [3, 2, 150, 33, 64],
    ] {
        let (x, y, w) = (
            random([b, h, m, k]),
            random([b, h, k, n]),
            random([b, h, m, n]),
        );
        let [x_values, y_values, w_values] = [&x, &y, &w].map(|t| to_host_f32(t.clone()));
        let flipped = |t: &Tensor<4>| to_host_f32(t.clone().swap_dims(2, 3));
        let expected = product(&x_values, &y_values, [b * h, m, k, n]);
        let expected_dx = product(&w_values, &flipped(&y), [b * h, m, n, k]);
        let expected_dy = product(&flipped(&x), &w_values, [b * h, k, m, n]);
        for (which, f) in [
            (
                "matmul",
                ops::matmul as fn(Tensor<4>, Tensor<4>) -> Tensor<4>,
            ),
            ("matmul_f32", ops::matmul_f32),
        ] {
            exact(which, to_host_f32(f(here(&x), here(&y))), &expected);
            // An operand may be a transposed view.
            let view = here(&y.clone().swap_dims(2, 3)).swap_dims(2, 3);
            exact(which, to_host_f32(f(here(&x), view)), &expected);
            let (x, y) = (leaf(&x), leaf(&y));
            let z = f(x.clone(), y.clone());
            let grads = backward(z.clone(), &w);
            exact(which, to_host_f32(z.inner()), &expected);
            exact(which, to_host_f32(x.grad(&grads).unwrap()), &expected_dx);
            exact(which, to_host_f32(y.grad(&grads).unwrap()), &expected_dy);
        }
    }
}

#[test]
fn sigreg() {
    regulariser([1], ops::sigreg, composite::sigreg);
}

#[test]
fn visreg() {
    regulariser([3], ops::visreg, composite::visreg);
}

/// A regulariser of embeddings along random directions.
fn regulariser(terms: [usize; 1], ours: Regulariser, composite: Regulariser) {
    for [views, batch, width, count] in [[1, 1, 1, 1], [3, 5, 6, 7], [4, 9, 12, 40]] {
        let z = random([views * batch, width]);
        let directions: Tensor<2> = random([count, width]);
        let lengths = (directions.clone() * directions.clone()).sum_dim(1).sqrt();
        let (directions, w) = (directions / lengths, random(terms));
        let run = |f: Regulariser| {
            let z = leaf(&z);
            let y = f(z.clone(), Tensor::from_inner(here(&directions)), batch);
            let grads = backward(y.clone(), &w);
            (y.inner(), z.grad(&grads).unwrap())
        };
        let ((y, dz), (y2, dz2)) = (run(ours), on_cpu(|| run(composite)));
        same(
            "plain",
            ours(here(&z), here(&directions), batch),
            y2.clone(),
        );
        same("y", y, y2);
        same("dz", dz, dz2);
    }
}

type Regulariser = fn(Tensor<2>, Tensor<2>, usize) -> Tensor<1>;

#[test]
fn coding_rate() {
    for [views, batch, width] in [[1, 1, 1], [2, 5, 6], [2, 9, 4]] {
        let (z, w) = (random([views * batch, width]), random([1]));
        let run = |f: fn(Tensor<2>, usize, f64) -> Tensor<1>| {
            let z = leaf(&z);
            let y = f(z.clone(), batch, 1.5);
            let grads = backward(y.clone(), &w);
            (y.inner(), z.grad(&grads).unwrap())
        };
        let ((y, dz), (y2, dz2)) = (
            run(ops::coding_rate),
            on_cpu(|| run(composite::coding_rate)),
        );
        same("plain", ops::coding_rate(here(&z), batch, 1.5), y2.clone());
        same("y", y, y2);
        same("dz", dz, dz2);
    }
}

#[test]
fn koleo() {
    for [views, batch, width] in [[1, 2, 3], [2, 7, 5], [2, 16, 33], [2, 1, 4]] {
        let (x, w) = (random([views * batch, width]), random([1]));
        let run = |f: fn(Tensor<2>, usize) -> Tensor<1>| {
            let x = leaf(&x);
            let y = f(x.clone(), batch);
            let grads = backward(y.clone(), &w);
            (y.inner(), x.grad(&grads).unwrap())
        };
        let ((y, dx), (y2, dx2)) = (run(ops::koleo), on_cpu(|| run(composite::koleo)));
        same("plain", ops::koleo(here(&x), batch), y2.clone());
        same("y", y, y2);
        same("dx", dx, dx2);
    }
    let equal = leaf(&random([1, 5]).expand([6, 5]));
    let loss = composite::koleo(equal.clone(), 3);
    let gradient = equal.grad(&loss.backward()).unwrap();
    assert!(to_host_f32(gradient).iter().all(|g| *g == 0.0));
}

#[test]
fn sinkhorn() {
    for [rows, prototypes] in [[2, 3], [6, 40], [12, 5]] {
        let logits: Tensor<2> = random([rows, prototypes]);
        let targets = ops::sinkhorn(here(&logits), 0.1);
        same(
            "targets",
            targets,
            on_cpu(|| composite::sinkhorn(logits, 0.1)),
        );
    }
}

/// One step of AdamW with clipping and a moving average, of sizes on either side of what a kernel does at a time.
/// The gradient is a part of a larger tensor, as that of a bias that is computed together with a scale.
#[test]
fn update() {
    for n in [1, 33, 255, 4096, 4097, 70_001] {
        let (all, parts) = (random([4, n]), random([3, n]));
        for clip in [0.0, 0.5, 1e6] {
            let run = || {
                let rows = |x: &Tensor<2>, row: usize| here(x).narrow(0, row, 1).reshape([n]);
                let [mut value, mut m, mut average] = [0, 1, 2].map(|row| rows(&all, row));
                let mut v = rows(&all, 3).abs();
                let grad = rows(&parts, 1);
                let param = ops::ParamUpdate {
                    value: &mut value,
                    average: Some(ops::Average {
                        value: &mut average,
                        momentum: 0.9,
                    }),
                    clip,
                };
                let rule = ops::AdamW::default();
                let norm = rule.update(param, grad.clone(), [&mut m, &mut v], 3, 0.01, 0.1);
                let plain = ops::norm(&grad);
                // Nothing else of the tensors that the parts are of has changed.
                let others = here(&all).reshape([4 * n]);
                [value, m, v, average, norm, plain, others]
            };
            for (what, (ours, expected)) in
                ["value", "m", "v", "average", "norm", "plain norm", "others"]
                    .into_iter()
                    .zip(run().into_iter().zip(on_cpu(run)))
            {
                same(what, ours, expected);
            }
        }
    }
}

/// Convolutions, normalised and not, with everything that may follow them, and pooling.
#[test]
fn convolutions() {
    use dinolab_nn::ops::conv::{ConvNormParams, Kernel, Tail};
    let kernel = |side, stride, padding| Kernel {
        side,
        stride,
        padding,
    };
    for ([b, h, w, i], o, kernel) in [
        ([2, 7, 5, 3], 6, kernel(3, 1, 1)),
        ([3, 6, 9, 5], 4, kernel(3, 2, 1)),
        ([2, 5, 4, 7], 9, kernel(1, 2, 0)),
        ([1, 11, 13, 3], 8, kernel(7, 2, 3)),
    ] {
        let x = random([b, h, w, i]);
        let weight = random([o, i * kernel.side * kernel.side]);
        let (gamma, beta) = (random([o]), random([o]));
        let y = composite::conv(x.clone(), weight.clone(), kernel);
        let (along, added) = (random(y.dims()), random(y.dims()));
        let run = |f: fn(Tensor<4>, Tensor<2>, Kernel) -> Tensor<4>| {
            let (x, weight) = (leaf(&x), leaf(&weight));
            let y = f(x.clone(), weight.clone(), kernel);
            let grads = backward(y.clone(), &along);
            (
                y.inner(),
                x.grad(&grads).unwrap(),
                weight.grad(&grads).unwrap(),
            )
        };
        let ((y, dx, dw), (y2, dx2, dw2)) = (run(ops::conv), on_cpu(|| run(composite::conv)));
        same("conv", y, y2);
        same("conv dx", dx, dx2);
        same("conv dw", dw, dw2);
        for (residual, relu) in [(false, false), (false, true), (true, true)] {
            let run = |fused: bool| {
                let (x, weight) = (leaf(&x), leaf(&weight));
                let (gamma, beta, added) = (leaf(&gamma), leaf(&beta), leaf(&added));
                let params = ConvNormParams {
                    weight: weight.clone(),
                    gamma: gamma.clone(),
                    beta: beta.clone(),
                    eps: 1e-5,
                };
                let tail = Tail {
                    residual: residual.then(|| added.clone()),
                    relu,
                };
                let (y, moments) = match fused {
                    true => ops::conv_norm(x.clone(), params, kernel, tail),
                    false => composite::conv_norm(x.clone(), params, kernel, tail),
                };
                let grads = backward(y.clone(), &along);
                let vectors = [gamma, beta].map(|v| v.grad(&grads).unwrap());
                let images = [x.grad(&grads), added.grad(&grads)];
                (
                    y.inner(),
                    images,
                    weight.grad(&grads).unwrap(),
                    vectors,
                    moments,
                )
            };
            let (y, [dx, da], dw, [dg, db], moments) = run(true);
            let (y2, [dx2, da2], dw2, [dg2, db2], moments2) = on_cpu(|| run(false));
            same("norm", y, y2);
            same("norm dx", dx.unwrap(), dx2.unwrap());
            assert_eq!(da.is_some(), residual);
            if let (Some(da), Some(da2)) = (da, da2) {
                same("norm dresidual", da, da2);
            }
            same("norm dw", dw, dw2);
            same("norm dgamma", dg, dg2);
            same("norm dbeta", db, db2);
            assert_eq!(moments.count, moments2.count);
            let vector = |v: &[f32]| Tensor::<1>::from_floats(v, &Device::flex());
            same("mean", vector(&moments.mean), vector(&moments2.mean));
            same(
                "variance",
                vector(&moments.variance),
                vector(&moments2.variance),
            );
            // Known statistics: in one pass, and where gradients are recorded.
            let tail = |added: Tensor<4>| Tail {
                residual: residual.then_some(added),
                relu,
            };
            let plain = ops::conv_affine(
                here(&x),
                here(&weight),
                [here(&gamma), here(&beta)],
                kernel,
                tail(here(&added)),
            );
            let recorded = ops::conv_affine(
                leaf(&x),
                leaf(&weight),
                [leaf(&gamma), leaf(&beta)],
                kernel,
                tail(leaf(&added)),
            );
            same("affine", plain, recorded.inner());
        }
    }
    for ([b, h, w, c], kernel) in [
        ([2, 7, 6, 5], kernel(3, 2, 1)),
        ([1, 8, 8, 33], kernel(2, 2, 0)),
    ] {
        let x = random([b, h, w, c]);
        let along = random(composite::max_pool(x.clone(), kernel).dims());
        let run = |f: fn(Tensor<4>, Kernel) -> Tensor<4>| {
            let x = leaf(&x);
            let y = f(x.clone(), kernel);
            let grads = backward(y.clone(), &along);
            (y.inner(), x.grad(&grads).unwrap())
        };
        let ((y, dx), (y2, dx2)) = (run(ops::max_pool), on_cpu(|| run(composite::max_pool)));
        same("pool", y, y2);
        same("pool dx", dx, dx2);
        let planes = x.clone().permute([0, 3, 1, 2]);
        same("channels last", ops::channels_last(here(&planes)), x);
    }
}
