//! The recipe for a few thousand images on a CPU, by the tables of `docs/small-sets.md`.

use std::path::PathBuf;

use dinolab_data::Size;
use dinolab_nn::VitConfig;
use dinolab_train::OptimiserKind;

use super::{ImageFacts, Scale};
use crate::settings::Settings;
use crate::values::{MethodKind, Pair, StemKind};

/// The networks, the smallest first.
pub(super) const SCALES: [Scale; 3] = [
    Scale {
        width: 128,
        depth: 6,
        heads: 4,
        worth_from: 0.0,
    },
    Scale {
        width: 192,
        depth: 6,
        heads: 6,
        worth_from: 80_000.0,
    },
    Scale {
        width: 256,
        depth: 8,
        heads: 8,
        worth_from: 400_000.0,
    },
];

/// Which of them is trained where no time is given.
const DEFAULT: usize = 1;

/// The method where none is given.
const METHOD: MethodKind = MethodKind::LeJepa;

/// Images seen in all epochs together where no time is given.
const SEEN: f64 = 400_000.0;

/// The same with convolutions, which learn more from each image and take longer.
const SEEN_CONVOLUTIONAL: f64 = 200_000.0;

/// Features of a `resnet18` whose width is not given: half of the published channels. In the same time it sees the
/// images more often, and learns more.
const RESNET18_WIDTH: usize = 256;

/// `--lr`, by the tables of rates; of DINO and its kin one was tried.
fn rate(method: MethodKind, optimizer: OptimiserKind) -> f64 {
    match (method.teaches(), optimizer) {
        // Between the best two of four.
        (false, OptimiserKind::Muon) => 0.012,
        (false, _) | (true, OptimiserKind::Muon) => 0.004,
        (true, _) => 0.002,
    }
}

/// Pixels along one side of the crops that the paper blurs. As much blur in smaller crops leaves little to learn from.
const BLUR_CROP: usize = 224;

/// Pixels along one side at which features are extracted, to those of global crops, in which things look larger than in
/// the image (Touvron et al., "Fixing the train-test resolution discrepancy", arXiv 1906.06423).
const EVAL_SCALE: (usize, usize) = (4, 3);

/// Runs of at least this many epochs begin with small crops.
const CURRICULUM_FROM: f64 = 4.0;

/// Images seen between checkpoints: about a minute.
const CHECKPOINT_IMAGES: u64 = 8_000;

/// Images of which the shorter side is smaller than this are cropped to half the size, in patches
/// half as large: as many tokens, and no pixels made up.
const SMALL_SIDE: usize = 80;

impl ImageFacts {
    fn tiny(&self) -> bool {
        self.side.is_some_and(|side| side < SMALL_SIDE)
    }
}

impl Settings {
    /// Whether the method has been measured with features of larger images.
    fn has_tried_larger_images(&self) -> bool {
        let method = self.method.unwrap_or(METHOD);
        method.is_joint_embedding() || method == MethodKind::Distill
    }

    /// The network: as it is named, with the transformer's sizes that are given, or in a scale.
    fn small_network(&self, scale: Option<Scale>) -> Self {
        if self.names_network() {
            let narrow = self.arch.as_deref() == Some("resnet18");
            return Self {
                width: narrow.then_some(RESNET18_WIDTH),
                ..Self::default()
            };
        }
        let Scale {
            width,
            depth,
            heads,
            ..
        } = scale.unwrap_or(SCALES[DEFAULT]);
        Self {
            arch: Some("custom".into()),
            width: Some(width),
            depth: Some(depth),
            // They follow a width that is given.
            heads: Some(heads).filter(|_| self.width.is_none()),
            ..Self::default()
        }
    }

    /// What makes tokens of patches of `patch_size` px: convolutions, where they fit.
    fn small_stem(&self, patch_size: usize) -> StemKind {
        let patches = VitConfig {
            conv_stem: true,
            patch_size: self.patch_size.unwrap_or(patch_size),
            width: self.width.unwrap_or_default(),
            ..VitConfig::default()
        };
        let own = self.arch.as_deref() == Some("custom");
        match own && patches.check_stem().is_ok() {
            true => StemKind::Conv,
            false => StemKind::Patchify,
        }
    }

