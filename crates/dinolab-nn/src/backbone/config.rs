//! The sizes of a backbone whose kind is known at run time only.

use crate::convnext::ConvNextConfig;
use crate::position::Rope;
use crate::resnet::ResNetConfig;
use crate::vit::VitConfig;

/// The sizes of a backbone, of any kind.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BackboneConfig {
    /// A vision transformer.
    Vit(VitConfig),
    /// A residual network.
    ResNet(ResNetConfig),
    /// A ConvNeXt.
    ConvNext(ConvNextConfig),
}

impl From<VitConfig> for BackboneConfig {
    fn from(config: VitConfig) -> Self {
        Self::Vit(config)
    }
}

impl From<&VitConfig> for BackboneConfig {
    fn from(config: &VitConfig) -> Self {
        Self::Vit(config.clone())
    }
}

impl From<&Self> for BackboneConfig {
    fn from(config: &Self) -> Self {
        config.clone()
    }
}

impl From<ResNetConfig> for BackboneConfig {
    fn from(config: ResNetConfig) -> Self {
        Self::ResNet(config)
    }
}

impl From<ConvNextConfig> for BackboneConfig {
    fn from(config: ConvNextConfig) -> Self {
        Self::ConvNext(config)
    }
}

impl BackboneConfig {
    /// The names of the published convolutional networks.
    pub fn convolutional_names() -> impl Iterator<Item = &'static str> {
        ResNetConfig::NAMES.into_iter().chain(ConvNextConfig::NAMES)
    }

    /// The published convolutional network of this name, for images of `channels` channels; `None` for
    /// other names.
    pub fn convolutional(arch: &str, channels: usize) -> Option<Self> {
        let resnet = ResNetConfig::named(arch).map(|config| ResNetConfig { channels, ..config });
        let convnext = || {
            let config = ConvNextConfig::named(arch)?;
            Some(Self::ConvNext(ConvNextConfig { channels, ..config }))
        };
        resnet.map(Self::ResNet).or_else(convnext)
    }

    /// The name of a published convolutional network of these sizes, whatever its images' channels;
    /// `None` for others and for transformers.
    pub fn convolutional_name(&self) -> Option<&'static str> {
        Self::convolutional_names()
            .find(|name| Self::convolutional(name, self.channels()).as_ref() == Some(self))
    }

    /// A convolutional network like this one, its stages in proportion to features of width `width`; `None` where
    /// channels would not be whole, and of a transformer.
    #[must_use]
    pub fn of_width(self, width: usize) -> Option<Self> {
        if width == 0 || !width.is_multiple_of(self.width_step()) {
            return None;
        }
        let factor = width / self.width_step();
        match self {
            Self::Vit(_) => None,
            Self::ResNet(config) => Some(Self::ResNet(ResNetConfig {
                width: factor,
                ..config
            })),
            Self::ConvNext(config) => {
                // Like the published ones: each stage is twice as wide as the one before.
                let widths = [1, 2, 4, 8].map(|times| times * factor);
                Some(Self::ConvNext(ConvNextConfig { widths, ..config }))
            }
        }
    }

    /// Features for one channel of the first stage, of which widths are multiples; 1 for a transformer.
    pub fn width_step(&self) -> usize {
        match self {
            Self::Vit(_) => 1,
            Self::ResNet(config) => config.features() / config.width.max(1),
            Self::ConvNext(_) => 8,
        }
    }

    /// The name of a published convolutional network of this one's blocks and of this or
    /// [another width](Self::of_width); `None` where there is none, and for transformers.
    pub fn convolutional_family(&self) -> Option<&'static str> {
        let like = |name: &&str| {
            let named = Self::convolutional(name, self.channels());
            named
                .and_then(|named| named.of_width(self.width()))
                .as_ref()
                == Some(self)
        };
        (self.convolutional_name()).or_else(|| Self::convolutional_names().find(like))
    }

    /// What it is, with its article: "a vision transformer of width 384".
    pub fn describe(&self) -> String {
        format!("{} of width {}", self.kind(), self.width())
    }

    /// Its kind, with its article.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Vit(_) => "a vision transformer",
            Self::ResNet(_) => "a residual network",
            Self::ConvNext(_) => "a ConvNeXt",
        }
    }

    /// The number that stands for its depth: of a transformer's blocks, or of a residual network's or
    /// ConvNeXt's layers by which they are named or counted.
    pub fn depth(&self) -> usize {
        match self {
            Self::Vit(config) => config.depth,
            Self::ResNet(config) => config.layers(),
            Self::ConvNext(config) => config.blocks(),
        }
    }

    /// Blocks of each stage; a transformer is one stage.
    pub fn stages(&self) -> Vec<usize> {
        match self {
            Self::Vit(config) => vec![config.depth],
            Self::ResNet(config) => config.blocks.to_vec(),
            Self::ConvNext(config) => config.depths.to_vec(),
        }
    }

    /// The vision transformer.
    pub fn vit(&self) -> Option<&VitConfig> {
        match self {
            Self::Vit(config) => Some(config),
            _ => None,
        }
    }

    /// Width of a token, `D`.
    pub fn width(&self) -> usize {
        match self {
            Self::Vit(config) => config.width,
            Self::ResNet(config) => config.features(),
            Self::ConvNext(config) => config.features(),
        }
    }

    /// Channels of the images, `C`.
    pub fn channels(&self) -> usize {
        match self {
            Self::Vit(config) => config.channels,
            Self::ResNet(config) => config.channels,
            Self::ConvNext(config) => config.channels,
        }
    }

    /// Pixels along one side of what a patch token stands for.
    pub fn stride(&self) -> usize {
        match self {
            Self::Vit(config) => config.patch_size,
            Self::ResNet(_) => ResNetConfig::STRIDE,
            Self::ConvNext(_) => ConvNextConfig::STRIDE,
        }
    }

    /// Rows and columns of the patches of images of `height × width` pixels, `(h, w)`, while it learns.
    pub fn grid(&self, height: usize, width: usize) -> (usize, usize) {
        let of = |side: usize| match self {
            Self::Vit(config) => side / config.patch_size,
            Self::ResNet(_) => side.div_ceil(ResNetConfig::STRIDE),
            Self::ConvNext(_) => (side / ConvNextConfig::STRIDE).max(1),
        };
        (of(height), of(width))
    }

    /// Blocks whose residual branches stochastic depth may drop.
    pub fn droppable_blocks(&self) -> usize {
        match self {
            Self::Vit(config) => config.depth,
            Self::ResNet(_) => 0,
            Self::ConvNext(config) => config.blocks(),
        }
    }

    /// Whether it has batch normalisation, which sees a batch as a whole.
    pub fn has_batch_norm(&self) -> bool {
        matches!(self, Self::ResNet(_))
    }

    /// The rotary positions of a vision transformer that has them.
    pub fn rope(&self) -> Option<Rope> {
        self.vit()?.rope
    }

    /// The sizes as JSON, without the kind.
    pub fn sizes(&self) -> serde_json::Value {
        let json = match self {
            Self::Vit(config) => serde_json::to_value(config),
            Self::ResNet(config) => serde_json::to_value(config),
            Self::ConvNext(config) => serde_json::to_value(config),
        };
        json.expect("plain data")
    }

    /// Its entry in the metadata of weights: `vit`, `resnet` or `convnext`, and the sizes as JSON.
    pub fn metadata_entry(&self) -> (String, String) {
        let json = |json: serde_json::Result<String>| json.expect("plain data");
        let (key, sizes) = match self {
            Self::Vit(config) => ("vit", serde_json::to_string(config)),
            Self::ResNet(config) => (super::RESNET, serde_json::to_string(config)),
            Self::ConvNext(config) => (super::CONVNEXT, serde_json::to_string(config)),
        };
        (key.to_owned(), json(sizes))
    }
}
