//! Images to the tokens of patches.

use burn::tensor::{Device, Tensor};

use super::block::{LayerNorm, Linear};
use super::{VitConfig, select_rows};
use crate::init::Init;
use crate::ops;
use crate::ops::conv::Kernel;
use crate::param::{Param, parameters};
use crate::precision::single;

/// The patch embedding: a linear layer on flat patches, or on what a convolutional stem makes of the image.
#[derive(Clone, Debug)]
pub struct PatchEmbed {
    /// Weight `[D, C, p, p]`; `[D, S, 3, 3]` after a stem of `S` channels.
    pub proj: Linear,
    /// Convolutions before it, in a network with [`VitConfig::conv_stem`].
    pub(crate) stem: Vec<StemLayer>,
}
parameters!(PatchEmbed { proj, stem });

/// A convolution of a stem, layer normalisation over its channels, and GELU.
#[derive(Clone, Debug)]
pub(crate) struct StemLayer {
    pub conv: Conv,
    pub norm: LayerNorm,
}
parameters!(StemLayer { conv, norm });

/// A convolution without bias.
#[derive(Clone, Debug)]
pub(crate) struct Conv {
    /// Weight `[O, I, k, k]`.
    pub weight: Param,
}
parameters!(Conv { weight });

/// The window of convolution number `layer` of a stem: patches of four pixels, then every second position.
pub(crate) fn stem_kernel(layer: usize) -> Kernel {
    match layer {
        0 => Kernel {
            side: VitConfig::STEM_PATCH,
            stride: VitConfig::STEM_PATCH,
            padding: 0,
        },
        _ => Kernel {
            side: 3,
            stride: 2,
            padding: 1,
        },
    }
}

impl PatchEmbed {
    /// With the reference's initial weights of a convolution: uniform within `±1/√I` for `I` inputs.
    pub(super) fn new(config: &VitConfig, init: &mut Init, device: &Device) -> Self {
        let mut conv = |shape: [usize; 4]| {
            let fan_in = shape[1..].iter().product();
            let weight = init.uniform_fan_in(shape[0] * fan_in, fan_in);
            Param::new(weight, &shape, true, device)
        };
        let stem = config.stem_kernels().into_iter().map(|shape| StemLayer {
            conv: Conv {
                weight: conv(shape),
            },
            norm: LayerNorm::new(shape[0], config.layer_norm_eps, device),
        });
        let stem = stem.collect();
        let shape = config.patch_kernel();
        let weight = conv(shape);
        let bias = init.uniform_fan_in(shape[0], shape[1..].iter().product());
        Self {
            proj: Linear {
                weight,
                bias: Some(Param::new(bias, &[shape[0]], true, device)),
            },
            stem,
        }
    }

    /// Images `[B, C, H, W]` as tokens `[B, N, D]` of patches of side `patch`. `kept` are the places of patches
    /// `[B · M]` that are seen, `[B, M, D]`, if those are not all. Pixels beyond a whole number of patches are
    /// left out, as a strided convolution does.
    pub(super) fn forward(
        &self,
        images: Tensor<4>,
        patch: usize,
        kept: Option<&[usize]>,
    ) -> Tensor<3> {
        let [_, _, height, width] = images.dims();
        let (h, w) = (height / patch, width / patch);
        let images = images.narrow(2, 0, h * patch).narrow(3, 0, w * patch);
        let seen = |all: Tensor<3>| match kept {
            None => all,
            Some(kept) => keep(all, kept),
        };
        match self.stem.len() {
            0 => single(self.proj.forward(seen(flat(images, patch)))),
            _ => seen(self.convolved(images)),
        }
    }

    /// Images `[B, C, H, W]` through the stem and the patch embedding, as tokens `[B, N, D]`.
    fn convolved(&self, images: Tensor<4>) -> Tensor<3> {
        let images = ops::channels_last(images);
        let layers = self.stem.iter().enumerate();
        let x = layers.fold(images, |x, (number, StemLayer { conv, norm })| {
            let y = ops::conv(x, conv.weight.matrix(), stem_kernel(number));
            let [b, h, w, c] = y.dims();
            let y = norm.forward(single(y).reshape([b, h * w, c]));
            ops::gelu(y).reshape([b, h, w, c])
        });
        let bias = self.proj.bias.as_ref().expect("it has a bias").get();
        let kernel = stem_kernel(self.stem.len());
        let y = ops::conv_bias(x, self.proj.weight.matrix(), bias, kernel);
        let [b, h, w, d] = y.dims();
        single(y).reshape([b, h * w, d])
    }
}

/// Images `[B, C, H, W]` as flat patches `[B, N, C·p·p]`.
fn flat(images: Tensor<4>, p: usize) -> Tensor<3> {
    let [b, c, height, width] = images.dims();
    let (h, w) = (height / p, width / p);
    images
        .reshape([b, c, h, p, w, p])
        .permute([0, 2, 4, 1, 3, 5])
        .reshape([b, h * w, c * p * p])
}

/// Those patches `[B, N, P]` that are kept, `[B, M, P]`.
fn keep(patches: Tensor<3>, kept: &[usize]) -> Tensor<3> {
    let [b, n, pixels] = patches.dims();
    let m = kept.len() / b;
    let rows = kept.iter().enumerate();
    let rows = rows.map(|(i, place)| (i / m * n + place) as i64).collect();
    let seen = select_rows(patches.reshape([b * n, pixels]), rows);
    seen.reshape([b, m, pixels])
}
