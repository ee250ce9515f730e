//! A configuration in the words of the libraries.

use dinolab_data::{Pixels, Size};
use dinolab_nn::position::Rope;
use dinolab_nn::{
    BackboneConfig, BottleneckConfig, Device, HeadConfig, LoraConfig, PatchHeadConfig,
    ProjectionConfig, VitConfig,
};
use dinolab_train::trainer::Cadence;
use dinolab_train::{
    AdaptConfig, AverageSchedule, Dino, DinoConfig, DinoSchedule, DinoV2, DinoV2Config, Distill,
    DistillConfig, IbotConfig, JointEmbeddingConfig, LeJepa, LeJepaObjective, MaskConfig, Method,
    SimDino, SimDinoConfig, TrainConfig, VisReg, VisRegObjective,
};

use super::Config;
use crate::values::{
    EvaluatedKind, FfnKind, IbotHeadKind, MethodKind, PixelKind, PositionKind, StemKind,
};

impl Config {
    /// The kind of images.
    pub fn pixels(&self) -> Pixels {
        match self.pixels {
            PixelKind::Rgb => Pixels::Rgb,
            PixelKind::Stored => Pixels::Stored {
                channels: self.in_chans,
            },
        }
    }

    /// The learning rate for this batch size.
    pub fn scaled_lr(&self) -> f64 {
        self.lr * (self.batch_size * self.accumulate) as f64 / 256.0
    }

    /// The run's settings for the training library.
    ///
    /// # Errors
    /// None in practice: a configuration can be written as TOML.
    pub fn train_config(&self) -> crate::error::Result<TrainConfig> {
        let crops = dinolab_data::augment::MultiCrop {
            global_size: self.global_crops_size,
            global_scale: (self.global_crops_scale.0, self.global_crops_scale.1),
            local_size: self.local_crops_size,
            local_scale: (self.local_crops_scale.0, self.local_crops_scale.1),
            local_views: self.local_crops_number,
            pixels: self.pixels(),
            mean: self.mean.0.clone(),
            std: self.std.0.clone(),
            flip_probability: self.flip_probability,
            jitter_probability: self.jitter_probability,
            brightness: self.brightness,
            contrast: self.contrast,
            saturation: self.saturation,
            hue: self.hue,
            greyscale_probability: self.greyscale_probability,
            blur_probability: self.blur_probability.into(),
            blur_radius: (self.blur_radius.0, self.blur_radius.1),
            blur_side: (self.blur_crop_size > 0).then_some(self.blur_crop_size as f64),
            solarise_probability: self.solarise_probability.into(),
            ..Default::default()
        };
        let half = |size: Size| size.map(|side| (side / 2).next_multiple_of(self.patch_size));
        let early_crops = (self.low_resolution_epochs > 0).then(|| {
            let crops = dinolab_data::augment::MultiCrop {
                global_size: half(crops.global_size),
                local_size: half(crops.local_size),
                ..crops.clone()
            };
            (self.low_resolution_epochs, crops)
        });
        Ok(TrainConfig {
            schedule: dinolab_train::ScheduleConfig {
                epochs: self.epochs,
                steps_per_epoch: 0,
                lr: self.scaled_lr(),
                min_lr: self.min_lr,
                warmup_epochs: self.warmup_epochs,
                weight_decay: self.weight_decay,
                weight_decay_end: self.weight_decay_end,
                freeze_backbone_epochs: self.freeze_backbone_epochs,
            },
            crops,
            early_crops,
            loader: dinolab_data::LoaderConfig {
                batch_size: self.batch_size,
                share: Default::default(),
                workers: self.num_workers,
                read_ahead: self.read_ahead,
                queue: 2 * self.batch_size,
                seed: self.seed,
                max_unusable: self.max_unusable_percent / 100.0,
                cache_bytes: self.cache_mb << 20,
                shuffle_buffer: self.shuffle_buffer,
                scaled_decoding: self.scaled_decoding,
                fixed_crops: self.fixed_crops,
            },
            accumulate: self.accumulate,
            stop_after_epochs: (self.stop_after_epochs > 0.0).then_some(self.stop_after_epochs),
            cadence: Cadence {
                log_every: self.log_every,
                evaluate_every: self.eval_every,
                checkpoint_every: self.checkpoint_every,
                checkpoint_every_steps: self.checkpoint_every_steps,
            },
            keep_every: self.saveckp_freq,
            initial: None,
            config: toml::to_string(self)?,
            metadata: self.preprocess().metadata(),
        })
    }

