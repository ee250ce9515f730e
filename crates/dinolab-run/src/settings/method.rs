//! Which settings belong to which method.

use super::{Config, Settings};
use crate::error::{Error, Result};
use crate::values::{EvaluatedKind, MethodKind};

impl Config {
    /// Whether the evaluated backbone is an average apart from a teacher.
    pub(crate) fn averages(&self) -> bool {
        !self.method.teaches() || self.evaluated == EvaluatedKind::Average
    }
}

impl MethodKind {
    /// Whether it has a teacher.
    pub(super) fn teaches(self) -> bool {
        matches!(self, Self::Dino | Self::SimDino | Self::DinoV2)
    }

    /// Whether its outputs are over prototypes.
    pub fn has_prototypes(self) -> bool {
        matches!(self, Self::Dino | Self::DinoV2)
    }

    /// Whether views are embedded near one another, without prototypes or another network's targets.
    pub(super) fn is_joint_embedding(self) -> bool {
        matches!(self, Self::LeJepa | Self::VisReg)
    }

    /// Whether the method has a setting, by its name in a [`Config`](super::Config).
    pub(super) fn has(self, name: &str) -> bool {
        Settings::methods(name).is_none_or(|methods| methods.contains(&self))
    }
}

impl Settings {
    /// The settings of a run from before there was a choice of methods, with its method: DINO. Such a
    /// configuration is complete, and so it has settings of DINO.
    pub(crate) fn with_method_of_before(mut self) -> Self {
        if self.student_temp.is_some() {
            self.method.get_or_insert(MethodKind::Dino);
        }
        self
    }

    /// Refuses settings that belong to other methods than `method`.
    ///
    /// # Errors
    /// [`Error::BadSetting`] names the first one.
    pub(crate) fn check_method(&self, method: MethodKind) -> Result<()> {
        for name in self.given() {
            if !method.has(name) {
                let owners = Settings::methods(name).unwrap_or_default();
                let owners: Vec<String> = owners.iter().map(ToString::to_string).collect();
                let (setting, owner) = (name.replace('_', "-"), owners.first());
                let reason = format!(
                    "`{setting}` belongs to {}; leave it out or give `method` {}",
                    owners.join(" and "),
                    owner.map_or("", String::as_str)
                );
                return Err(Error::setting("method", method, reason));
            }
        }
        let momentum = self.average_momentum.or(self.average_momentum_end);
        if let (true, Some(momentum)) = (method.teaches(), momentum)
            && self.evaluated != Some(EvaluatedKind::Average)
        {
            let reason =
                "is that of an average, and the teacher is evaluated; give `evaluated` average";
            return Err(Error::setting("average-momentum", momentum, reason));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_of_another_method_are_refused_by_name() {
        let settings = Settings {
            teacher_temp: Some(0.04),
            lr: Some(0.1),
            ..Settings::default()
        };
        assert!(settings.check_method(MethodKind::Dino).is_ok());
        let refused = settings.check_method(MethodKind::LeJepa).unwrap_err();
        let error = refused.to_string();
        assert!(error.contains("`teacher-temp` belongs to dino"), "{error}");
        let shared = Settings {
            proj_dim: Some(8),
            ..Settings::default()
        };
        assert!(shared.check_method(MethodKind::LeJepa).is_ok());
        assert!(shared.check_method(MethodKind::VisReg).is_ok());
        let refused = shared.check_method(MethodKind::Dino).unwrap_err();
        let error = refused.to_string();
        assert!(
            error.contains("`proj-dim` belongs to lejepa and visreg"),
            "{error}"
        );
        assert!(
            !MethodKind::VisReg.has("sigreg_weight") && MethodKind::LeJepa.has("sigreg_weight")
        );
        assert!(MethodKind::Dino.has("lr") && MethodKind::VisReg.has("head_layers"));
    }

    #[test]
    fn an_average_beside_a_teacher_is_asked_for() {
        let momentum = Settings {
            average_momentum: Some(0.9),
            ..Settings::default()
        };
        let error = momentum.check_method(MethodKind::Dino).unwrap_err();
        assert!(
            error.to_string().contains("give `evaluated` average"),
            "{error}"
        );
        assert!(momentum.check_method(MethodKind::LeJepa).is_ok());
        let asked = Settings {
            evaluated: Some(EvaluatedKind::Average),
            ..momentum
        };
        assert!(asked.check_method(MethodKind::SimDino).is_ok());
        let text = |settings: Settings| toml::to_string(&settings.resolve(100).unwrap().0).unwrap();
        assert!(text(asked).contains("average-momentum = 0.9"));
        assert!(!text(Settings::default()).contains("average"));
    }

    #[test]
    fn runs_of_before_are_dinos() {
        let (config, _) = Settings::default().resolve(100).unwrap();
        let text = toml::to_string(&config).unwrap();
        let without = text.replace("method = \"dino\"\n", "");
        assert_ne!(text, without);
        let before: Settings = toml::from_str(&without).unwrap();
        assert_eq!(before.method, None);
        // Without the choice that there was not, the built-in shapes would be another method's.
        let images = crate::settings::recipe::ImageFacts::count(100);
        let shapes = before.clone().with_method_of_before();
        let shapes = shapes.over_recipe(crate::values::RecipeKind::Shapes, images, None);
        assert_eq!(shapes.method, Some(MethodKind::Dino));
        let read: super::super::Config = toml::from_str(&without).unwrap();
        assert!(read.differences(&config).is_empty());
        let by_hand = Settings {
            lr: Some(0.1),
            ..Settings::default()
        };
        assert_eq!(by_hand.with_method_of_before().method, None);
    }

    #[test]
    fn directions_had_the_name_of_lejepas() {
        let read: Settings = toml::from_str("sigreg-directions = 32").unwrap();
        assert_eq!(read.directions, Some(32));
    }

    #[test]
    fn a_configuration_has_its_own_method_and_no_other() {
        for (method, own, other) in [
            (MethodKind::Dino, "teacher-temp", "proj-dim"),
            (MethodKind::LeJepa, "sigreg-weight", "teacher-temp"),
            (MethodKind::VisReg, "visreg-weight", "sigreg-weight"),
            (MethodKind::SimDino, "coding-rate-weight", "teacher-temp"),
            (MethodKind::DinoV2, "ibot-out-dim", "use-bn-in-head"),
            (MethodKind::Distill, "teacher-patch-weight", "proj-dim"),
        ] {
            let settings = Settings {
                method: Some(method),
                ..Settings::default()
            };
            for images in [100, 1_000_000] {
                let (config, _) = settings.clone().resolve(images).unwrap();
                let text = toml::to_string(&config).unwrap();
                assert!(text.contains(own) && !text.contains(other), "{text}");
                let read: super::super::Config = toml::from_str(&text).unwrap();
                assert!(read.differences(&config).is_empty());
                assert_eq!(toml::to_string(&read).unwrap(), text);
            }
        }
    }
}
