//! The sizes of a ConvNeXt.

use super::block::{EPS, RATIO, SIDE};
use super::downsampling::{STEM, STEP};
use crate::{Error, Result};

/// The sizes of a ConvNeXt.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConvNextConfig {
    /// Channels of the image, `C`.
    pub channels: usize,
    /// Channels of each stage.
    pub widths: [usize; 4],
    /// Blocks of each stage.
    pub depths: [usize; 4],
    /// Added to the variance in the final norm; in all others it is 1e-6.
    pub layer_norm_eps: f64,
}

/// ConvNeXt-T.
impl Default for ConvNextConfig {
    fn default() -> Self {
        Self {
            channels: 3,
            widths: [96, 192, 384, 768],
            depths: [3, 3, 9, 3],
            layer_norm_eps: EPS,
        }
    }
}

impl ConvNextConfig {
    /// Pixels along one side of what a position of the last grid stands for.
    pub const STRIDE: usize = STEM * STEP * STEP * STEP;
    /// The names of the published sizes. The four smallest are timm's.
    pub const NAMES: [&str; 8] = [
        "convnext_atto",
        "convnext_femto",
        "convnext_pico",
        "convnext_nano",
        "convnext_tiny",
        "convnext_small",
        "convnext_base",
        "convnext_large",
    ];

    /// The published sizes, by one of [`NAMES`](Self::NAMES); `None` for other names.
    pub fn named(arch: &str) -> Option<Self> {
        let (width, depths) = match arch {
            "convnext_atto" => (40, [2, 2, 6, 2]),
            "convnext_femto" => (48, [2, 2, 6, 2]),
            "convnext_pico" => (64, [2, 2, 6, 2]),
            "convnext_nano" => (80, [2, 2, 8, 2]),
            "convnext_tiny" => (96, [3, 3, 9, 3]),
            "convnext_small" => (96, [3, 3, 27, 3]),
            "convnext_base" => (128, [3, 3, 27, 3]),
            "convnext_large" => (192, [3, 3, 27, 3]),
            _ => return None,
        };
        Some(Self {
            widths: [1, 2, 4, 8].map(|factor| factor * width),
            depths,
            ..Self::default()
        })
    }

    /// Width of the last grid, `D`.
    pub fn features(&self) -> usize {
        self.widths[3]
    }

    /// Blocks of all stages.
    pub fn blocks(&self) -> usize {
        self.depths.iter().sum()
    }

    /// Multiplications and additions of a forward pass of one image of side `side`.
    pub fn forward_operations(&self, side: usize) -> f64 {
        let (mut side, mut inputs, mut step) = (side, self.channels, STEM);
        let mut sum = 0.0;
        for (width, depth) in self.widths.into_iter().zip(self.depths) {
            side /= step;
            let patch = inputs * step * step;
            let block = SIDE * SIDE + 2 * RATIO * width;
            sum += 2.0 * (side * side * width) as f64 * (patch + depth * block) as f64;
            (inputs, step) = (width, STEP);
        }
        sum
    }

    /// Checks that the sizes make a network.
    ///
    /// # Errors
    /// [`Error::BadSetting`].
    pub fn validate(&self) -> Result<()> {
        let sizes = self.widths.iter().chain(&self.depths);
        let least = sizes.copied().fold(self.channels, usize::min);
        let most = self.widths.iter().copied().fold(0, usize::max);
        let (field, reason) = match least {
            0 => (
                "width",
                "width, channels and blocks of each stage must be at least 1",
            ),
            _ if most > 1 << 16 => ("width", "is too large"),
            _ if !(self.layer_norm_eps >= 0.0 && self.layer_norm_eps.is_finite()) => {
                ("layer-norm-eps", "must not be below 0")
            }
            _ => return Ok(()),
        };
        let reason = reason.into();
        Err(Error::BadSetting { field, reason })
    }

    /// Names and shapes of all tensors, in the authors' order. There are as many as there are blocks, so
    /// sizes that were read have to be bounded before.
    pub fn tensors(&self) -> impl Iterator<Item = (String, Vec<usize>)> {
        let mut all = Vec::new();
        let mut pair = |name: String, weight: Vec<usize>| {
            let outputs = weight[0];
            all.push((format!("{name}.weight"), weight));
            all.push((format!("{name}.bias"), vec![outputs]));
        };
        let [first, ..] = self.widths;
        let before = "downsample_layers";
        pair(
            format!("{before}.0.0"),
            vec![first, self.channels, STEM, STEM],
        );
        pair(format!("{before}.0.1"), vec![first]);
        for (stage, widths) in (1..).zip(self.widths.windows(2)) {
            pair(format!("{before}.{stage}.0"), vec![widths[0]]);
            let conv = vec![widths[1], widths[0], STEP, STEP];
            pair(format!("{before}.{stage}.1"), conv);
        }
        let mut scales = Vec::new();
        for (stage, (&width, &depth)) in self.widths.iter().zip(&self.depths).enumerate() {
            for block in 0..depth {
                let at = format!("stages.{stage}.{block}");
                scales.push((format!("{at}.gamma"), vec![width]));
                pair(format!("{at}.dwconv"), vec![width, 1, SIDE, SIDE]);
                pair(format!("{at}.norm"), vec![width]);
                pair(format!("{at}.pwconv1"), vec![RATIO * width, width]);
                pair(format!("{at}.pwconv2"), vec![width, RATIO * width]);
            }
        }
        pair("norm".into(), vec![self.features()]);
        all.into_iter().chain(scales)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::convnext::ConvNext;
    use crate::init::Init;
    use crate::{Device, Parameters};

    #[test]
    fn the_list_of_tensors_is_the_networks() {
        let config = ConvNextConfig {
            channels: 2,
            widths: [3, 5, 4, 7],
            depths: [2, 1, 1, 2],
            ..ConvNextConfig::default()
        };
        let network = ConvNext::new(&config, &mut Init::new(0), &Device::flex()).unwrap();
        let mut found = Vec::new();
        network.visit("", &mut |name, param| {
            found.push((name.to_owned(), param.shape().to_vec()));
        });
        found.sort();
        let mut listed: Vec<_> = config.tensors().collect();
        listed.sort();
        assert_eq!(found, listed);
    }

    #[test]
    fn published_networks_have_the_published_number_of_parameters() {
        // timm's totals without the classifier, and the billions of multiply-adds of its convolutions
        // and linear layers at 224 px.
        for (name, total, features, published) in [
            ("convnext_atto", 3_374_520, 320, 0.547),
            ("convnext_femto", 4_832_784, 384, 0.779),
            ("convnext_pico", 8_532_672, 512, 1.367),
            ("convnext_nano", 14_952_560, 640, 2.445),
            ("convnext_tiny", 27_820_128, 768, 4.455),
            ("convnext_small", 49_454_688, 768, 8.683),
            ("convnext_base", 87_566_464, 1024, 15.354),
            ("convnext_large", 196_230_336, 1536, 34.360),
        ] {
            let config = ConvNextConfig::named(name).unwrap();
            assert!(ConvNextConfig::NAMES.contains(&name));
            let count: usize = config
                .tensors()
                .map(|(_, shape)| shape.iter().product::<usize>())
                .sum();
            assert_eq!(count, total, "{name}");
            assert_eq!(config.features(), features);
            let billions = config.forward_operations(224) / 2e9;
            assert!((billions - published).abs() < 0.001, "{name}: {billions}");
        }
        assert!(ConvNextConfig::named("convnext_xxl").is_none());
    }
}
