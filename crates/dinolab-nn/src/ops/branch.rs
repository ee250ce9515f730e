//! The residual branches of a transformer block, each one operation.

use std::sync::Arc;

use burn::tensor::{Tensor, TensorData};
pub use dinolab_kernels::{MlpActivation, Rotation, TokenGroup, TokenLayout};

pub use super::branch_kind::Branch;
use super::fused::{self, Dispatch, branch::BranchOp, branch_onto::BranchOntoOp};
use super::{attention, gelu, layer_norm, linear, rotary, swiglu};
use crate::precision::as_of;

/// Parameters of a branch. Weights are `[O, I]`.
#[derive(Clone, Debug)]
pub struct BranchParams {
    /// Scale of the normalisation, `[D]`.
    pub gamma: Tensor<1>,
    /// Its shift, `[D]`.
    pub beta: Tensor<1>,
    /// Added to the variance.
    pub eps: f64,
    /// Weights of the first layer, `[H, D]`.
    pub first: Tensor<2>,
    /// Its bias, `[H]`.
    pub first_bias: Tensor<1>,
    /// Weights of the second layer, back to `[D]`.
    pub second: Tensor<2>,
    /// Its bias, `[D]`.
    pub second_bias: Tensor<1>,
}

/// `x + factor · second(inner(first(norm(x))))` over the tokens `x` `[R, D]` of all images of
/// `samples`, whose factors are 0 where stochastic depth drops the branch. The result is
/// `[R, D]`, or the class tokens `[B, D]` for [`Branch::ClassAttention`].
pub fn branch(
    kind: Branch,
    x: Tensor<2>,
    params: BranchParams,
    samples: Arc<TokenLayout>,
) -> Tensor<2> {
    if !fused::applies(&x) || !fused::applies(&params.first) {
        return in_parts(&DEVICE, kind, x, params, &samples);
    }
    Tensor::from_dispatch(Dispatch::dinolab_branch(
        x.into_dispatch(),
        params.gamma.into_dispatch(),
        params.beta.into_dispatch(),
        params.first.into_dispatch(),
        params.first_bias.into_dispatch(),
        params.second.into_dispatch(),
        params.second_bias.into_dispatch(),
        params.eps,
        kind,
        samples,
    ))
}

/// [`branch`] of an MLP that is added to other tokens than it is computed from:
/// `base + factor · second(activation(first(norm(x))))`, `base` and `x` `[R, D]`.
pub fn branch_onto(
    activation: MlpActivation,
    base: Tensor<2>,
    x: Tensor<2>,
    params: BranchParams,
    samples: Arc<TokenLayout>,
) -> Tensor<2> {
    if !fused::applies(&x) || !fused::applies(&params.first) {
        return added(&DEVICE, kind_of(activation), base, x, params, &samples);
    }
    Tensor::from_dispatch(Dispatch::dinolab_mlp_onto(
        base.into_dispatch(),
        x.into_dispatch(),
        params.gamma.into_dispatch(),
        params.beta.into_dispatch(),
        params.first.into_dispatch(),
        params.first_bias.into_dispatch(),
        params.second.into_dispatch(),
        params.second_bias.into_dispatch(),
        params.eps,
        activation,
        samples,
    ))
}

/// [`branch_onto`] of primitives.
pub fn composite_onto(
    activation: MlpActivation,
    base: Tensor<2>,
    x: Tensor<2>,
    params: BranchParams,
    samples: &TokenLayout,
) -> Tensor<2> {
    added(&PRIMITIVES, kind_of(activation), base, x, params, samples)
}

fn kind_of(activation: MlpActivation) -> Branch {
    match activation {
        MlpActivation::Gelu => Branch::Mlp,
        MlpActivation::SwiGlu => Branch::GatedMlp,
    }
}

/// [`branch`] of primitives.
pub fn composite(
    kind: Branch,
    x: Tensor<2>,
    params: BranchParams,
    samples: &TokenLayout,
) -> Tensor<2> {
    in_parts(&PRIMITIVES, kind, x, params, samples)
}

