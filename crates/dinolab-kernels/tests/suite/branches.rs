//! Residual branches as a whole against double precision and finite differences.

use crate::common::{
    close, differences, exact_attention, exact_layer_norm, exact_linear, normal, numbers,
    same_on_any_threads, under_miri, wide,
};
use dinolab_kernels::*;

const EPS: f64 = 1e-6;

/// The parts of a branch: tokens, then scale, shift, first map and bias, second map and bias.
type Parts = [Vec<f32>; 7];

fn parts(rows: usize, d: usize, hidden: usize, inner: usize) -> Parts {
    [rows * d, d, d, hidden * d, hidden, d * inner, d]
        .map(|n| n)
        .map(|n| numbers(n as u64 + 17, n))
}

fn weights(parts: &Parts) -> BranchWeights<'_> {
    let [_, gamma, beta, first, first_bias, second, second_bias] = parts;
    BranchWeights {
        gamma,
        beta,
        eps: EPS as f32,
        first,
        first_bias,
        second,
        second_bias,
    }
}

/// Images one after the other: their rows, tokens and factor.
fn each_image<'a>(
    groups: &'a [TokenGroup],
    factors: &'a [f32],
) -> impl Iterator<Item = (std::ops::Range<usize>, f64)> + 'a {
    let sizes = groups
        .iter()
        .flat_map(|group| std::iter::repeat_n(group.tokens, group.images));
    sizes.zip(factors).scan(0, |row, (tokens, factor)| {
        let start = *row;
        *row += tokens;
        Some((start..*row, f64::from(*factor)))
    })
}

/// A branch in double precision, image by image, so that nothing mixes.
fn exact(
    parts: &[Vec<f64>; 7],
    groups: &[TokenGroup],
    factors: &[f32],
    inner: impl Fn(Vec<f64>, usize) -> Vec<f64>,
) -> Vec<f64> {
    let [x, gamma, beta, first, first_bias, second, second_bias] = parts;
    let d = gamma.len();
    let mut y = x.clone();
    for (rows, factor) in each_image(groups, factors) {
        let own = rows.start * d..rows.end * d;
        let normed = exact_layer_norm(&x[own.clone()], gamma, beta, EPS);
        let hidden = inner(exact_linear(&normed, first, first_bias), rows.len());
        let branch = exact_linear(&hidden, second, second_bias);
        for (y, branch) in y[own].iter_mut().zip(branch) {
            *y += factor * branch;
        }
    }
    y
}

fn gelu_of(hidden: Vec<f64>, _: usize) -> Vec<f64> {
    hidden.iter().map(|h| h * normal(*h)).collect()
}

fn attention_of(d: usize, heads: usize) -> impl Fn(Vec<f64>, usize) -> Vec<f64> {
    move |qkv, tokens| {
        exact_attention(
            &qkv,
            AttentionShape {
                images: 1,
                tokens,
                width: d,
                heads,
            },
        )
    }
}

/// Compares all gradients with finite differences of `f`, which gives the result from the parts.
#[track_caller]
fn gradients_are_right(
    parts: &Parts,
    dy: &[f32],
    ours: &BranchGradients,
    f: impl Fn(&[Vec<f64>; 7]) -> Vec<f64>,
) {
    let exact = parts.each_ref().map(|part| wide(part));
    let weights = wide(dy);
    let grads = [
        &ours.x,
        &ours.gamma,
        &ours.beta,
        &ours.first,
        &ours.first_bias,
        &ours.second,
        &ours.second_bias,
    ];
    for (i, grad) in grads.into_iter().enumerate() {
        let slope = differences(&exact[i], &weights, |part| {
            let mut all = exact.clone();
            all[i] = part.to_vec();
            f(&all)
        });
        close(grad, &slope, 2e-5);
    }
}

/// Runs and factors: one image of one token, several sizes with and without dropped images, and
/// none that takes part.
fn cases() -> Vec<(Vec<TokenGroup>, Vec<f32>)> {
    let group = |images, tokens| TokenGroup { images, tokens };
    vec![
        (vec![group(1, 1)], vec![1.0]),
        (vec![group(2, 5), group(3, 2)], vec![1.0; 5]),
        (
            vec![group(2, 4), group(3, 3)],
            vec![0.0, 1.25, 1.25, 0.0, 1.25],
        ),
        (vec![group(2, 3), group(1, 2)], vec![2.0, 2.0, 0.0]),
        (vec![group(2, 2)], vec![0.0, 0.0]),
    ]
}

