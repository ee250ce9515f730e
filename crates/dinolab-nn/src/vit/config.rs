//! The sizes and conventions of a vision transformer.

use crate::position::{PositionRule, Rope};
use crate::{Error, Result};

/// The reference's epsilon of every layer normalisation.
const LAYER_NORM_EPS: f64 = 1e-6;

/// The sizes and conventions of a vision transformer.
///
/// What the reference does not have is left out where it is written down, and assumed absent
/// where it is not written.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VitConfig {
    /// Side of the trained image in pixels: position embeddings exist for
    /// `(image_size / patch_size)²` patches and are resampled for other sizes.
    pub image_size: usize,
    /// Side of a patch in pixels.
    pub patch_size: usize,
    /// Channels of the image, `C`.
    pub channels: usize,
    /// Width of a token, `D`.
    pub width: usize,
    /// Number of blocks.
    pub depth: usize,
    /// Attention heads, `H`; divides `width`.
    pub heads: usize,
    /// Hidden width of the MLP as a multiple of `width`, unless `mlp_width` says it.
    pub mlp_ratio: usize,
    /// Hidden width of the MLP where it is no multiple of `width`; 0 otherwise.
    #[serde(default, skip_serializing_if = "is_none")]
    pub mlp_width: usize,
    /// SwiGLU in place of GELU: the first layer has twice the hidden width.
    #[serde(default, skip_serializing_if = "is_off")]
    pub gated_mlp: bool,
    /// How position embeddings follow another image size.
    #[serde(default)]
    pub position_rule: PositionRule,
    /// Rotary position embeddings in place of learned ones. Such a network has no bias of keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rope: Option<Rope>,
    /// Register tokens between the class token and the patches (Darcet et al.), `R`. They have
    /// no position embedding and are in no output.
    #[serde(default, skip_serializing_if = "is_none")]
    pub registers: usize,
    /// A convolutional stem (Xiao et al., arXiv 2106.14881) in place of one linear layer on patches: a
    /// convolution of 4 × 4 pixels, then of 3 × 3 positions of which every second is kept, with channels that
    /// double up to `width`. Layer normalisation and GELU follow each but the last, which is the patch
    /// embedding.
    #[serde(default, skip_serializing_if = "is_off")]
    pub conv_stem: bool,
    /// Layer scale (Touvron et al.): each residual branch is multiplied by a learned vector.
    #[serde(default, skip_serializing_if = "is_off")]
    pub layer_scale: bool,
    /// Added to the variance by every layer normalisation.
    #[serde(default = "layer_norm_eps", skip_serializing_if = "is_reference_eps")]
    pub layer_norm_eps: f64,
}

fn is_none(count: &usize) -> bool {
    *count == 0
}

fn is_off(flag: &bool) -> bool {
    !flag
}

fn layer_norm_eps() -> f64 {
    LAYER_NORM_EPS
}

fn is_reference_eps(eps: &f64) -> bool {
    *eps == LAYER_NORM_EPS
}

/// The paper's ViT-S/16.
impl Default for VitConfig {
    fn default() -> Self {
        Self {
            image_size: 224,
            patch_size: 16,
            channels: 3,
            width: 384,
            depth: 12,
            heads: 6,
            mlp_ratio: 4,
            mlp_width: 0,
            gated_mlp: false,
            position_rule: PositionRule::default(),
            rope: None,
            registers: 0,
            conv_stem: false,
            layer_scale: false,
            layer_norm_eps: LAYER_NORM_EPS,
        }
    }
}

/// The most patches of one image. Attention takes time that grows with their square; as many are
/// a frame of 3840 × 2160 px in patches of 16, and take ViT-S about a gigabyte.
pub const MAX_PATCHES: usize = 1 << 15;

/// Checks that an image of `height × width` px, cut into patches of `patch` px, makes no more than
/// [`MAX_PATCHES`], before anything is made for it.
///
/// # Errors
/// [`Error::TooManyPatches`].
pub fn check_patches(height: usize, width: usize, patch: usize) -> Result<()> {
    // A patch of no size is refused elsewhere.
    let along = |side: usize| side.checked_div(patch).unwrap_or(0);
    let patches = along(height).saturating_mul(along(width));
    if patches <= MAX_PATCHES {
        return Ok(());
    }
    Err(Error::TooManyPatches {
        height,
        width,
        patch,
        patches,
    })
}

impl VitConfig {
    /// Pixels along one side of the patches of a convolutional stem's first layer.
    pub(crate) const STEM_PATCH: usize = 4;
    /// The names of the published sizes.
    pub const NAMES: [&str; 3] = ["vit_tiny", "vit_small", "vit_base"];

