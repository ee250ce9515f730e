//! What DINO has on a schedule of its own (paper, section 3.2; the reference's formulas).

use crate::StepHyperparams;

/// Teacher momentum and teacher temperature.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct DinoSchedule {
    /// Teacher momentum at the start.
    pub momentum_teacher: f64,
    /// Teacher momentum at the end of a cosine schedule; the paper's is 1.
    #[serde(default = "one")]
    pub momentum_teacher_end: f64,
    /// Teacher temperature at the start.
    pub warmup_teacher_temp: f64,
    /// Teacher temperature after its warm-up.
    pub teacher_temp: f64,
    /// Length of the teacher temperature's warm-up, in whole epochs.
    pub warmup_teacher_temp_epochs: u64,
}

/// The reference's settings.
impl Default for DinoSchedule {
    fn default() -> Self {
        Self {
            momentum_teacher: 0.996,
            momentum_teacher_end: one(),
            warmup_teacher_temp: 0.04,
            teacher_temp: 0.04,
            warmup_teacher_temp_epochs: 0,
        }
    }
}

impl DinoSchedule {
    /// Momentum `m` and temperature `T_t` of a step.
    pub fn at(&self, hp: &StepHyperparams) -> (f64, f64) {
        let warm = self.warmup_teacher_temp_epochs;
        let teacher_temp = if hp.epoch >= warm {
            self.teacher_temp
        } else {
            let part = hp.epoch as f64 / (warm - 1).max(1) as f64;
            self.warmup_teacher_temp + (self.teacher_temp - self.warmup_teacher_temp) * part
        };
        let momentum = hp.cosine(self.momentum_teacher, self.momentum_teacher_end);
        (momentum, teacher_temp)
    }
}

fn one() -> f64 {
    1.0
}
