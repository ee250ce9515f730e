//! Mistakes of an implementation, which no setting mends.
//!
//! They show in figures whose right values are known ([`super::super::Invariants`]), so most need no
//! warm-up to be told from an unsettled run.

use super::{Case, FailureMode, Warning};
use crate::health::remedy::{Remedy, short};

/// Limits, with their reasons.
mod limit {
    /// Student and teacher with the same weights are at exactly 0.
    pub const DISTANCE: f64 = 1e-6;
    /// A moving average is exact but for rounding, of bf16 at worst.
    pub const TEACHER_STEP: f64 = 0.05;
    /// A teacher of momentum 0.5 is a whole step behind.
    pub const TEACHER_LAG: f64 = 0.5;
    /// What pixels of 0 to 1 can be after ImageNet's normalisation, and a margin.
    pub const PIXELS: [f64; 2] = [-2.2, 2.75];
    /// Share of the cross entropy by which rounding may part the loss from it.
    pub const LOSS: f64 = 0.001;
    /// How much nearer to another formula a loss has to be to be called that.
    pub const NEARER: f64 = 0.5;
    /// A centre follows logits that differ: it is never this short.
    pub const CENTRE: f64 = 1e-6;
    /// Outputs for each prototype at which nearly all of them would be some image's, ten times over.
    pub const ROWS_PER_PROTOTYPE: u64 = 64;
    /// Share of the prototypes in use at which there is none left for what is still to be told apart.
    pub const ALL_IN_USE: f64 = 0.7;
}

