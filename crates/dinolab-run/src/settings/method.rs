//! Which settings belong to which method.

use super::Settings;
use crate::error::{Error, Result};
use crate::values::MethodKind;

/// Settings that one method alone has, as they are given.
const OWNED: &[(&str, MethodKind)] = &[
    ("out-dim", MethodKind::Dino),
    ("norm-last-layer", MethodKind::Dino),
    ("use-bn-in-head", MethodKind::Dino),
    ("head-bottleneck-dim", MethodKind::Dino),
    ("momentum-teacher", MethodKind::Dino),
    ("teacher-temp", MethodKind::Dino),
    ("warmup-teacher-temp", MethodKind::Dino),
    ("warmup-teacher-temp-epochs", MethodKind::Dino),
    ("student-temp", MethodKind::Dino),
    ("center-momentum", MethodKind::Dino),
    ("freeze-last-layer", MethodKind::Dino),
    ("proj-dim", MethodKind::LeJepa),
    ("sigreg-weight", MethodKind::LeJepa),
    ("sigreg-directions", MethodKind::LeJepa),
    ("average-momentum", MethodKind::LeJepa),
    ("average-momentum-end", MethodKind::LeJepa),
];

/// The entry of a setting, by its name in a [`Config`](super::Config); `None` for a setting that all
/// methods have.
fn owned(name: &str) -> Option<&'static (&'static str, MethodKind)> {
    let same = |setting: &str| setting.split('-').eq(name.split('_'));
    OWNED.iter().find(|(setting, _)| same(setting))
}

/// The method that alone has a setting, by its name in a [`Config`](super::Config); `None` for a
/// setting of all.
pub(super) fn owner(name: &str) -> Option<MethodKind> {
    owned(name).map(|(_, owner)| *owner)
}

impl Settings {
    /// Refuses settings that belong to another method than `method`.
    ///
    /// # Errors
    /// [`Error::BadSetting`] names the first one.
    pub(crate) fn check_method(&self, method: MethodKind) -> Result<()> {
        let given = self.given();
        let mut foreign = given.into_iter().filter_map(owned);
        match foreign.find(|(_, owner)| *owner != method) {
            None => Ok(()),
            Some((setting, owner)) => {
                let reason = format!("belongs to `method` {owner}; {method} has no such setting");
                Err(Error::setting(setting, "", reason))
            }
        }
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
        let error = settings
            .check_method(MethodKind::LeJepa)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("teacher-temp") && error.contains("dino"),
            "{error}"
        );
    }

    #[test]
    fn every_setting_of_a_method_exists() {
        for (setting, _) in OWNED {
            let value = match *setting {
                "norm-last-layer" | "use-bn-in-head" => "true",
                _ => "1",
            };
            let read: Settings = toml::from_str(&format!("{setting} = {value}")).unwrap();
            assert_eq!(read.given(), [setting.replace('-', "_")]);
        }
    }
}