fn layout(groups: &[TokenGroup], factors: &[f32]) -> TokenLayout {
    if factors.iter().all(|f| *f == 1.0) {
        TokenLayout::all(groups)
    } else {
        TokenLayout::new(groups, factors)
    }
}

/// SwiGLU of rows that have its gates first.
fn swiglu_of(inner: usize) -> impl Fn(Vec<f64>, usize) -> Vec<f64> {
    move |hidden, _| {
        let rows = hidden.chunks_exact(2 * inner);
        let of = |row: &[f64]| -> Vec<f64> {
            let (gates, values) = row.split_at(inner);
            let pairs = gates.iter().zip(values);
            pairs.map(|(g, v)| g / (1.0 + (-g).exp()) * v).collect()
        };
        rows.flat_map(of).collect()
    }
}

#[test]
#[cfg_attr(miri, ignore = "too slow")]
fn mlp() {
    for (groups, factors) in cases() {
        let rows = groups.iter().map(|group| group.images * group.tokens).sum();
        let (d, h) = (6, 11);
        let parts = parts(rows, d, h, h);
        let layout = layout(&groups, &factors);
        let f = |parts: &[Vec<f64>; 7]| exact(parts, &groups, &factors, gelu_of);
        let gelu = MlpActivation::Gelu;
        let (y, saved) = mlp_branch(&parts[0], &weights(&parts), gelu, &layout);
        close(&y, &f(&parts.each_ref().map(|part| wide(part))), 1e-6);
        let dy = numbers(5, y.len());
        let ours = mlp_branch_backward(&parts[0], &weights(&parts), gelu, &layout, &saved, &dy);
        gradients_are_right(&parts, &dy, &ours, f);
    }
}

/// Added to other tokens than it is computed from, whose gradient is that of the result.
#[test]
#[cfg_attr(miri, ignore = "too slow")]
fn mlp_onto_other_tokens() {
    for (groups, factors) in cases() {
        let rows = groups.iter().map(|group| group.images * group.tokens).sum();
        let (d, h) = (6, 11);
        let parts = parts(rows, d, h, h);
        let base = numbers(23, rows * d);
        let layout = layout(&groups, &factors);
        let f = |parts: &[Vec<f64>; 7]| -> Vec<f64> {
            let y = exact(parts, &groups, &factors, gelu_of);
            let moved = y.iter().zip(&parts[0]).zip(&base);
            moved
                .map(|((y, x), base)| y - x + f64::from(*base))
                .collect()
        };
        let gelu = MlpActivation::Gelu;
        let (y, saved) = mlp_branch_onto(&parts[0], &base, &weights(&parts), gelu, &layout);
        close(&y, &f(&parts.each_ref().map(|part| wide(part))), 1e-6);
        let dy = numbers(5, y.len());
        let ours =
            mlp_branch_onto_backward(&parts[0], &weights(&parts), gelu, &layout, &saved, &dy);
        gradients_are_right(&parts, &dy, &ours, f);
    }
}

#[test]
#[cfg_attr(miri, ignore = "too slow")]
fn gated_mlp() {
    for (groups, factors) in cases() {
        let rows = groups.iter().map(|group| group.images * group.tokens).sum();
        let (d, inner) = (6, 5);
        let parts = parts(rows, d, 2 * inner, inner);
        let layout = layout(&groups, &factors);
        let f = |parts: &[Vec<f64>; 7]| exact(parts, &groups, &factors, swiglu_of(inner));
        let swiglu = MlpActivation::SwiGlu;
        let (y, saved) = mlp_branch(&parts[0], &weights(&parts), swiglu, &layout);
        close(&y, &f(&parts.each_ref().map(|part| wide(part))), 1e-6);
        let dy = numbers(5, y.len());
        let ours = mlp_branch_backward(&parts[0], &weights(&parts), swiglu, &layout, &saved, &dy);
        gradients_are_right(&parts, &dy, &ours, f);
    }
}