    /// The method, with its networks on `device`.
    ///
    /// # Errors
    /// Sizes that make no network; a precision that the device does not compute in.
    pub fn method(&self, device: &Device) -> crate::error::Result<Box<dyn Method>> {
        Ok(match self.method {
            MethodKind::Dino => Box::new(Dino::new(&self.dino(), device)?),
            MethodKind::SimDino => Box::new(SimDino::new(&self.simdino(), device)?),
            MethodKind::DinoV2 => Box::new(DinoV2::new(&self.dinov2(), device)?),
            MethodKind::Distill => {
                Box::new(Distill::new(&self.distill(), self.teacher()?, device)?)
            }
            MethodKind::LeJepa => {
                let objective = LeJepaObjective {
                    sigreg_weight: self.sigreg_weight,
                };
                Box::new(LeJepa::new(&self.joint_embedding(objective), device)?)
            }
            MethodKind::VisReg => {
                let objective = VisRegObjective {
                    visreg_weight: self.visreg_weight,
                };
                Box::new(VisReg::new(&self.joint_embedding(objective), device)?)
            }
        })
    }

    /// The backbone.
    pub(crate) fn backbone(&self) -> BackboneConfig {
        if let Some(network) = BackboneConfig::convolutional(&self.arch, self.in_chans) {
            // Other widths are refused where settings are resolved; in a file that was changed by hand, its
            // weights do not fit the published ones.
            return network.clone().of_width(self.width).unwrap_or(network);
        }
        let vit = VitConfig {
            image_size: self.image_size,
            patch_size: self.patch_size,
            channels: self.in_chans,
            width: self.width,
            depth: self.depth,
            heads: self.heads,
            conv_stem: self.stem == StemKind::Conv,
            registers: self.registers,
            layer_scale: self.layer_scale,
            gated_mlp: self.ffn == FfnKind::SwiGlu,
            mlp_width: match (self.ffn_width, self.ffn) {
                (0, FfnKind::SwiGlu) => VitConfig::gated_width(self.width),
                (width, _) => width,
            },
            position_rule: self.position_rule,
            rope: (self.positions == PositionKind::Rope).then_some(Rope {
                theta: self.rope_theta,
                shift: self.rope_shift,
                jitter: self.rope_jitter,
                rescale: self.rope_rescale,
            }),
            layer_norm_eps: self.layer_norm_eps,
            ..Default::default()
        };
        vit.into()
    }

    fn dino(&self) -> DinoConfig {
        DinoConfig {
            backbone: self.backbone(),
            feature: self.feature,
            head: self.prototype_head(self.out_dim),
            optimizer: self.optimizer,
            clip_grad: self.clip_grad,
            adapt: self.adapt(),
            freeze_last_layer: self.freeze_last_layer,
            student_temp: self.student_temp,
            centering: self.centering.into(),
            center_momentum: self.center_momentum,
            koleo_weight: self.koleo_weight,
            sigreg_weight: self.sigreg_weight,
            sigreg_directions: self.directions,
            schedule: self.teacher_schedule(),
            average: self.average(),
            drop_path: self.drop_path_rate,
            patch_drop: self.patch_drop_rate,
            seed: self.seed,
            precision: self.precision,
        }
    }

    fn adapt(&self) -> AdaptConfig {
        AdaptConfig {
            layer_decay: self.layer_decay,
            patch_embed_lr_scale: self.patch_embed_lr_scale,
            preserve: self.preserve,
            lora: (self.lora_rank > 0).then_some(LoraConfig {
                rank: self.lora_rank,
                alpha: self.lora_alpha,
            }),
        }
    }

    fn dinov2(&self) -> DinoV2Config {
        let ibot = IbotConfig {
            weight: self.ibot_weight,
            head: match self.ibot_head {
                IbotHeadKind::Apart => {
                    PatchHeadConfig::Apart(self.prototype_head(self.ibot_out_dim))
                }
                IbotHeadKind::Shared => PatchHeadConfig::Shared,
            },
            masks: MaskConfig {
                probability: self.mask_sample_probability,
                ratio: (self.mask_ratio.0, self.mask_ratio.1),
            },
        };
        DinoV2Config {
            backbone: self.backbone(),
            head: self.prototype_head(self.out_dim),
            ibot: (self.ibot_weight > 0.0).then_some(ibot),
            optimizer: self.optimizer,
            clip_grad: self.clip_grad,
            adapt: self.adapt(),
            freeze_last_layer: self.freeze_last_layer,
            student_temp: self.student_temp,
            centering: self.centering.into(),
            center_momentum: self.center_momentum,
            koleo_weight: self.koleo_weight,
            schedule: self.teacher_schedule(),
            average: self.average(),
            drop_path: self.drop_path_rate,
            seed: self.seed,
            precision: self.precision,
        }
    }

