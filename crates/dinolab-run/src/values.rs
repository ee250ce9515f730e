//! Values of settings that are more than a number.

use std::str::FromStr;
use std::time::Duration;

use dinolab_data::Size;
use dinolab_train::{Centering, OptimiserKind};
use serde::{Deserialize, Serialize};

/// The largest side that images can be brought to.
const MAX_SIDE: usize = 1 << 14;

/// Two numbers, `MIN,MAX`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pair(pub f64, pub f64);

impl FromStr for Pair {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let [a, b] = numbers(text)?;
        Ok(Self(a, b))
    }
}

/// One number for the first global crop, one for the second, and one for local crops.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct PerView(pub f64, pub f64, pub f64);

impl FromStr for PerView {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let [first, second, local] = numbers(text)?;
        Ok(Self(first, second, local))
    }
}

impl From<PerView> for [f64; 3] {
    fn from(PerView(first, second, local): PerView) -> Self {
        [first, second, local]
    }
}

/// Numbers, one per channel.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Numbers(pub Vec<f32>);

impl FromStr for Numbers {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let numbers = parts(text).ok_or("expected numbers with commas between them")?;
        Ok(Self(numbers.iter().map(|&value| value as f32).collect()))
    }
}

impl std::fmt::Display for Numbers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let numbers: Vec<String> = self.0.iter().map(f32::to_string).collect();
        f.write_str(&numbers.join(","))
    }
}

/// A method of self-supervised training.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
#[serde(rename_all = "kebab-case")]
pub enum MethodKind {
    /// Self-distillation with no labels (Caron et al.)
    Dino,
    /// Joint embedding with SIGReg, which keeps embeddings normally distributed (Balestriero & LeCun)
    #[cfg_attr(feature = "clap", value(name = "lejepa"))]
    #[serde(rename = "lejepa")]
    LeJepa,
    /// Joint embedding with a regulariser of location, scale and shape of the embeddings (arXiv 2606.02572)
    #[cfg_attr(feature = "clap", value(name = "visreg"))]
    #[serde(rename = "visreg")]
    VisReg,
    /// Self-distillation with a coding-rate regulariser instead of prototypes, centre and temperatures
    /// (Wu et al.)
    #[cfg_attr(feature = "clap", value(name = "simdino"))]
    #[serde(rename = "simdino")]
    SimDino,
    /// DINO that also predicts masked patches, with balanced targets and KoLeo (Oquab et al.)
    #[cfg_attr(feature = "clap", value(name = "dinov2"))]
    #[serde(rename = "dinov2")]
    DinoV2,
    /// Predict the features and patch tokens of a frozen network, --teacher-weights
    Distill,
}

impl std::fmt::Display for MethodKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Dino => "dino",
            Self::LeJepa => "lejepa",
            Self::VisReg => "visreg",
            Self::SimDino => "simdino",
            Self::DinoV2 => "dinov2",
            Self::Distill => "distill",
        })
    }
}

/// The MLP of a transformer block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
#[serde(rename_all = "kebab-case")]
pub enum FfnKind {
    /// Two linear layers with GELU
    #[default]
    Mlp,
    /// With gates (SwiGLU), as the largest networks of DINOv2 and DINOv3
    #[cfg_attr(feature = "clap", value(name = "swiglu", alias = "swiglufused"))]
    #[serde(rename = "swiglu", alias = "swiglufused")]
    SwiGlu,
}

/// What makes tokens of an image's patches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
#[serde(rename_all = "kebab-case")]
pub enum StemKind {
    /// One linear layer
    #[default]
    Patchify,
    /// Convolutions of 4 × 4 pixels, then of 3 × 3 positions
    Conv,
}

impl StemKind {
    /// What a description of a network adds after the patch size.
    pub fn in_words(self) -> &'static str {
        match self {
            Self::Patchify => "",
            Self::Conv => " behind a convolutional stem",
        }
    }
}

/// How a network knows the places of patches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
#[serde(rename_all = "kebab-case")]
pub enum PositionKind {
    /// Learned position embeddings
    #[default]
    Learned,
    /// Rotary position embeddings, as in DINOv3
    Rope,
}

