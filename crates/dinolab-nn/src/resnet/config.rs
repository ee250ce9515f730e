//! The sizes of a residual network.

use crate::{Error, Result};

/// The sizes of a residual network.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResNetConfig {
    /// Channels of the image, `C`.
    pub channels: usize,
    /// Channels of the stem, 64 in the published networks; each stage has twice those of the one
    /// before.
    pub width: usize,
    /// Blocks of the four stages.
    pub blocks: [usize; 4],
    /// Whether blocks are bottlenecks of three convolutions, whose result is four times as wide.
    pub bottleneck: bool,
}

/// ResNet-50.
impl Default for ResNetConfig {
    fn default() -> Self {
        Self {
            channels: 3,
            width: 64,
            blocks: [3, 4, 6, 3],
            bottleneck: true,
        }
    }
}

/// The sizes of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BlockSizes {
    /// Channels of its input.
    pub inputs: usize,
    /// Channels between its convolutions.
    pub inner: usize,
    /// Channels of its result.
    pub outputs: usize,
    /// Distance of the windows of one of its convolutions.
    pub stride: usize,
    /// Whether its input is brought to the size of its result.
    pub downsample: bool,
}

impl ResNetConfig {
    /// Pixels along one side of what a position of the last grid stands for.
    pub const STRIDE: usize = 32;
    /// The names of the published sizes.
    pub const NAMES: [&str; 3] = ["resnet18", "resnet34", "resnet50"];

    /// The published sizes: `resnet18`, `resnet34`, `resnet50`; `None` for other names.
    pub fn named(arch: &str) -> Option<Self> {
        let (blocks, bottleneck) = match arch {
            "resnet18" => ([2, 2, 2, 2], false),
            "resnet34" => ([3, 4, 6, 3], false),
            "resnet50" => ([3, 4, 6, 3], true),
            _ => return None,
        };
        Some(Self {
            blocks,
            bottleneck,
            ..Self::default()
        })
    }

    /// Width of the last grid, `D`.
    pub fn features(&self) -> usize {
        8 * self.width * self.expansion()
    }

    /// Convolutions in a row, and the classifier, by which the published networks are named.
    pub fn layers(&self) -> usize {
        let of_block = if self.bottleneck { 3 } else { 2 };
        2 + of_block * self.blocks.iter().sum::<usize>()
    }

    fn expansion(&self) -> usize {
        if self.bottleneck { 4 } else { 1 }
    }

    /// The sizes of block `block` of stage `stage`.
    pub(super) fn block(&self, stage: usize, block: usize) -> BlockSizes {
        let inner = self.width << stage;
        let outputs = inner * self.expansion();
        let inputs = match (stage, block) {
            (0, 0) => self.width,
            (_, 0) => outputs / 2,
            _ => outputs,
        };
        let stride = if stage > 0 && block == 0 { 2 } else { 1 };
        BlockSizes {
            inputs,
            inner,
            outputs,
            stride,
            downsample: stride > 1 || inputs != outputs,
        }
    }

    /// Multiplications and additions of a forward pass of one image of side `side`.
    pub fn forward_operations(&self, side: usize) -> f64 {
        let conv = |side: usize, sizes: [usize; 3]| {
            let [outputs, inputs, kernel] = sizes.map(|size| size as f64);
            2.0 * (side * side) as f64 * outputs * inputs * kernel * kernel
        };
        let mut side = side.div_ceil(2);
        let mut sum = conv(side, [self.width, self.channels, 7]);
        side = side.div_ceil(2);
        for (stage, &blocks) in self.blocks.iter().enumerate() {
            for block in 0..blocks {
                let sizes = self.block(stage, block);
                let (inputs, inner, outputs) = (sizes.inputs, sizes.inner, sizes.outputs);
                let after = side.div_ceil(sizes.stride);
                sum += match self.bottleneck {
                    true => {
                        conv(side, [inner, inputs, 1])
                            + conv(after, [inner, inner, 3])
                            + conv(after, [outputs, inner, 1])
                    }
                    false => conv(after, [inner, inputs, 3]) + conv(after, [inner, inner, 3]),
                };
                if sizes.downsample {
                    sum += conv(after, [outputs, inputs, 1]);
                }
                side = after;
            }
        }
        sum
    }