    /// Muon, but not where weights are adapted by DINO and its kin, which has not been tried.
    fn small_optimizer(&self) -> OptimiserKind {
        let method = self.method.unwrap_or(METHOD);
        let from_weights = |path: &PathBuf| !path.as_os_str().is_empty();
        let adapts = self.weights.as_ref().is_some_and(from_weights) && method.teaches();
        self.optimizer.unwrap_or(match adapts {
            true => OptimiserKind::AdamW,
            false => OptimiserKind::Muon,
        })
    }

    /// The side at which features are extracted, if that is left open: where it has been tried, the scale's, in whole
    /// patches.
    fn small_eval_size(&self, crop: Size, patch_size: usize) -> Option<Size> {
        let open = self.eval_resize.is_none() && self.eval_crop.is_none();
        let patch = self.patch_size.unwrap_or(patch_size).max(1);
        let (more, than) = EVAL_SCALE;
        let scaled = |side: usize| (side * more).div_ceil(than).next_multiple_of(patch);
        (open && self.has_tried_larger_images())
            .then(|| self.global_crops_size.unwrap_or(crop).map(scaled))
    }

    /// These settings over the recipe for a few thousand images.
    pub(super) fn over_small(self, images: ImageFacts, scale: Option<Scale>) -> Self {
        let pixels = |side: usize| if images.tiny() { side / 2 } else { side };
        let network = self.small_network(scale);
        let settings = self.over(network);
        let transformer = !settings.is_convolutional();
        let stem = transformer.then(|| settings.small_stem(pixels(16)));
        let settings = settings.over(Self {
            stem,
            ..Self::default()
        });
        let method = settings.method.unwrap_or(METHOD);
        let optimizer = settings.small_optimizer();
        let lr = rate(method, optimizer);
        let of_method = match method {
            MethodKind::LeJepa | MethodKind::VisReg => Self {
                patch_drop_rate: transformer.then_some(0.5),
                ..Self::default()
            },
            MethodKind::Dino | MethodKind::DinoV2 => Self {
                head_hidden_dim: Some(512),
                ..Self::default()
            },
            MethodKind::Distill => Self {
                drop_path_rate: Some(0.0),
                local_crops_number: Some(0),
                ..Self::default()
            },
            MethodKind::SimDino => Self {
                weight_decay_end: Some(0.04),
                head_hidden_dim: Some(512),
                ..Self::default()
            },
        };
        let convolutions = !transformer || settings.stem == Some(StemKind::Conv);
        let seen = match convolutions {
            true => SEEN_CONVOLUTIONAL,
            false => SEEN,
        };
        let epochs = (seen / images.count.max(1) as f64)
            .round()
            .clamp(10.0, 400.0);
        let length = settings.epochs.unwrap_or(epochs);
        let early = match length < CURRICULUM_FROM {
            true => 0,
            false => (length / 2.0) as u64,
        };
        let crop = Size::square(pixels(96));
        let eval_size = settings.small_eval_size(crop, pixels(16));
        settings.over(of_method).over(Self {
            method: Some(method),
            optimizer: Some(optimizer),
            lr: Some(lr),
            patch_size: Some(pixels(16)),
            eval_resize: eval_size,
            eval_crop: eval_size,
            drop_path_rate: Some(0.05),
            epochs: Some(epochs),
            low_resolution_epochs: Some(early),
            // An epoch of few images is too short for a checkpoint of its own, and nobody looks at
            // hundreds of them.
            checkpoint_every: Some((CHECKPOINT_IMAGES / images.count.max(1) as u64).max(1)),
            saveckp_freq: Some(0),
            global_crops_size: Some(crop),
            global_crops_scale: Some(Pair(0.5, 1.0)),
            local_crops_size: Some(Size::square(pixels(48))),
            local_crops_number: Some(4),
            local_crops_scale: Some(Pair(0.15, 0.5)),
            blur_crop_size: Some(BLUR_CROP),
            ..Self::default()
        })
    }
}

#[cfg(test)]
mod tests;