/// Gates so large that the exponential would overflow.
#[test]
fn gates_saturate() {
    let parts: Parts = [
        vec![1.0, -1.0],
        vec![1.0; 2],
        vec![0.0; 2],
        vec![0.0; 8],
        vec![300.0, -300.0, 2.0, 3.0],
        vec![1.0, 0.0, 0.0, 1.0],
        vec![0.0; 2],
    ];
    let layout = TokenLayout::all(&[TokenGroup {
        images: 1,
        tokens: 1,
    }]);
    let swiglu = MlpActivation::SwiGlu;
    let (y, saved) = mlp_branch(&parts[0], &weights(&parts), swiglu, &layout);
    assert_eq!(y, [601.0, -1.0]);
    let back = mlp_branch_backward(
        &parts[0],
        &weights(&parts),
        swiglu,
        &layout,
        &saved,
        &[1.0; 2],
    );
    assert_eq!(back.first_bias, [2.0, 0.0, 300.0, 0.0]);
}

#[test]
#[cfg_attr(miri, ignore = "too slow")]
fn attention() {
    for (groups, factors) in cases() {
        let rows = groups.iter().map(|group| group.images * group.tokens).sum();
        let (d, heads) = (6, 2);
        let parts = parts(rows, d, 3 * d, d);
        let layout = layout(&groups, &factors);
        let f = |parts: &[Vec<f64>; 7]| exact(parts, &groups, &factors, attention_of(d, heads));
        let (y, saved) = attention_branch(&parts[0], &weights(&parts), heads, &layout);
        close(&y, &f(&parts.each_ref().map(|part| wide(part))), 1e-6);
        let dy = numbers(5, y.len());
        let ours =
            attention_branch_backward(&parts[0], &weights(&parts), heads, &layout, &saved, &dy);
        gradients_are_right(&parts, &dy, &ours, f);
    }
}

/// A rotation of all rows of `groups` for heads of width 4: tokens after the first are at places of
/// their own.
fn rotation(groups: &[TokenGroup]) -> Rotation {
    let (mut table, mut places) = (Vec::new(), Vec::new());
    for group in groups {
        for _ in 0..group.images {
            places.push(Rotation::NOWHERE);
            for token in 1..group.tokens {
                places.push((table.len() / 4) as u32);
                let angles = [0.7 * token as f32, -0.3 * places.len() as f32];
                table.extend(angles.map(f32::cos));
                table.extend(angles.map(f32::sin));
            }
        }
    }
    Rotation::new(4, table, places)
}

/// Queries and keys, `[N, 3·D]` with values, of the rows from `row` on, turned.
fn turned(mut qkv: Vec<f64>, d: usize, row: usize, rotation: &Rotation) -> Vec<f64> {
    for (row, qkv) in (row..).zip(qkv.chunks_exact_mut(3 * d)) {
        let place = rotation.places()[row];
        if place == Rotation::NOWHERE {
            continue;
        }
        let angles = &rotation.table()[4 * place as usize..][..4];
        for head in qkv[..2 * d].chunks_exact_mut(4) {
            for i in 0..2 {
                let (cosine, sine) = (f64::from(angles[i]), f64::from(angles[2 + i]));
                let (a, b) = (head[i], head[2 + i]);
                head[i] = a * cosine - b * sine;
                head[2 + i] = a * sine + b * cosine;
            }
        }
    }
    qkv
}

/// Both attention branches with rotary positions, with dropped images, which shift rows.
#[test]
#[cfg_attr(miri, ignore = "too slow")]
fn attention_with_rotation() {
    for (groups, factors) in cases() {
        let rows = groups.iter().map(|group| group.images * group.tokens).sum();
        let (d, heads) = (8, 2);
        let parts = parts(rows, d, 3 * d, d);
        let rotation = rotation(&groups);
        let layout = layout(&groups, &factors).with_rotation(Some(rotation.clone().into()));
        let f = |parts: &[Vec<f64>; 7]| {
            let first = std::cell::Cell::new(0);
            exact(parts, &groups, &factors, |qkv, tokens| {
                let row = first.replace(first.get() + tokens);
                attention_of(d, heads)(turned(qkv, d, row, &rotation), tokens)
            })
        };
        let (y, saved) = attention_branch(&parts[0], &weights(&parts), heads, &layout);
        close(&y, &f(&parts.each_ref().map(|part| wide(part))), 1e-6);
        let dy = numbers(5, y.len());
        let ours =
            attention_branch_backward(&parts[0], &weights(&parts), heads, &layout, &saved, &dy);
        gradients_are_right(&parts, &dy, &ours, f);

        let class = |parts: &[Vec<f64>; 7]| -> Vec<f64> {
            let all = f(parts);
            each_image(&groups, &factors)
                .flat_map(|(rows, _)| all[rows.start * d..(rows.start + 1) * d].to_vec())
                .collect()
        };
        let (y, saved) = class_attention_branch(&parts[0], &weights(&parts), heads, &layout);
        close(&y, &class(&parts.each_ref().map(|part| wide(part))), 1e-6);
        let dy = numbers(5, y.len());
        let weights = weights(&parts);
        let ours =
            class_attention_branch_backward(&parts[0], &weights, heads, &layout, &saved, &dy);
        gradients_are_right(&parts, &dy, &ours, class);
    }
}

