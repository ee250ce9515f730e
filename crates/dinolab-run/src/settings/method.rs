//! Which settings belong to which method.

use super::Settings;
use crate::error::{Error, Result};
use crate::values::MethodKind;

/// The method that alone has a setting, by its name in a [`Config`](super::Config); `None` for a
/// setting of all.
pub(super) fn owner(name: &str) -> Option<MethodKind> {
    // DINO may have SIGReg as well.
    if matches!(name, "sigreg_weight" | "sigreg_directions") {
        return None;
    }
    match Settings::group(name)? {
        "DINO" => Some(MethodKind::Dino),
        "LeJEPA" => Some(MethodKind::LeJepa),
        _ => None,
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

    /// Refuses settings that belong to another method than `method`.
    ///
    /// # Errors
    /// [`Error::BadSetting`] names the first one.
    pub(crate) fn check_method(&self, method: MethodKind) -> Result<()> {
        for name in self.given() {
            if let Some(owner) = owner(name).filter(|owner| *owner != method) {
                let setting = name.replace('_', "-");
                let reason = format!("{setting} belongs to {owner}; {method} has no such setting");
                return Err(Error::setting("method", method, reason));
            }
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
        assert!(error.contains("teacher-temp belongs to dino"), "{error}");
        assert_eq!(owner("sigreg_weight"), Some(MethodKind::LeJepa));
        assert_eq!((owner("lr"), owner("head_layers")), (None, None));
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
        let shapes = before.clone().with_method_of_before().over_shapes();
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
    fn a_configuration_has_its_own_method_and_no_other() {
        for (method, own, other) in [
            (MethodKind::Dino, "teacher-temp", "sigreg-weight"),
            (MethodKind::LeJepa, "sigreg-weight", "teacher-temp"),
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