    /// The published sizes: `vit_tiny`, `vit_small`, `vit_base`; `None` for other names.
    pub fn named(arch: &str, patch_size: usize, image_size: usize) -> Option<Self> {
        let (width, heads) = match arch {
            "vit_tiny" => (192, 3),
            "vit_small" => (384, 6),
            "vit_base" => (768, 12),
            _ => return None,
        };
        Some(Self {
            image_size,
            patch_size,
            width,
            heads,
            ..Self::default()
        })
    }

    /// Patches along one side of the trained image.
    pub fn side(&self) -> usize {
        self.image_size / self.patch_size.max(1)
    }

    /// Shapes `[O, I, k, k]` of the stem's convolutions before the patch embedding; none without a stem.
    pub fn stem_kernels(&self) -> Vec<[usize; 4]> {
        let halvings = match self.conv_stem {
            true => (self.patch_size / Self::STEM_PATCH).max(1).ilog2(),
            false => 0,
        };
        let mut inputs = self.channels;
        let layers = (0..halvings).map(|layer| {
            let outputs = self.width >> (halvings - layer);
            let side = if layer == 0 { Self::STEM_PATCH } else { 3 };
            let shape = [outputs, inputs, side, side];
            inputs = outputs;
            shape
        });
        layers.collect()
    }

    /// That the patches and the width suit a convolutional stem, if there is one.
    ///
    /// # Errors
    /// [`Error::BadSetting`] names the one that does not.
    pub fn check_stem(&self) -> Result<()> {
        let bad = |field, reason| Err(Error::BadSetting { field, reason });
        let steps = self.patch_size / Self::STEM_PATCH;
        let fits =
            steps > 1 && (steps * Self::STEM_PATCH, steps.count_ones()) == (self.patch_size, 1);
        if self.conv_stem && !fits {
            let reason = format!(
                "{} is not 8, 16, 32 or 64, as a convolutional stem needs",
                self.patch_size
            );
            return bad("patch-size", reason);
        }
        if self.conv_stem && !self.width.is_multiple_of(steps) {
            let reason = format!(
                "of {} is no multiple of {steps}, as a convolutional stem of patches of {} px needs",
                self.width, self.patch_size
            );
            return bad("width", reason);
        }
        Ok(())
    }

    /// Shape `[D, I, k, k]` of the patch embedding.
    pub fn patch_kernel(&self) -> [usize; 4] {
        match self.stem_kernels().last() {
            Some(&[inputs, ..]) => [self.width, inputs, 3, 3],
            None => [self.width, self.channels, self.patch_size, self.patch_size],
        }
    }

    /// Tokens before the patches: the class token and the registers.
    pub fn prefix(&self) -> usize {
        1 + self.registers
    }

    /// Whether the network has only what the reference's networks have.
    pub fn is_reference(&self) -> bool {
        self.mlp_width == 0
            && !self.gated_mlp
            && self.rope.is_none()
            && self.registers == 0
            && !self.conv_stem
            && !self.layer_scale
    }

    /// Hidden width of the MLP.
    pub fn mlp_hidden(&self) -> usize {
        match self.mlp_width {
            0 => self.width.saturating_mul(self.mlp_ratio),
            width => width,
        }
    }

    /// The hidden width that DINOv2 gives a gated MLP of this `width`: two thirds of what one without
    /// gates has, in a multiple of 8.
    pub fn gated_width(width: usize) -> usize {
        (4 * width * 2 / 3).next_multiple_of(8)
    }

    /// The width of an attention head.
    pub fn head_width(&self) -> usize {
        self.width / self.heads.max(1)
    }

    /// Checks that the sizes make a network.
    ///
    /// # Errors
    /// [`Error::BadSetting`] names the size that does not fit, [`Error::TooManyPatches`] an image
    /// that is too large.
    pub fn validate(&self) -> Result<()> {
        let bad = |field, reason: String| Err(Error::BadSetting { field, reason });
        if self.patch_size == 0 || self.image_size < self.patch_size {
            return bad(
                "patch-size",
                format!(
                    "{} does not fit an image of {} pixels",
                    self.patch_size, self.image_size
                ),
            );
        }
        check_patches(self.image_size, self.image_size, self.patch_size)?;
        if self.width == 0 || self.depth == 0 || self.channels == 0 || self.mlp_ratio == 0 {
            return bad(
                "width",
                "width, depth, channels and mlp ratio must be at least 1".into(),
            );
        }
        if self.heads == 0 || !self.width.is_multiple_of(self.heads) {
            return bad(
                "heads",
                format!(
                    "{} heads do not divide the width {}",
                    self.heads, self.width
                ),
            );
        }
        self.check_stem()?;
        if !(self.layer_norm_eps >= 0.0 && self.layer_norm_eps < 1.0) {
            return bad(
                "layer-norm-eps",
                format!("{} is not between 0 and 1", self.layer_norm_eps),
            );
        }
        match &self.rope {
            Some(rope) => rope.check(self.head_width()),
            None => Ok(()),
        }
    }
}
