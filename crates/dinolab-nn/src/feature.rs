//! What of an image's tokens is its feature: what a head is trained on, and what is used later.

use std::fmt;
use std::str::FromStr;

use burn::tensor::Tensor;

/// The metadata key of weight files that holds it.
pub(crate) const KEY: &str = "feature";

/// The feature of an image, of the tokens after the final norm.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Feature {
    /// The class token, `[D]`.
    #[default]
    Class,
    /// The mean of the patch tokens, `[D]`.
    Patches,
    /// The class token, then the mean of the patch tokens, `[2·D]`.
    Both,
}

impl Feature {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Class, Self::Patches, Self::Both];

    /// Its name in settings and files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Class => "class",
            Self::Patches => "patches",
            Self::Both => "both",
        }
    }

    /// Whether it is the class token and nothing else, as in files from before there was a choice.
    pub fn is_class(&self) -> bool {
        *self == Self::Class
    }

    /// Its width, of tokens of width `token`.
    pub fn width(self, token: usize) -> usize {
        match self {
            Self::Class | Self::Patches => token,
            Self::Both => 2 * token,
        }
    }

    /// As an entry of the metadata of weights.
    pub fn metadata_entry(self) -> (String, String) {
        (KEY.to_owned(), self.name().to_owned())
    }

    /// The feature `[B, D or 2·D]` of all tokens `[B, N, D]` of images, whose first one is the class
    /// token and whose last `patches` are the patches; what is between them, such as registers, has
    /// no part in it.
    pub fn of(self, tokens: Tensor<3>, patches: usize) -> Tensor<2> {
        let [b, n, d] = tokens.dims();
        let class = |tokens: Tensor<3>| tokens.narrow(1, 0, 1).reshape([b, d]);
        let mean = |tokens: Tensor<3>| {
            let patches = tokens.narrow(1, n - patches, patches);
            patches.mean_dim(1).reshape([b, d])
        };
        match self {
            Self::Class => class(tokens),
            Self::Patches => mean(tokens),
            Self::Both => Tensor::cat(vec![class(tokens.clone()), mean(tokens)], 1),
        }
    }
}

impl fmt::Display for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Feature {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|feature| feature.name() == text)
            .ok_or_else(|| format!("one of {}", Self::ALL.map(Self::name).join(", ")))
    }
}