    fn distill(&self) -> DistillConfig {
        DistillConfig {
            backbone: self.backbone(),
            feature: self.feature,
            head_hidden_dim: self.head_hidden_dim,
            head_layers: self.head_layers,
            feature_weight: self.teacher_feature_weight,
            patch_weight: self.teacher_patch_weight,
            repeated_crops: self.fixed_crops > 0,
            optimizer: self.optimizer,
            clip_grad: self.clip_grad,
            adapt: self.adapt(),
            average: self.average_schedule(),
            drop_path: self.drop_path_rate,
            seed: self.seed,
            precision: self.precision,
        }
    }

    /// A head with `out_dim` prototypes.
    fn prototype_head(&self, out_dim: usize) -> HeadConfig {
        HeadConfig {
            out_dim,
            hidden_dim: self.head_hidden_dim,
            bottleneck_dim: self.head_bottleneck_dim,
            layers: self.head_layers,
            use_bn: self.use_bn_in_head,
            norm_last_layer: self.norm_last_layer,
        }
    }

    /// Momentum and temperature of a teacher with prototypes.
    fn teacher_schedule(&self) -> DinoSchedule {
        DinoSchedule {
            momentum_teacher: self.momentum_teacher,
            momentum_teacher_end: self.momentum_teacher_end,
            warmup_teacher_temp: self.warmup_teacher_temp,
            teacher_temp: self.teacher_temp,
            warmup_teacher_temp_epochs: self.warmup_teacher_temp_epochs,
        }
    }

    /// The average that is evaluated in place of a teacher.
    fn average(&self) -> Option<AverageSchedule> {
        (self.evaluated == EvaluatedKind::Average).then(|| self.average_schedule())
    }

    fn average_schedule(&self) -> AverageSchedule {
        AverageSchedule {
            momentum: self.average_momentum,
            momentum_end: self.average_momentum_end,
        }
    }

    fn simdino(&self) -> SimDinoConfig {
        SimDinoConfig {
            backbone: self.backbone(),
            feature: self.feature,
            head: BottleneckConfig {
                hidden_dim: self.head_hidden_dim,
                out_dim: self.head_bottleneck_dim,
                layers: self.head_layers,
            },
            optimizer: self.optimizer,
            clip_grad: self.clip_grad,
            adapt: self.adapt(),
            coding_rate_weight: self.coding_rate_weight,
            coding_rate_epsilon: self.coding_rate_epsilon,
            momentum_teacher: self.momentum_teacher,
            momentum_teacher_end: self.momentum_teacher_end,
            average: self.average(),
            drop_path: self.drop_path_rate,
            patch_drop: self.patch_drop_rate,
            seed: self.seed,
            precision: self.precision,
        }
    }

    fn joint_embedding<O>(&self, objective: O) -> JointEmbeddingConfig<O> {
        JointEmbeddingConfig {
            backbone: self.backbone(),
            feature: self.feature,
            head: ProjectionConfig {
                hidden_dim: self.head_hidden_dim,
                out_dim: self.proj_dim,
                layers: self.head_layers,
            },
            optimizer: self.optimizer,
            clip_grad: self.clip_grad,
            adapt: self.adapt(),
            objective,
            directions: self.directions,
            average_momentum: self.average_momentum,
            average_momentum_end: self.average_momentum_end,
            drop_path: self.drop_path_rate,
            patch_drop: self.patch_drop_rate,
            seed: self.seed,
            precision: self.precision,
        }
    }

    /// How images become features.
    pub fn preprocess(&self) -> dinolab_features::Preprocess {
        dinolab_features::Preprocess {
            resize: self.eval_resize,
            crop: self.eval_crop,
            mean: self.mean.0.clone(),
            std: self.std.0.clone(),
            stored: self.pixels == PixelKind::Stored,
        }
    }
}
