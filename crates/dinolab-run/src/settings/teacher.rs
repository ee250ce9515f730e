//! The network that a run distils.

use dinolab_train::{FrozenTeacher, Normalised};

use super::Config;
use crate::environment::Environment;
use crate::error::{Context, Error, Result};
use crate::model::{Model, ModelOptions};
use crate::values::MethodKind;

impl Config {
    /// The teacher of distillation. Weights of the hub are in the cache when a configuration names them.
    ///
    /// # Errors
    /// Weights that are not given, cannot be read or do not fit.
    pub(super) fn teacher(&self) -> Result<FrozenTeacher> {
        let path = &self.teacher_weights;
        if path.as_os_str().is_empty() {
            let reason = "needs `teacher-weights`, the network to learn from";
            return Err(Error::setting("method", MethodKind::Distill, reason));
        }
        let model = Model::load(&Environment::default(), path, &ModelOptions::default())
            .of_setting("teacher-weights", path.display())?;
        let own = Normalised {
            mean: model.preprocess.mean,
            std: model.preprocess.std,
        };
        let students = Normalised {
            mean: self.mean.0.clone(),
            std: self.std.0.clone(),
        };
        Ok(FrozenTeacher {
            size: self.teacher_size,
            normalisation: (own != students).then_some([own, students]),
            ..FrozenTeacher::new(model.backbone, model.feature)
        })
    }
}
