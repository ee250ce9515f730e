//! What DINO has on a schedule of its own (paper, section 3.2; the reference's formulas).

use crate::StepHyperparams;

/// Teacher momentum and teacher temperature.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct DinoSchedule {
    /// Teacher momentum at the start; it rises to 1 on a cosine schedule.
    pub momentum_teacher: f64,
    /// Teacher temperature at the start.
    pub warmup_teacher_temp: f64,
    /// Teacher temperature after its warm-up.
    pub teacher_temp: f64,
    /// Length of the teacher temperature's warm-up, in whole epochs.
    pub warmup_teacher_temp_epochs: u64,
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
        (hp.cosine(self.momentum_teacher, 1.0), teacher_temp)
    }
}
