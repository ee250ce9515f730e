//! Runs that diverge, by their loss and gradients or from their teacher.

use super::{Case, FailureMode, Warning, limit};
use crate::health::Health;
use crate::health::remedy::{Remedy, each, short};

impl Case<'_> {
    pub(super) fn divergence(&self) -> Option<Warning> {
        let now = self.now;
        let seen = if now.non_finite_steps > 0 {
            format!(
                "{} of {} steps had a loss or gradient that was not a number.",
                now.non_finite_steps, now.steps
            )
        } else if now.non_finite_rows > 0 {
            format!(
                "{} sampled output rows held values that are not numbers.",
                now.non_finite_rows
            )
        } else if let Some(loss) = now
            .cross_entropy()
            .filter(|_| self.settled() && now.out_dim > 0)
            .filter(|&l| l > limit::WORSE_THAN_GUESSING * self.ln_k.max(1.0))
        {
            format!(
                "The loss is {loss:.3}, above the {:.3} (ln K) of plain guessing.",
                self.ln_k
            )
        } else if let Some(rise) = self
            .steady_rise(Health::cross_entropy)
            // A teacher that sharpens raises the excess, but then the loss itself falls.
            .and_then(|_| self.steady_rise(Health::excess))
            .filter(|&rise| self.settled() && rise > limit::LOSS_RISE * self.loss_scale())
        {
            let beyond = match now.out_dim {
                0 => "",
                _ => ", beyond what the teacher's entropy accounts for",
            };
            format!(
                "The loss rose by {rise:.3} over the last {} epochs, to {:.3}{beyond}.",
                limit::RISES,
                now.cross_entropy().unwrap_or_default()
            )
        } else if let Some((norm, usual)) = self.exploding_gradient() {
            format!(
                "The gradient norm is {} on average; in earlier epochs it was {}.",
                short(norm),
                short(usual)
            )
        } else {
            return None;
        };
        let mut remedies = each(
            Remedy::Resume,
            [self.context.lower_lr(), self.context.harder_clip()],
        );
        remedies.extend(each(Remedy::NewRun, [self.context.longer_warmup()]));
        let reduced = self.context.reduced_precision;
        remedies.extend(reduced.then_some(Remedy::FullPrecision));
        Some(Warning {
            failure: FailureMode::Divergence,
            seen,
            meaning: "Training is diverging: the update steps are too large.".into(),
            remedies,
        })
    }

    fn exploding_gradient(&self) -> Option<(f64, f64)> {
        // Those of the head alone are no measure.
        let whole = |h: &&Health| h.epoch as f64 >= self.context.freeze_backbone_epochs;
        let earlier = self.history.iter().filter(whole);
        let mut earlier: Vec<f64> = earlier.filter_map(|h| h.grad_norm).collect();
        if earlier.len() < 2 {
            return None;
        }
        earlier.sort_by(f64::total_cmp);
        let usual = earlier[earlier.len() / 2];
        let norm = self.now.grad_norm?;
        (norm > limit::GRADIENT_RISE * usual && usual > 0.0).then_some((norm, usual))
    }

    pub(super) fn student_not_following(&self) -> Option<Warning> {
        let kl = self.now.kl.filter(|&kl| kl > limit::KL * self.ln_k)?;
        // A teacher that sharpens also raises it, but then the loss falls.
        let rise = self.steady_rise(|h| h.kl)?;
        let earlier = self.history[self.history.len() - limit::RISES].loss;
        if earlier
            .zip(self.now.loss)
            .is_some_and(|(then, now)| now < then)
        {
            return None;
        }
        Some(Warning {
            failure: FailureMode::StudentNotFollowing,
            seen: format!(
                "The student's output is {kl:.3} nats from the teacher's, {rise:.3} more than \
                 {} epochs ago, and the loss does not fall.",
                limit::RISES
            ),
            meaning: "The student cannot follow its teacher, which changes or sharpens too \
                      fast."
                .into(),
            remedies: each(
                Remedy::Resume,
                [
                    self.context.slower_teacher(),
                    self.context.warmer_teacher(),
                    self.context.lower_lr(),
                ],
            ),
        })
    }
}
