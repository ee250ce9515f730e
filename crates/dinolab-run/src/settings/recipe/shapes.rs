//! The recipe of the built-in shapes: small enough to learn in minutes on two cores.

use dinolab_data::Size;
use dinolab_train::OptimiserKind;

use crate::settings::Settings;
use crate::values::MethodKind;

impl Settings {
    /// These settings over the recipe of the built-in shapes.
    pub(super) fn over_shapes(self) -> Self {
        let named = self.names_network();
        let size = |size: usize| (!named).then_some(size);
        let method = self.method.unwrap_or(MethodKind::LeJepa);
        let optimizer = self.optimizer.unwrap_or(OptimiserKind::Muon);
        let of_method = match method {
            MethodKind::Dino | MethodKind::DinoV2 => Self {
                out_dim: Some(512),
                head_bottleneck_dim: Some(128),
                teacher_temp: Some(0.02),
                batch_size: Some(16),
                lr: Some(0.003),
                weight_decay_end: Some(0.04),
                epochs: Some(6.5),
                attention_size: Some(Size::square(64)),
                ..Self::default()
            },
            MethodKind::Distill => Self {
                batch_size: Some(32),
                lr: Some(0.008),
                weight_decay: Some(0.05),
                weight_decay_end: Some(0.05),
                local_crops_number: Some(0),
                epochs: Some(9.0),
                attention_size: Some(Size::square(128)),
                ..Self::default()
            },
            MethodKind::SimDino => Self {
                batch_size: Some(32),
                lr: Some(0.003),
                weight_decay_end: Some(0.04),
                epochs: Some(10.0),
                attention_size: Some(Size::square(64)),
                ..Self::default()
            },
            MethodKind::LeJepa | MethodKind::VisReg => Self {
                optimizer: Some(optimizer),
                batch_size: Some(32),
                // Three times AdamW's, as in the recipe `small`.
                lr: Some(match optimizer {
                    OptimiserKind::Muon => 0.024,
                    _ => 0.008,
                }),
                weight_decay: Some(0.05),
                weight_decay_end: Some(0.05),
                epochs: Some(9.0),
                attention_size: Some(Size::square(128)),
                ..Self::default()
            },
        };
        self.over(of_method).over(Self {
            method: Some(method),
            arch: Some("custom".into()),
            patch_size: Some(8),
            width: size(128),
            depth: size(4),
            heads: size(4),
            drop_path_rate: Some(0.0),
            head_hidden_dim: Some(512),
            warmup_epochs: Some(1.0),
            global_crops_size: Some(Size::square(48)),
            local_crops_size: Some(Size::square(24)),
            local_crops_number: Some(8),
            eval_every: Some(2),
            eval_resize: Some(Size::square(56)),
            ..Self::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn named_networks_keep_their_sizes() {
        let resolved = |arch: Option<&str>| {
            let arch = arch.map(str::to_owned);
            let asked = Settings {
                arch,
                ..Settings::default()
            };
            let (config, _) = asked.over_shapes().resolve(4096).unwrap();
            (config.width, config.depth, config.heads, config.patch_size)
        };
        assert_eq!(resolved(None), (128, 4, 4, 8));
        assert_eq!(resolved(Some("custom")), (128, 4, 4, 8));
        assert_eq!(resolved(Some("vit_tiny")), (192, 12, 3, 8));
    }

    #[test]
    fn joint_embedding_is_by_muon_at_a_rate_of_its_own() {
        let resolved = |method, optimizer| {
            let asked = Settings {
                method,
                optimizer,
                ..Settings::default()
            };
            let (config, _) = asked.over_shapes().resolve(4096).unwrap();
            (config.optimizer, config.lr)
        };
        let adamw = OptimiserKind::AdamW;
        for method in [None, Some(MethodKind::LeJepa), Some(MethodKind::VisReg)] {
            assert_eq!(resolved(method, None), (OptimiserKind::Muon, 0.024));
            assert_eq!(resolved(method, Some(adamw)), (adamw, 0.008));
        }
        assert_eq!(resolved(Some(MethodKind::Dino), None), (adamw, 0.003));
    }
}