/// The operations of a branch.
struct Parts {
    layer_norm: fn(Tensor<3>, Tensor<1>, Tensor<1>, f64) -> Tensor<3>,
    attention: fn(Tensor<3>, usize) -> Tensor<3>,
    gelu: fn(Tensor<3>) -> Tensor<3>,
    linear: fn(Tensor<3>, Tensor<2>, Option<Tensor<1>>) -> Tensor<3>,
}

const PRIMITIVES: Parts = Parts {
    layer_norm: layer_norm::composite,
    attention: attention::composite,
    gelu: gelu::composite,
    linear: linear::composite,
};

const DEVICE: Parts = Parts {
    layer_norm: layer_norm::of_device,
    attention: attention::of_device,
    gelu: gelu::of_device,
    linear: linear::of_device,
};

/// [`branch`], operation by operation.
fn in_parts(
    parts: &Parts,
    kind: Branch,
    x: Tensor<2>,
    params: BranchParams,
    samples: &TokenLayout,
) -> Tensor<2> {
    let y = added(parts, kind, x.clone(), x, params, samples);
    match kind {
        Branch::ClassAttention(_) => class_tokens(y, samples.groups()),
        _ => y,
    }
}

/// What a branch of `x` makes of `base`, of all tokens. It computes dropped images, too, and multiplies
/// them by 0: on a GPU that costs less than gathering the others.
fn added(
    parts: &Parts,
    kind: Branch,
    base: Tensor<2>,
    x: Tensor<2>,
    params: BranchParams,
    samples: &TokenLayout,
) -> Tensor<2> {
    let [rows, d] = x.dims();
    let normed = (parts.layer_norm)(
        x.reshape([1, rows, d]),
        params.gamma,
        params.beta,
        params.eps,
    );
    let first_bias = Some(params.first_bias);
    let inner = match kind {
        Branch::Mlp => (parts.gelu)((parts.linear)(normed, params.first, first_bias)),
        Branch::GatedMlp => swiglu::swiglu((parts.linear)(normed, params.first, first_bias)),
        Branch::Attention(heads) | Branch::ClassAttention(heads) => {
            let qkv = (parts.linear)(normed, params.first, first_bias);
            let qkv = match samples.rotation() {
                None => qkv,
                Some(rotation) => rotary::rotate(qkv, rotation),
            };
            let mixed = split(qkv, samples.groups(), |qkv| (parts.attention)(qkv, heads));
            mixed.reshape([1, rows, d])
        }
    };
    let branch = (parts.linear)(inner, params.second, Some(params.second_bias));
    let branch = as_of(branch.reshape([rows, d]), &base);
    match samples.factors() {
        None => base + branch,
        Some(factors) => {
            let sizes = samples.groups().iter();
            let sizes = sizes.flat_map(|run| std::iter::repeat_n(run.tokens, run.images));
            let each: Vec<f32> = sizes
                .zip(factors)
                .flat_map(|(tokens, factor)| std::iter::repeat_n(*factor, tokens))
                .collect();
            let device = branch.device();
            let each = Tensor::<1>::from_data(TensorData::new(each, [rows]), &device);
            base + branch * each.reshape([rows, 1])
        }
    }
}

/// `f` of each run's `[B, N, ·]` in `x` `[1, R, ·]`, one below the other.
fn split(x: Tensor<3>, runs: &[TokenGroup], f: impl Fn(Tensor<3>) -> Tensor<3>) -> Tensor<2> {
    let width = x.dims()[2];
    let mut row = 0;
    let parts = runs.iter().map(|run| {
        let rows = run.images * run.tokens;
        let part = x.clone().narrow(1, row, rows);
        row += rows;
        let y = f(part.reshape([run.images, run.tokens, width]));
        let [images, tokens, width] = y.dims();
        y.reshape([images * tokens, width])
    });
    let parts: Vec<_> = parts.collect();
    Tensor::cat(parts, 0)
}

/// The first token of each image: `x` `[R, D]` → `[B, D]`.
pub fn class_tokens(x: Tensor<2>, runs: &[TokenGroup]) -> Tensor<2> {
    let [rows, d] = x.dims();
    split(x.reshape([1, rows, d]), runs, |x| x.narrow(1, 0, 1))
}
