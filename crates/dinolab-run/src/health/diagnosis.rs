//! From figures to plain words.

mod collapse;
mod context;
mod divergence;
mod failure_mode;
mod implementation;
mod limit;

pub use self::context::{Context, TeacherContext};
pub use self::failure_mode::{FailureMode, Warning};
use super::Health;
use super::remedy::Remedy;

/// Compares an epoch with those before it (`history`, oldest first, without `health`) and
/// returns what is wrong, gravest first; nothing for a healthy run.
///
/// Outputs and features are checked only after warm-up, two epochs and 200 steps, and only if
/// the epoch before looked the same; a loss that is not finite is reported at once.
pub fn diagnose(health: &Health, history: &[Health], context: &Context) -> Vec<Warning> {
    let case = Case {
        now: health,
        history,
        context,
        ln_k: health.max_entropy(),
    };
    let settled = case.settled();
    let mut warnings = case.mistakes();
    warnings.extend(case.divergence());
    if settled && context.images > 1 {
        let output = case.uniform_output().or_else(|| case.constant_output());
        let output = output.or_else(|| case.loss_alone());
        warnings.extend(output);
        warnings.extend(case.embedding_collapse());
        warnings.extend(case.patch_collapse());
        warnings.extend(case.feature_collapse());
    }
    if settled {
        warnings.extend(case.student_not_following());
    }
    for warning in &mut warnings {
        if warning.remedies.is_empty() {
            // Every setting that could matter is at its end already.
            warning.remedies.push(Remedy::CheckImages);
        }
    }
    warnings
}

struct Case<'a> {
    now: &'a Health,
    history: &'a [Health],
    context: &'a Context,
    ln_k: f64,
}

impl Case<'_> {
    fn settled(&self) -> bool {
        let earlier: u64 = self.history.iter().map(|h| h.steps).sum();
        self.now.epoch >= limit::GRACE_EPOCHS.max(self.context.warmup_epochs.ceil() as usize)
            && earlier + self.now.steps >= limit::GRACE_STEPS
    }

    /// Holds now and held in the epoch before.
    fn persists(&self, test: impl Fn(&Health) -> bool) -> bool {
        test(self.now) && self.history.last().is_some_and(test)
    }

    /// By how much a figure rose over the last epochs, if it rose in each of them while the
    /// teacher's temperature stood still (a warmer teacher raises the loss by itself).
    fn steady_rise(&self, figure: impl Fn(&Health) -> Option<f64>) -> Option<f64> {
        let before = self.history.len().checked_sub(limit::RISES)?;
        let recent: Vec<&Health> = self.history[before..].iter().chain([self.now]).collect();
        let values = recent
            .iter()
            .map(|h| figure(h))
            .collect::<Option<Vec<_>>>()?;
        let temps: Vec<f64> = recent.iter().filter_map(|h| h.teacher_temp).collect();
        let warming = temps.windows(2).any(|t| t[1] > t[0] * 1.001);
        let rising = values.windows(2).all(|v| v[1] > v[0]);
        (rising && !warming).then(|| values[limit::RISES] - values[0])
    }

    /// What rises of the loss are measured by: ln K, or without prototypes the first epoch's loss.
    fn loss_scale(&self) -> f64 {
        match self.now.out_dim {
            0 => self
                .history
                .first()
                .and_then(|first| first.loss)
                .map_or(f64::INFINITY, f64::abs),
            _ => self.ln_k,
        }
    }
}
