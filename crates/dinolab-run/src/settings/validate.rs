//! Checks of a complete configuration.

use dinolab_data::decode::MAX_CHANNELS;
use dinolab_nn::check_patches;

use super::Config;
use crate::error::{Context, Result};
use crate::values::{IbotHeadKind, MethodKind, PixelKind};

impl Config {
    /// Checks the ranges that no library checks.
    pub(super) fn validate(&self) -> Result<()> {
        let positive = [
            ("epochs", self.epochs),
            ("teacher-temp", self.teacher_temp),
            ("warmup-teacher-temp", self.warmup_teacher_temp),
            ("student-temp", self.student_temp),
            ("coding-rate-epsilon", self.coding_rate_epsilon),
            ("knn-temp", self.knn_temp),
            ("lora-alpha", self.lora_alpha),
        ];
        for (name, value) in positive {
            ensure_setting!(
                value > 0.0 && value.is_finite(),
                name,
                value,
                "must be above 0"
            );
        }
        let not_negative = [
            ("lr", self.lr),
            ("coding-rate-weight", self.coding_rate_weight),
            ("koleo-weight", self.koleo_weight),
            ("ibot-weight", self.ibot_weight),
            ("teacher-feature-weight", self.teacher_feature_weight),
            ("teacher-patch-weight", self.teacher_patch_weight),
            ("min-lr", self.min_lr),
            ("warmup-epochs", self.warmup_epochs),
            ("freeze-backbone-epochs", self.freeze_backbone_epochs),
            ("preserve", self.preserve),
            ("weight-decay", self.weight_decay),
            ("weight-decay-end", self.weight_decay_end),
            ("clip-grad", self.clip_grad),
            ("stop-after-epochs", self.stop_after_epochs),
        ];
        for (name, value) in not_negative {
            ensure_setting!(
                value >= 0.0 && value.is_finite(),
                name,
                value,
                "must not be below 0"
            );
        }
        let shares = [
            ("momentum-teacher", self.momentum_teacher, 1.0),
            ("momentum-teacher-end", self.momentum_teacher_end, 1.0),
            ("center-momentum", self.center_momentum, 1.0),
            ("sigreg-weight", self.sigreg_weight, 1.0),
            ("visreg-weight", self.visreg_weight, 1.0),
            ("average-momentum", self.average_momentum, 1.0),
            ("average-momentum-end", self.average_momentum_end, 1.0),
            ("drop-path-rate", self.drop_path_rate, 0.99),
            ("patch-drop-rate", self.patch_drop_rate, 0.99),
            ("patch-embed-lr-scale", self.patch_embed_lr_scale, 1.0),
            ("holdout", self.holdout, 0.9),
            ("max-unusable-percent", self.max_unusable_percent, 100.0),
        ];
        for (name, value, most) in shares {
            ensure_setting!(
                (0.0..=most).contains(&value),
                name,
                value,
                "must be between 0 and {most}"
            );
        }
        ensure_setting!(
            self.layer_decay > 0.0 && self.layer_decay <= 1.0,
            "layer-decay",
            self.layer_decay,
            "must be above 0 and at most 1"
        );
        let needs_weights = [
            ("preserve", self.preserve, self.preserve > 0.0),
            ("lora-rank", self.lora_rank as f64, self.lora_rank > 0),
        ];
        for (name, value, asked) in needs_weights {
            ensure_setting!(
                !asked || !self.weights.as_os_str().is_empty(),
                name,
                value,
                "adapts weights that there are; give them with `weights`"
            );
        }
        let counts = [
            ("batch-size", self.batch_size),
            ("accumulate", self.accumulate),
            ("num-workers", self.num_workers),
            ("knn-k", self.knn_k),
            ("proj-dim", self.proj_dim),
            ("ibot-out-dim", self.ibot_out_dim),
            ("directions", self.directions),
            ("eval-crop", self.eval_crop.shortest()),
            ("attention-size", self.attention_size.shortest()),
        ];
        for (name, value) in counts {
            ensure_setting!(value > 0, name, 0, "must be at least 1");
        }
        ensure_setting!(
            (1..=MAX_CHANNELS).contains(&self.in_chans),
            "in-chans",
            self.in_chans,
            "must be between 1 and {MAX_CHANNELS}"
        );
        ensure_setting!(
            self.pixels != PixelKind::Rgb || self.in_chans == 3,
            "pixels",
            "rgb",
            "has 3 channels, not `in-chans` {}; use `pixels` stored",
            self.in_chans
        );
        for (name, numbers) in [("mean", &self.mean), ("std", &self.std)] {
            ensure_setting!(
                numbers.0.len() == self.in_chans,
                name,
                "",
                "{} numbers for `in-chans` {}",
                numbers.0.len(),
                self.in_chans
            );
        }
        for (name, size) in [
            ("global-crops-size", self.global_crops_size),
            ("local-crops-size", self.local_crops_size),
        ] {
            check_patches(size.height, size.width, self.patch_size).of_setting(name, size)?;
            // A square keeps the reference's way: pixels beyond whole patches are left out.
            let whole = |side: usize| side.is_multiple_of(self.patch_size.max(1));
            ensure_setting!(
                size.is_square() || (whole(size.height) && whole(size.width)),
                name,
                size,
                "both sides must be multiples of the patch size {}",
                self.patch_size
            );
        }
        for (name, size) in [
            ("attention-size", self.attention_size),
            ("eval-crop", self.eval_crop),
        ] {
            check_patches(size.height, size.width, self.patch_size).of_setting(name, size)?;
        }
        ensure_setting!(
            !(self.use_bn_in_head && self.accumulate > 1),
            "accumulate",
            self.accumulate,
            "with `use-bn-in-head` true, micro-batches do not equal a large batch, since each is \
             normalised by itself; use one or the other"
        );
        match self.method {
            MethodKind::DinoV2 => self.validate_dinov2(),
            MethodKind::Distill => self.validate_distill(),
            _ => Ok(()),
        }
    }

    /// What distillation does not train with.
    fn validate_distill(&self) -> Result<()> {
        ensure_setting!(
            self.local_crops_number == 0,
            "local-crops-number",
            self.local_crops_number,
            "distillation is of global crops; use 0"
        );
        ensure_setting!(
            self.patch_drop_rate == 0.0,
            "patch-drop-rate",
            self.patch_drop_rate,
            "distillation predicts all patch tokens; use 0"
        );
        Ok(())
    }

    /// What DINOv2 does not train with.
    fn validate_dinov2(&self) -> Result<()> {
        ensure_setting!(
            self.feature.is_class(),
            "feature",
            self.feature,
            "DINOv2 has a loss of its own for patches, and its features are class tokens; use class"
        );
        ensure_setting!(
            self.patch_drop_rate == 0.0,
            "patch-drop-rate",
            self.patch_drop_rate,
            "DINOv2 masks patches, which it has to see; use 0"
        );
        ensure_setting!(
            self.ibot_head == IbotHeadKind::Apart || self.ibot_out_dim == self.out_dim,
            "ibot-out-dim",
            self.ibot_out_dim,
            "a shared head has the {} prototypes of class tokens",
            self.out_dim
        );
        Ok(())
    }
}
