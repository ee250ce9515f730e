//! Softmax cross entropy of rows of logits, with its gradient.
//!
//! The target of a row is a class, or a weight per class, such as the pixels of each class in a
//! patch. Sums run in double precision and in the order of the rows.

use dinolab_data::slice::check_length;

use crate::{Error, Result};

/// The targets of rows of logits.
#[derive(Clone, Copy, Debug)]
pub enum Targets<'a> {
    /// `[R]`: one class per row, with equal weights.
    Labels(&'a [usize]),
    /// `[R, K]`: the weight of each class in each row, at least 0. Rows of zeros are ignored.
    Weights(&'a [f32]),
}

/// The mean loss and its gradient.
#[derive(Clone, Debug, PartialEq)]
pub struct CrossEntropy {
    /// Mean over the total weight of the targets, in nats.
    pub loss: f64,
    /// `[R, K]`: the derivative of the loss by each logit.
    pub gradient: Vec<f32>,
}

/// Computes the cross entropy of logits `[R, K]` against `targets`, averaged over their weight.
///
/// # Errors
/// [`Error::Slice`] for lengths that do not match; [`Error::Invalid`] for a label out of range and
/// for weights that are negative or sum to 0.
pub fn cross_entropy(logits: &[f32], classes: usize, targets: Targets) -> Result<CrossEntropy> {
    if classes == 0 {
        return Err(Error::invalid("classes", "must not be empty"));
    }
    let rows = logits.len() / classes;
    check_length("logits", rows * classes, logits.len())?;
    let total = total_weight(targets, rows, classes)?;
    let mut gradient = vec![0.0; logits.len()];
    let mut loss = 0.0;
    let mut exps = vec![0f64; classes];
    let row_of = |r: usize| r * classes..(r + 1) * classes;
    for (r, out) in gradient.chunks_exact_mut(classes).enumerate() {
        let logits = &logits[row_of(r)];
        let most = logits.iter().fold(f32::NEG_INFINITY, |a, &b| a.max(b));
        let mut sum = 0.0;
        for (exp, &logit) in exps.iter_mut().zip(logits) {
            *exp = f64::from(logit - most).exp();
            sum += *exp;
        }
        let log_sum = f64::from(most) + sum.ln();
        match targets {
            Targets::Labels(labels) => {
                let label = labels[r];
                loss += log_sum - f64::from(logits[label]);
                for (k, (out, exp)) in out.iter_mut().zip(&exps).enumerate() {
                    *out = ((exp / sum - f64::from(u8::from(k == label))) / total) as f32;
                }
            }
            Targets::Weights(weights) => {
                let weights = &weights[row_of(r)];
                let row: f64 = weights.iter().map(|&w| f64::from(w)).sum();
                if row == 0.0 {
                    continue;
                }
                for (k, (out, exp)) in out.iter_mut().zip(&exps).enumerate() {
                    let weight = f64::from(weights[k]);
                    if weight > 0.0 {
                        loss += weight * (log_sum - f64::from(logits[k]));
                    }
                    *out = ((exp / sum * row - weight) / total) as f32;
                }
            }
        }
    }
    Ok(CrossEntropy {
        loss: loss / total,
        gradient,
    })
}

fn total_weight(targets: Targets, rows: usize, classes: usize) -> Result<f64> {
    let total = match targets {
        Targets::Labels(labels) => {
            check_length("labels", rows, labels.len())?;
            if let Some(label) = labels.iter().find(|&&label| label >= classes) {
                let reason = format!("{label} is not one of {classes} classes");
                return Err(Error::invalid("label", reason));
            }
            rows as f64
        }
        Targets::Weights(weights) => {
            check_length("targets", rows * classes, weights.len())?;
            if weights.iter().any(|w| !(*w >= 0.0 && w.is_finite())) {
                return Err(Error::invalid("targets", "a weight is below 0 or infinite"));
            }
            weights.iter().map(|&w| f64::from(w)).sum()
        }
    };
    if total > 0.0 {
        Ok(total)
    } else {
        Err(Error::invalid("targets", "nothing is labelled"))
    }
}

/// Applies softmax to each row of logits `[R, K]`, in place.
pub fn softmax(logits: &mut [f32], classes: usize) {
    for row in logits.chunks_exact_mut(classes.max(1)) {
        let most = row.iter().fold(f32::NEG_INFINITY, |a, &b| a.max(b));
        let exps: Vec<f64> = row.iter().map(|&v| f64::from(v - most).exp()).collect();
        let sum: f64 = exps.iter().sum();
        for (value, exp) in row.iter_mut().zip(exps) {
            *value = (exp / sum) as f32;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn worked_by_hand() {
        // softmax(ln 1, ln 3) = (1/4, 3/4).
        let logits = [0.0, 3f32.ln()];
        let out = cross_entropy(&logits, 2, Targets::Labels(&[1])).unwrap();
        assert!((out.loss - (4.0f64 / 3.0).ln()).abs() < 1e-7);
        assert_eq!(out.gradient, [0.25, -0.25]);
        // Two pixels of class 0 and six of class 1: the best a patch of these logits can do.
        let out = cross_entropy(&logits, 2, Targets::Weights(&[2.0, 6.0])).unwrap();
        let entropy = 0.25 * 4f64.ln() + 0.75 * (4.0f64 / 3.0).ln();
        assert!((out.loss - entropy).abs() < 1e-7);
        assert!(out.gradient.iter().all(|g| g.abs() < 1e-7));
    }

    #[test]
    fn unlabelled_rows_have_no_say() {
        let logits = [5.0, -1.0, 0.0, 0.0];
        let out = cross_entropy(&logits, 2, Targets::Weights(&[0.0, 0.0, 1.0, 0.0])).unwrap();
        assert_eq!(out.gradient, [0.0, 0.0, -0.5, 0.5]);
        assert!((out.loss - 2f64.ln()).abs() < 1e-12);
    }

    #[test]
    fn wrong_targets_are_refused() {
        let logits = [0.0; 4];
        for targets in [
            Targets::Labels(&[0]),
            Targets::Labels(&[0, 2]),
            Targets::Weights(&[0.0; 4]),
            Targets::Weights(&[1.0, -1.0, 0.0, 0.0]),
            Targets::Weights(&[1.0; 3]),
        ] {
            assert!(cross_entropy(&logits, 2, targets).is_err());
        }
        assert!(cross_entropy(&[], 2, Targets::Labels(&[])).is_err());
        assert!(cross_entropy(&logits, 0, Targets::Labels(&[])).is_err());
    }

    #[test]
    fn large_logits_do_not_overflow() {
        let out = cross_entropy(&[1e30, -1e30], 2, Targets::Labels(&[0])).unwrap();
        assert_eq!((out.loss, out.gradient), (0.0, vec![0.0, 0.0]));
    }

    proptest! {
        /// Labels are weights of one, and the gradient is the loss' slope.
        #[test]
        fn gradient_is_the_slope(
            logits in prop::collection::vec(-3f32..3.0, 12), labels in prop::collection::vec(0usize..3, 4)
        ) {
            let out = cross_entropy(&logits, 3, Targets::Labels(&labels)).unwrap();
            let mut weights = vec![0f32; 12];
            labels.iter().enumerate().for_each(|(r, label)| weights[r * 3 + label] = 1.0);
            let same = cross_entropy(&logits, 3, Targets::Weights(&weights)).unwrap();
            prop_assert!((out.loss - same.loss).abs() < 1e-12);
            let step = 1.0 / 64.0;
            for i in 0..12 {
                let loss = |delta: f32| {
                    let mut moved = logits.clone();
                    moved[i] += delta;
                    cross_entropy(&moved, 3, Targets::Labels(&labels)).unwrap().loss
                };
                let slope = (loss(step) - loss(-step)) / f64::from(2.0 * step);
                prop_assert!((slope - f64::from(out.gradient[i])).abs() < 1e-4);
                prop_assert!((out.gradient[i] - same.gradient[i]).abs() < 1e-7);
            }
        }
    }
}