/// A recipe: values for the settings that are not given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
#[serde(rename_all = "kebab-case")]
pub enum RecipeKind {
    /// Settings of facebookresearch/dino (DINO, ViT-S/16, 224 px), for GPUs and large datasets
    Paper,
    /// Settings of facebookresearch/dino for ResNet-50 (DINO, SGD, 224 px)
    #[cfg_attr(feature = "clap", value(name = "resnet50"))]
    #[serde(rename = "resnet50")]
    ResNet50,
    /// For a few thousand images on a CPU
    Small,
    /// For the built-in shapes set; trains in minutes
    Shapes,
}

impl std::fmt::Display for RecipeKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Paper => "paper",
            Self::ResNet50 => "resnet50",
            Self::Small => "small",
            Self::Shapes => "shapes",
        })
    }
}

/// How long a run may take: `45m`, `8h`, `1h 30m`; `0s` if not set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TimeBudget(pub Duration);

impl TimeBudget {
    /// Whether no time is set.
    pub fn is_unlimited(self) -> bool {
        self.0.is_zero()
    }
}

impl FromStr for TimeBudget {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let time = humantime::parse_duration(text.trim());
        time.map(Self)
            .map_err(|_| "a number with its unit, such as 45m, 8h or 1h30m".to_owned())
    }
}

impl std::fmt::Display for TimeBudget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        humantime::format_duration(self.0).fmt(f)
    }
}

impl TryFrom<String> for TimeBudget {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<TimeBudget> for String {
    fn from(time: TimeBudget) -> Self {
        time.to_string()
    }
}

/// Which backbone is evaluated, for a method with a teacher.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
#[serde(rename_all = "kebab-case")]
pub enum EvaluatedKind {
    /// The teacher
    Teacher,
    /// A separate moving average of the student's backbone, see --average-momentum
    Average,
}

/// How the outputs of DINO's teacher are balanced over prototypes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
#[serde(rename_all = "kebab-case")]
pub enum CenteringKind {
    /// Subtract a moving average of the logits (Caron et al.)
    Centre,
    /// Sinkhorn-Knopp: use all prototypes equally in each batch (SwAV, DINOv2)
    Sinkhorn,
}

impl From<CenteringKind> for Centering {
    fn from(kind: CenteringKind) -> Self {
        match kind {
            CenteringKind::Centre => Self::Centre,
            CenteringKind::Sinkhorn => Self::Sinkhorn,
        }
    }
}

/// What DINOv2's patch tokens go through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
#[serde(rename_all = "kebab-case")]
pub enum IbotHeadKind {
    /// A head of their own (DINOv2)
    Apart,
    /// The head of the class tokens (iBOT)
    Shared,
}

/// What files are decoded to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
#[serde(rename_all = "kebab-case")]
pub enum PixelKind {
    /// Convert every file to 8-bit RGB
    Rgb,
    /// Keep the file's own channels and bit depth
    Stored,
}

impl PixelKind {
    /// That of the library's value.
    pub fn of(pixels: dinolab_data::Pixels) -> Self {
        match pixels {
            dinolab_data::Pixels::Rgb => Self::Rgb,
            dinolab_data::Pixels::Stored { .. } => Self::Stored,
        }
    }
}

/// A size that images can be brought to.
///
/// # Errors
/// Another text, or a side out of the range of sides.
pub fn size(text: &str) -> Result<Size, String> {
    let usable = text.parse().ok().filter(|size: &Size| size.is_usable());
    usable.ok_or_else(|| format!("SIDE or HEIGHTxWIDTH, of 1 to {MAX_SIDE} pixels"))
}

fn parts(text: &str) -> Option<Vec<f64>> {
    text.split([',', ' '])
        .filter(|part| !part.is_empty())
        .map(|part| part.parse().ok())
        .collect()
}

fn numbers<const N: usize>(text: &str) -> Result<[f64; N], String> {
    parts(text)
        .and_then(|parts| parts.try_into().ok())
        .ok_or_else(|| format!("expected {N} numbers with commas between them"))
}

/// A number as a setting takes it, without thirty zeros.
pub fn plain_number(value: f64) -> String {
    let plain = value.to_string();
    if plain.len() > 12 {
        format!("{value:e}")
    } else {
        plain
    }
}

/// An optimiser by its name.
///
/// # Errors
/// Another name, with those that there are.
pub fn optimizer(text: &str) -> Result<OptimiserKind, String> {
    match text {
        "adamw" => Ok(OptimiserKind::AdamW),
        "sgd" => Ok(OptimiserKind::Sgd),
        "lars" => Ok(OptimiserKind::Lars),
        "muon" => Ok(OptimiserKind::Muon),
        _ => Err("one of adamw, sgd, lars, muon".into()),
    }
}
