//! Figures whose right values are known in advance, whatever the images.
//!
//! They tell a mistake in the code from a bad setting: a loss that is not the cross entropy of its
//! own outputs is wrong however well it falls.

use serde::{Deserialize, Serialize};

/// Figures of one step of DINO, or their means over an epoch. What was not measured is absent.
///
/// | figure | right |
/// |---|---|
/// | `initial_distance` | 0 |
/// | `teacher_step` | 1 |
/// | `teacher_lag` | m / (1 − m) steps after as many steps; below 1 only at first |
/// | `pixel_min`, `pixel_max` | within −2.12 and 2.64, the ends of ImageNet's normalisation |
/// | `measured_loss` | `cross_entropy` |
/// | `student_temp` | above the teacher's |
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Invariants {
    /// ‖θ_s − θ_t‖ / ‖θ_s‖ before the first step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub initial_distance: Option<f64>,
    /// Length of the teacher's change in a step, by (1 − m)·‖θ_s − θ_t‖ of the student after the
    /// step and the teacher before it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub teacher_step: Option<f64>,
    /// ‖θ_s − θ_t‖ after a step, in lengths of the student's step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub teacher_lag: Option<f64>,
    /// Least value of the views as the networks see them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pixel_min: Option<f64>,
    /// Greatest value of the views as the networks see them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pixel_max: Option<f64>,
    /// Loss of the steps that the following figures are of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub measured_loss: Option<f64>,
    /// The loss as it should be: from the networks' logits, over each view of the teacher and each
    /// other view of the student of the same image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cross_entropy: Option<f64>,
    /// What it would be with each view also paired with itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cross_entropy_with_same_view: Option<f64>,
    /// What it would be, on average, between views of different images.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cross_entropy_of_other_images: Option<f64>,
    /// What it would be with the student's probabilities taken for logits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cross_entropy_of_softmax_twice: Option<f64>,
    /// Student temperature.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub student_temp: Option<f64>,
}

impl Invariants {
    /// Of an epoch, from those of its steps: means, the ends of the pixels' range, and the first distance.
    pub(super) fn of_steps(steps: &[Self]) -> Self {
        let known = |figure: fn(&Self) -> Option<f64>| steps.iter().filter_map(figure);
        let mean = |figure: fn(&Self) -> Option<f64>| {
            let count = known(figure).count();
            (count > 0).then(|| known(figure).sum::<f64>() / count as f64)
        };
        Self {
            initial_distance: known(|s| s.initial_distance).next(),
            teacher_step: mean(|s| s.teacher_step),
            teacher_lag: mean(|s| s.teacher_lag),
            pixel_min: known(|s| s.pixel_min).reduce(f64::min),
            pixel_max: known(|s| s.pixel_max).reduce(f64::max),
            measured_loss: mean(|s| s.measured_loss),
            cross_entropy: mean(|s| s.cross_entropy),
            cross_entropy_with_same_view: mean(|s| s.cross_entropy_with_same_view),
            cross_entropy_of_other_images: mean(|s| s.cross_entropy_of_other_images),
            cross_entropy_of_softmax_twice: mean(|s| s.cross_entropy_of_softmax_twice),
            student_temp: mean(|s| s.student_temp),
        }
    }

    /// Whether nothing was measured.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_has_the_means_and_the_ends() {
        let step = |distance, loss, min| Invariants {
            initial_distance: distance,
            measured_loss: Some(loss),
            pixel_min: Some(min),
            ..Invariants::default()
        };
        let epoch = Invariants::of_steps(&[step(Some(0.5), 2.0, -1.0), step(None, 4.0, -2.0)]);
        assert_eq!(epoch, step(Some(0.5), 3.0, -2.0));
        assert!(Invariants::of_steps(&[]).is_empty());
    }
}
