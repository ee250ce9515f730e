//! Top-1 and top-5 accuracy.

use dinolab_data::slice::check_length;

use crate::{Error, Result};

/// Accuracies in percent (0–100).
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Accuracy {
    /// Top-1 accuracy.
    pub top1: f64,
    /// Top-5 accuracy; `None` for fewer than five classes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top5: Option<f64>,
}

/// Computes the accuracy of logits `[N, K]`. Of equal logits the lower class comes first; a label
/// that is not a class is never predicted.
///
/// # Errors
/// Lengths that do not match, no row, no class.
pub fn accuracy(logits: &[f32], classes: usize, labels: &[usize]) -> Result<Accuracy> {
    let mut hits = Hits::default();
    hits.add(logits, classes, labels)?;
    hits.accuracy(classes)
}

/// Rows that were classified correctly, of those so far.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Hits {
    rows: usize,
    first: usize,
    among_five: usize,
}

impl Hits {
    /// Adds rows, by their logits `[N, K]`.
    pub fn add(&mut self, logits: &[f32], classes: usize, labels: &[usize]) -> Result<()> {
        if classes == 0 {
            return Err(Error::invalid("logits", "must not be empty"));
        }
        check_length("logits", labels.len() * classes, logits.len())?;
        self.rows += labels.len();
        for (row, &label) in logits.chunks_exact(classes).zip(labels) {
            let Some(&own) = row.get(label) else { continue };
            // Classes ranked before the label.
            let before = row
                .iter()
                .enumerate()
                .filter(|&(k, &v)| v > own || (v == own && k < label))
                .count();
            self.first += usize::from(before == 0);
            self.among_five += usize::from(before < 5);
        }
        Ok(())
    }

    /// The accuracy on all rows, of which there must be one.
    pub fn accuracy(&self, classes: usize) -> Result<Accuracy> {
        if self.rows == 0 {
            return Err(Error::invalid("logits", "must not be empty"));
        }
        let percent = |count: usize| 100.0 * count as f64 / self.rows as f64;
        Ok(Accuracy {
            top1: percent(self.first),
            top5: (classes >= 5).then(|| percent(self.among_five)),
        })
    }
}
