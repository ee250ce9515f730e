//! Residual blocks: of two 3×3 convolutions, or of a 1×1, a 3×3 and a 1×1 one.

use burn::tensor::{Device, Tensor};

use super::batch_norm::{BatchNorm, EPS, Statistics};
use super::config::ResNetConfig;
use crate::init::Init;
use crate::ops::conv::{ConvNormParams, Kernel, Tail};
use crate::ops::{self, conv_affine};
use crate::param::{Param, parameters};

/// A convolution without bias.
#[derive(Clone, Debug)]
pub(crate) struct Conv {
    /// Weight `[O, I, k, k]`.
    pub weight: Param,
}
parameters!(Conv { weight });

impl Conv {
    /// With torchvision's initial weights (He et al., arXiv 1502.01852, by the outputs).
    pub fn new([outputs, inputs, side]: [usize; 3], init: &mut Init, device: &Device) -> Self {
        let deviation = (2.0 / (outputs * side * side) as f64).sqrt();
        let values = init.truncated_normal(outputs * inputs * side * side, deviation);
        let weight = Param::new(values, &[outputs, inputs, side, side], true, device);
        Self { weight }
    }
}

/// A convolution and what normalises its result.
pub(crate) struct Layer<'a> {
    /// Of both, below the block.
    pub names: [&'static str; 2],
    pub conv: &'a Conv,
    pub norm: &'a BatchNorm,
    pub kernel: Kernel,
}

impl Layer<'_> {
    /// The normalised convolution and its tail.
    pub(super) fn forward(&self, x: Tensor<4>, tail: Tail, statistics: Statistics) -> Tensor<4> {
        let (weight, norm, kernel) = (self.conv.weight.matrix(), self.norm, self.kernel);
        match statistics {
            Statistics::Running => conv_affine(x, weight, norm.affine(), kernel, tail),
            Statistics::OfBatch => {
                let params = ConvNormParams {
                    weight,
                    gamma: norm.weight.get(),
                    beta: norm.bias.get(),
                    eps: EPS,
                };
                let (y, moments) = ops::conv_norm(x, params, kernel, tail);
                norm.follow(&moments);
                y
            }
        }
    }
}

/// The tail of a convolution in front of another.
pub(super) fn relu() -> Tail {
    Tail {
        residual: None,
        relu: true,
    }
}

/// What brings a block's input to the size of its output.
#[derive(Clone, Debug)]
struct Downsample {
    conv: Conv,
    norm: BatchNorm,
}
parameters!(Downsample {
    conv as "0",
    norm as "1"
});

/// A block: `relu(x + branch(x))`.
#[derive(Clone, Debug)]
pub(crate) struct Block {
    stride: usize,
    conv1: Conv,
    bn1: BatchNorm,
    conv2: Conv,
    bn2: BatchNorm,
    conv3: Option<Conv>,
    bn3: Option<BatchNorm>,
    downsample: Option<Downsample>,
}
parameters!(Block {
    conv1,
    bn1,
    conv2,
    bn2,
    conv3,
    bn3,
    downsample
});

/// A kernel that keeps the size of an image at stride 1.
fn centred(side: usize, stride: usize) -> Kernel {
    Kernel {
        side,
        stride,
        padding: side / 2,
    }
}

impl Block {
    /// Block `block` of stage `stage`.
    pub fn new(
        config: &ResNetConfig,
        [stage, block]: [usize; 2],
        init: &mut Init,
        device: &Device,
    ) -> Self {
        let sizes = config.block(stage, block);
        let (inputs, inner, outputs) = (sizes.inputs, sizes.inner, sizes.outputs);
        let first = if config.bottleneck { 1 } else { 3 };
        let mut conv = |sizes| Conv::new(sizes, init, device);
        let norm = |channels| BatchNorm::new(channels, device);
        Self {
            stride: sizes.stride,
            conv1: conv([inner, inputs, first]),
            bn1: norm(inner),
            conv2: conv([inner, inner, 3]),
            bn2: norm(inner),
            conv3: config.bottleneck.then(|| conv([outputs, inner, 1])),
            bn3: config.bottleneck.then(|| norm(outputs)),
            downsample: sizes.downsample.then(|| Downsample {
                conv: conv([outputs, inputs, 1]),
                norm: norm(outputs),
            }),
        }
    }

    /// The convolutions of the branch, in order.
    pub(crate) fn branch(&self) -> Vec<Layer<'_>> {
        // torchvision strides in the 3×3 convolution of a bottleneck.
        let (first, second) = match self.conv3 {
            Some(_) => (1, self.stride),
            None => (self.stride, 1),
        };
        let layer = |names, conv, norm, stride| Layer {
            names,
            conv,
            norm,
            kernel: centred(conv.weight.shape()[2], stride),
        };
        let third = self.conv3.as_ref().zip(self.bn3.as_ref());
        [
            layer(["conv1", "bn1"], &self.conv1, &self.bn1, first),
            layer(["conv2", "bn2"], &self.conv2, &self.bn2, second),
        ]
        .into_iter()
        .chain(third.map(|(conv, norm)| layer(["conv3", "bn3"], conv, norm, 1)))
        .collect()
    }

    /// What brings the input to the size of the output, where they differ.
    pub(crate) fn shortcut(&self) -> Option<Layer<'_>> {
        let Downsample { conv, norm } = self.downsample.as_ref()?;
        Some(Layer {
            names: ["downsample.0", "downsample.1"],
            conv,
            norm,
            kernel: centred(1, self.stride),
        })
    }

    /// `x` `[B, H, W, I]` → `[B, ⌈H/stride⌉, ⌈W/stride⌉, O]`.
    pub fn forward(&self, x: Tensor<4>, statistics: Statistics) -> Tensor<4> {
        let branch = self.branch();
        let (last, before) = branch.split_last().expect("a block has convolutions");
        let y = before
            .iter()
            .fold(x.clone(), |y, layer| layer.forward(y, relu(), statistics));
        let residual = Some(match self.shortcut() {
            Some(shortcut) => shortcut.forward(x, Tail::default(), statistics),
            None => x,
        });
        let end = Tail {
            residual,
            relu: true,
        };
        last.forward(y, end, statistics)
    }
}