    /// Checks that the sizes make a network.
    ///
    /// # Errors
    /// [`Error::BadSetting`].
    pub fn validate(&self) -> Result<()> {
        let least = self.blocks.iter().copied().fold(self.width, usize::min);
        let reason = match self.channels.min(least) {
            0 => "width, channels and blocks of each stage must be at least 1",
            _ if self.width > 1 << 16 => "is too large",
            _ => return Ok(()),
        };
        Err(Error::BadSetting {
            field: "width",
            reason: reason.into(),
        })
    }

    /// Names and shapes of all tensors, in torchvision's order. There are as many as there are
    /// blocks, so sizes that were read have to be bounded before.
    pub fn tensors(&self) -> impl Iterator<Item = (String, Vec<usize>)> {
        let norm = |name: String, channels: usize| {
            ["weight", "bias", "running_mean", "running_var"]
                .map(|part| (format!("{name}.{part}"), vec![channels]))
        };
        let conv = |name: String, sizes: [usize; 3]| {
            let [outputs, inputs, side] = sizes;
            (format!("{name}.weight"), vec![outputs, inputs, side, side])
        };
        let mut all = vec![conv("conv1".into(), [self.width, self.channels, 7])];
        all.extend(norm("bn1".into(), self.width));
        for (stage, &blocks) in self.blocks.iter().enumerate() {
            for block in 0..blocks {
                let at = format!("layer{}.{block}", stage + 1);
                let sizes = self.block(stage, block);
                let (inputs, inner, outputs) = (sizes.inputs, sizes.inner, sizes.outputs);
                let first = if self.bottleneck { 1 } else { 3 };
                let mut layers = vec![[inner, inputs, first], [inner, inner, 3]];
                layers.extend(self.bottleneck.then_some([outputs, inner, 1]));
                for (i, layer) in layers.into_iter().enumerate() {
                    all.push(conv(format!("{at}.conv{}", i + 1), layer));
                    all.extend(norm(format!("{at}.bn{}", i + 1), layer[0]));
                }
                if sizes.downsample {
                    all.push(conv(format!("{at}.downsample.0"), [outputs, inputs, 1]));
                    all.extend(norm(format!("{at}.downsample.1"), outputs));
                }
            }
        }
        all.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::init::Init;
    use crate::{Device, Parameters, resnet::ResNet};

    #[test]
    fn the_list_of_tensors_is_the_networks() {
        for bottleneck in [false, true] {
            let config = ResNetConfig {
                channels: 2,
                width: 3,
                blocks: [2, 1, 1, 2],
                bottleneck,
            };
            let network = ResNet::new(&config, &mut Init::new(0), &Device::flex()).unwrap();
            let mut found = Vec::new();
            network.visit("", &mut |name, param| {
                found.push((name.to_owned(), param.shape().to_vec()));
            });
            assert_eq!(found, config.tensors().collect::<Vec<_>>());
        }
    }

    #[test]
    fn published_networks_have_torchvisions_number_of_parameters() {
        // torchvision's totals without the classifier of 1000 classes.
        for (name, total, features) in [
            ("resnet18", 11_689_512 - 513_000, 512),
            ("resnet34", 21_797_672 - 513_000, 512),
            ("resnet50", 25_557_032 - 2_049_000, 2048),
        ] {
            let config = ResNetConfig::named(name).unwrap();
            let learned = config
                .tensors()
                .filter(|(name, _)| !name.contains("running"));
            let count: usize = learned
                .map(|(_, shape)| shape.iter().product::<usize>())
                .sum();
            assert_eq!(count, total, "{name}");
            assert_eq!(config.features(), features);
            assert_eq!(name, format!("resnet{}", config.layers()));
            // The papers' 1.8, 3.6 and 4.1 billion multiply-adds at 224 px (strides of torchvision).
            let billions = config.forward_operations(224) / 2e9;
            let published = [("resnet18", 1.81), ("resnet34", 3.66), ("resnet50", 4.09)];
            let (_, expected) = published.into_iter().find(|one| one.0 == name).unwrap();
            assert!((billions - expected).abs() < 0.02, "{name}: {billions}");
        }
    }
}