#[test]
#[cfg_attr(miri, ignore = "too slow")]
fn attention_of_class_tokens() {
    for (groups, factors) in cases() {
        let rows = groups.iter().map(|group| group.images * group.tokens).sum();
        let (d, heads) = (6, 3);
        let parts = parts(rows, d, 3 * d, d);
        let layout = layout(&groups, &factors);
        let f = |parts: &[Vec<f64>; 7]| -> Vec<f64> {
            let all = exact(parts, &groups, &factors, attention_of(d, heads));
            each_image(&groups, &factors)
                .flat_map(|(rows, _)| all[rows.start * d..(rows.start + 1) * d].to_vec())
                .collect()
        };
        let (y, saved) = class_attention_branch(&parts[0], &weights(&parts), heads, &layout);
        close(&y, &f(&parts.each_ref().map(|part| wide(part))), 1e-6);
        let dy = numbers(5, y.len());
        let ours = class_attention_branch_backward(
            &parts[0],
            &weights(&parts),
            heads,
            &layout,
            &saved,
            &dy,
        );
        gradients_are_right(&parts, &dy, &ours, f);
    }
}

/// Sizes that are cut into several groups and parts, with dropped images; the class tokens of
/// the whole attention and those computed alone are the same.
#[test]
fn threads_and_groups_do_not_show() {
    let groups = [
        TokenGroup {
            images: under_miri(2, 4),
            tokens: under_miri(9, 131),
        },
        TokenGroup {
            images: under_miri(5, 33),
            tokens: under_miri(4, 19),
        },
    ];
    let images = groups[0].images + groups[1].images;
    let factors: Vec<f32> = (0..images)
        .map(|i| if i % 5 == 2 { 0.0 } else { 1.25 })
        .collect();
    let (d, heads) = (under_miri(6, 24), 3);
    let rows = groups.iter().map(|group| group.images * group.tokens).sum();
    let layout = TokenLayout::new(&groups, &factors);
    let attention = parts(rows, d, 3 * d, d);
    let mlp = parts(rows, d, 4 * d, 4 * d);
    let dy = numbers(3, rows * d);
    same_on_any_threads(|| {
        let (y, saved) = mlp_branch(&mlp[0], &weights(&mlp), MlpActivation::Gelu, &layout);
        let gelu = MlpActivation::Gelu;
        let back = mlp_branch_backward(&mlp[0], &weights(&mlp), gelu, &layout, &saved, &dy);
        (y, back)
    });
    let all = |x: &[f32]| {
        let weights = weights(&attention);
        let (y, saved) = attention_branch(x, &weights, heads, &layout);
        let back = attention_branch_backward(x, &weights, heads, &layout, &saved, &dy);
        let (class, saved) = class_attention_branch(x, &weights, heads, &layout);
        let dy = &dy[..class.len()];
        let class_back = class_attention_branch_backward(x, &weights, heads, &layout, &saved, dy);
        (y, back, class, class_back)
    };
    same_on_any_threads(|| all(&attention[0]));
    let (y, _, class, _) = all(&attention[0]);
    for (i, (rows, _)) in each_image(&groups, &factors).enumerate() {
        let whole = wide(&y[rows.start * d..(rows.start + 1) * d]);
        close(&class[i * d..(i + 1) * d], &whole, 3e-6);
    }
    let f = |parts: &[Vec<f64>; 7]| exact(parts, &groups, &factors, attention_of(d, heads));
    close(&y, &f(&attention.each_ref().map(|part| wide(part))), 3e-6);
}
