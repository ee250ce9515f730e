//! What is between the stages: convolutions of patches that do not overlap.

use burn::tensor::{Device, Tensor};

use super::block::{Conv, EPS};
use super::config::ConvNextConfig;
use crate::init::Init;
use crate::ops;
use crate::ops::conv::Kernel;
use crate::param::parameters;
use crate::vit::LayerNorm;

/// Pixels along one side of the stem's patches.
pub(super) const STEM: usize = 4;
/// Positions along one side of the patches between two stages.
pub(super) const STEP: usize = 2;

/// The stem, and what precedes the other stages.
#[derive(Clone, Debug)]
pub(super) struct Downsampling {
    stem: Stem,
    second: Downsample,
    third: Downsample,
    fourth: Downsample,
}
parameters!(Downsampling {
    stem as "0",
    second as "1",
    third as "2",
    fourth as "3"
});

/// A convolution, then a norm.
#[derive(Clone, Debug)]
struct Stem {
    conv: Conv,
    norm: LayerNorm,
}
parameters!(Stem { conv as "0", norm as "1" });

/// A norm, then a convolution.
#[derive(Clone, Debug)]
struct Downsample {
    norm: LayerNorm,
    conv: Conv,
}
parameters!(Downsample { norm as "0", conv as "1" });

/// A convolution and a norm.
#[derive(Clone, Copy)]
pub(crate) struct Step<'a> {
    pub conv: &'a Conv,
    pub norm: &'a LayerNorm,
}

impl Downsampling {
    pub fn new(config: &ConvNextConfig, init: &mut Init, device: &Device) -> Self {
        let widths = config.widths;
        let stem = Stem {
            conv: Conv::new([widths[0], config.channels, STEM], init, device),
            norm: LayerNorm::new(widths[0], EPS, device),
        };
        let mut before = |stage: usize| Downsample {
            norm: LayerNorm::new(widths[stage - 1], EPS, device),
            conv: Conv::new([widths[stage], widths[stage - 1], STEP], init, device),
        };
        Self {
            stem,
            second: before(1),
            third: before(2),
            fourth: before(3),
        }
    }

    /// What precedes stage `stage`, 0 to 3: the stem's convolution comes first, the others' norm.
    pub(crate) fn step(&self, stage: usize) -> Step<'_> {
        let Self {
            stem,
            second,
            third,
            fourth,
        } = self;
        let (conv, norm) = match stage {
            0 => (&stem.conv, &stem.norm),
            1 => (&second.conv, &second.norm),
            2 => (&third.conv, &third.norm),
            _ => (&fourth.conv, &fourth.norm),
        };
        Step { conv, norm }
    }

    /// Images `[B, H, W, C]` → `[B, ⌊H/4⌋, ⌊W/4⌋, D]`.
    pub fn stem(&self, images: Tensor<4>) -> Tensor<4> {
        let Step { conv, norm } = self.step(0);
        normed(norm, patches(conv, images, STEM))
    }

    /// A grid `[B, H, W, C]` to that of stage `stage`, 1 to 3, `[B, ⌊H/2⌋, ⌊W/2⌋, D]`.
    pub fn before(&self, stage: usize, x: Tensor<4>) -> Tensor<4> {
        let Step { conv, norm } = self.step(stage);
        patches(conv, normed(norm, x), STEP)
    }
}

fn normed(norm: &LayerNorm, x: Tensor<4>) -> Tensor<4> {
    let [b, h, w, c] = x.dims();
    norm.forward(x.reshape([b, h * w, c])).reshape([b, h, w, c])
}

fn patches(conv: &Conv, x: Tensor<4>, side: usize) -> Tensor<4> {
    let kernel = Kernel {
        side,
        stride: side,
        padding: 0,
    };
    ops::conv_bias(x, conv.weight.matrix(), conv.bias.get(), kernel)
}