impl Case<'_> {
    /// What the code does wrong, the causes of others first.
    pub(super) fn mistakes(&self) -> Vec<Warning> {
        [
            self.pixel_range(),
            self.different_initial_weights(),
            self.teacher_trained(),
            self.teacher_copies_student(),
            self.wrong_loss(),
            self.no_centring(),
            self.no_sharpening(),
            self.too_few_prototypes(),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    fn pixel_range(&self) -> Option<Warning> {
        let seen = &self.now.invariants;
        let (least, greatest) = (seen.pixel_min?, seen.pixel_max?);
        let [low, high] = limit::PIXELS;
        if least >= low && greatest <= high {
            return None;
        }
        Some(mistake(
            FailureMode::PixelRange,
            format!(
                "The networks see values from {} to {}; normalised once, pixels are between -2.12 \
                 and 2.64.",
                short(least),
                short(greatest)
            ),
            "Crops are normalised twice, or their pixels were not between 0 and 1 before.",
            "normalise crops once, after the last change of colour",
        ))
    }

    fn different_initial_weights(&self) -> Option<Warning> {
        let distance = self.now.invariants.initial_distance?;
        (distance > limit::DISTANCE).then(|| {
            mistake(
                FailureMode::DifferentInitialWeights,
                format!(
                    "Before the first step, student and teacher were {} apart, as a share of the \
                     student's weights.",
                    short(distance)
                ),
                "The teacher starts as another network: its targets are those of random weights that \
                 the student never had, and it learns them first.",
                "load the student's weights into the teacher before the first step",
            )
        })
    }

    fn teacher_trained(&self) -> Option<Warning> {
        let step = self.now.invariants.teacher_step?;
        ((step - 1.0).abs() > limit::TEACHER_STEP).then(|| {
            mistake(
                FailureMode::TeacherTrained,
                format!(
                    "In a step, the teacher changes by {} times what its moving average does.",
                    short(step)
                ),
                "Something else changes the teacher's weights: gradients reach it through its targets, \
                 and make them easy to match instead of the student better.",
                "compute the targets without gradients and give the optimiser the student's weights only",
            )
        })
    }

    fn teacher_copies_student(&self) -> Option<Warning> {
        let lag = self.now.invariants.teacher_lag?;
        (lag < limit::TEACHER_LAG).then(|| {
            mistake(
                FailureMode::TeacherCopiesStudent,
                format!(
                    "The teacher is {} steps of the student behind it.",
                    short(lag)
                ),
                "The teacher is no average over many steps but the student itself: there is nothing \
                 better to learn from.",
                "take the teacher's momentum from its own schedule, 0.996 to 1, and not 1 minus it",
            )
        })
    }

    /// Which formula the loss follows, if it is not the cross entropy of the outputs.
    fn wrong_loss(&self) -> Option<Warning> {
        let seen = &self.now.invariants;
        let (loss, right) = (seen.measured_loss?, seen.cross_entropy?);
        let error = (loss - right).abs();
        if error <= limit::LOSS * right.abs() {
            return None;
        }
        let candidates = [
            (FailureMode::SameView, seen.cross_entropy_with_same_view),
            (FailureMode::MixedViews, seen.cross_entropy_of_other_images),
            (
                FailureMode::SoftmaxTwice,
                seen.cross_entropy_of_softmax_twice,
            ),
        ];
        let nearest = candidates
            .into_iter()
            .filter_map(|(failure, value)| Some((failure, value?)))
            .min_by(|(_, a), (_, b)| (a - loss).abs().total_cmp(&(b - loss).abs()))
            .filter(|(_, value)| (value - loss).abs() < limit::NEARER * error);
        let seen = format!(
            "The loss is {loss:.3}; the cross entropy of the outputs, over each view of the teacher and \
             each other view of the student, is {right:.3}"
        );
        let Some((failure, value)) = nearest else {
            return Some(mistake(
                FailureMode::OtherLoss,
                format!("{seen}."),
                "The loss is something else, and so is what is learned.",
                "compute the loss from the logits by hand for one batch, and compare",
            ));
        };
        let (as_if, meaning, correction) = match failure {
            FailureMode::SameView => (
                "with each view also paired with itself",
                "A view is compared with itself, which is easy and teaches nothing.",
                "skip the pairs in which student and teacher see the same view",
            ),
            FailureMode::MixedViews => (
                "between views of different images",
                "Outputs are matched across images: the student is to predict what it cannot see, and \
                 learns to say the same of everything.",
                "check whether outputs are stored view by view or image by image where they are cut",
            ),
            _ => (
                "with the student's probabilities taken for logits",
                "Probabilities go through a softmax again: the loss cannot fall by more than 1 below ln \
                 K, and hardly has a gradient.",
                "give the logarithm of one softmax to the cross entropy",
            ),
        };
        let seen = format!("{seen}, and {as_if} {value:.3}.");
        Some(mistake(failure, seen, meaning, correction))
    }

    fn no_centring(&self) -> Option<Warning> {
        let norm = self.now.centre_norm.filter(|_| self.now.epoch > 0)?;
        if norm >= limit::CENTRE {
            return None;
        }
        let mut warning = mistake(
            FailureMode::NoCentring,
            format!(
                "The centre's length is {} after {} epochs.",
                short(norm),
                self.now.epoch + 1
            ),
            "Nothing keeps the teacher from preferring the same prototypes for every image: its output \
             becomes constant.",
            "subtract a moving average of the teacher's logits from them, and update it in each step",
        );
        if let Some(centring) = self.context.centring() {
            warning.remedies = vec![Remedy::Resume(vec![centring])];
        }
        Some(warning)
    }

    fn no_sharpening(&self) -> Option<Warning> {
        let (teacher, student) = (self.now.teacher_temp?, self.now.invariants.student_temp?);
        (teacher >= student).then(|| {
            mistake(
                FailureMode::NoSharpening,
                format!(
                    "The teacher's temperature is {}, the student's {}.",
                    short(teacher),
                    short(student)
                ),
                "The targets are no sharper than the student's output: nothing pulls them from uniform.",
                "divide the teacher's logits by 0.04 to 0.07 and the student's by 0.1",
            )
        })
    }

    fn too_few_prototypes(&self) -> Option<Warning> {
        let (k, rows) = (self.now.out_dim, self.now.rows);
        let in_use = self.now.active_prototypes.filter(|_| k > 0)?;
        if in_use < limit::ALL_IN_USE || rows < limit::ROWS_PER_PROTOTYPE * k as u64 {
            return None;
        }
        Some(Warning {
            failure: FailureMode::TooFewPrototypes,
            seen: format!(
                "{:.0}% of the {k} prototypes are in use, with {} outputs for each.",
                100.0 * in_use,
                rows / k as u64
            ),
            meaning:
                "The prototypes are used up: images that differ have to share them, and a loss \
                      that falls tells little apart."
                    .into(),
            remedies: match self.context.more_prototypes(self.now.out_dim) {
                Some(more) => vec![Remedy::NewRun(vec![more])],
                None => vec![Remedy::Correct("give the head more prototypes".into())],
            },
        })
    }
}

fn mistake(failure: FailureMode, seen: String, meaning: &str, correction: &str) -> Warning {
    Warning {
        failure,
        seen,
        meaning: meaning.into(),
        remedies: vec![Remedy::Correct(correction.into())],
    }
}
