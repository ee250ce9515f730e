//! Layers of networks as nodes.

use super::graph::{Attribute, Graph, Value};
use crate::ops::conv::Kernel;
use crate::param::Param;
use crate::vit::{LayerNorm, LayerScale, Linear};
use crate::{Feature, Head};

/// The end of an axis, whatever its length.
pub(super) const END: i64 = i64::MAX;

impl Graph {
    /// A parameter under its name.
    pub(super) fn param(&mut self, name: &str, param: &Param) -> Value {
        self.parameter(name, param.shape(), &param.to_vec())
    }

    /// A linear layer's weights `[O, I]` as a right operand `[I, O]`.
    pub(super) fn matrix(&mut self, name: &str, weight: &Param) -> Value {
        let [outputs, inputs] = *weight.shape() else {
            unreachable!("linear layers have matrices")
        };
        let values = transposed(&weight.to_vec(), outputs, inputs);
        self.parameter(name, &[inputs, outputs], &values)
    }

    pub(super) fn linear(&mut self, linear: &Linear, name: &str, x: &Value) -> Value {
        let weight = self.matrix(&format!("{name}.weight"), &linear.weight);
        let y = self.op("MatMul", [x, &weight]);
        match &linear.bias {
            Some(bias) => {
                let bias = self.param(&format!("{name}.bias"), bias);
                self.op("Add", [&y, &bias])
            }
            None => y,
        }
    }

    /// Over the last axis.
    pub(super) fn layer_norm(&mut self, norm: &LayerNorm, name: &str, x: &Value) -> Value {
        let gamma = self.param(&format!("{name}.weight"), &norm.gamma);
        let beta = self.param(&format!("{name}.bias"), &norm.beta);
        let attributes = [
            Attribute::Int("axis", -1),
            Attribute::Float("epsilon", norm.eps() as f32),
        ];
        self.node("LayerNormalization", [x, &gamma, &beta], &attributes)
    }

    pub(super) fn layer_scale(
        &mut self,
        scale: Option<&LayerScale>,
        name: &str,
        x: Value,
    ) -> Value {
        let Some(scale) = scale else { return x };
        let gamma = self.param(&format!("{name}.gamma"), &scale.gamma);
        self.op("Mul", [&x, &gamma])
    }

    /// x / 2 · (1 + erf(x / √2)), in the form that runtimes recognise and fuse.
    pub(super) fn gelu(&mut self, x: &Value) -> Value {
        let (sqrt_2, one, half) = (
            self.float(std::f32::consts::SQRT_2),
            self.float(1.0),
            self.float(0.5),
        );
        let y = self.op("Div", [x, &sqrt_2]);
        let y = self.op("Erf", [&y]);
        let y = self.op("Add", [&y, &one]);
        let y = self.op("Mul", [x, &y]);
        self.op("Mul", [&y, &half])
    }

    /// The attributes of a square kernel.
    pub(super) fn window(kernel: Kernel) -> [Attribute; 3] {
        let both = |size: usize| vec![size as i64; 2];
        [
            Attribute::Ints("kernel_shape", both(kernel.side)),
            Attribute::Ints("strides", both(kernel.stride)),
            Attribute::Ints("pads", vec![kernel.padding as i64; 4]),
        ]
    }

    /// The mean over `axes`, which the result no longer has.
    pub(super) fn mean(&mut self, x: &Value, axes: &[i64]) -> Value {
        let attributes = [
            Attribute::Ints("axes", axes.to_vec()),
            Attribute::Int("keepdims", 0),
        ];
        self.node("ReduceMean", [x], &attributes)
    }

    /// Tokens `from..to` of `[B, N, D]`.
    pub(super) fn slice_tokens(&mut self, x: &Value, from: i64, to: i64) -> Value {
        let (from, to, axis) = (self.ints(&[from]), self.ints(&[to]), self.ints(&[1]));
        self.op("Slice", [x, &from, &to, &axis])
    }

    /// The features `[B, F]` of normalised tokens `[B, N, D]`: a class token, other tokens to a number
    /// of `prefix` with it, and patches, if the feature needs them.
    pub(super) fn feature(&mut self, tokens: &Value, prefix: usize, feature: Feature) -> Value {
        let class = |g: &mut Self| {
            let (class, place) = (g.slice_tokens(tokens, 0, 1), g.ints(&[1]));
            g.op("Squeeze", [&class, &place])
        };
        let mean = |g: &mut Self| {
            let patches = g.slice_tokens(tokens, prefix as i64, END);
            g.mean(&patches, &[1])
        };
        match feature {
            Feature::Class => class(self),
            Feature::Patches => mean(self),
            Feature::Both => {
                let (class, mean) = (class(self), mean(self));
                self.concat([&class, &mean], 1)
            }
        }
    }

    pub(super) fn transpose(&mut self, x: &Value, order: &[i64]) -> Value {
        let order = Attribute::Ints("perm", order.to_vec());
        self.node("Transpose", [x], &[order])
    }

    pub(super) fn concat<const I: usize>(&mut self, parts: [&Value; I], axis: i64) -> Value {
        self.node("Concat", parts, &[Attribute::Int("axis", axis)])
    }

    /// Features `[B, F]` to a head's logits `[B, K]`.
    pub(super) fn head(&mut self, head: &Head, features: &Value) -> Value {
        self.enter("head");
        let mut x = features.clone();
        let (last, before) = head.linears();
        for (name, linear) in before {
            x = self.linear(linear, &format!("head.{name}"), &x);
            x = self.gelu(&x);
        }
        x = self.linear(last.1, &format!("head.{}", last.0), &x);
        let squares = self.op("Mul", [&x, &x]);
        let columns = self.ints(&[1]);
        let keep = Attribute::Int("keepdims", 1);
        let sum = self.node("ReduceSum", [&squares, &columns], &[keep]);
        let length = self.op("Sqrt", [&sum]);
        let least = self.float(1e-12);
        let length = self.op("Max", [&length, &least]);
        let x = self.op("Div", [&x, &length]);
        let (k, b) = (head.config().out_dim, head.config().bottleneck_dim);
        let prototypes = transposed(&head.prototypes(), k, b);
        let prototypes = self.parameter("head.prototypes", &[b, k], &prototypes);
        self.op("MatMul", [&x, &prototypes])
    }
}

/// `[rows, columns]` as `[columns, rows]`.
fn transposed(values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    (0..rows * columns)
        .map(|i| values[i % rows * columns + i / rows])
        .collect()
}
