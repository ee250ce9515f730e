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
    if classes == 0 || labels.is_empty() {
        return Err(Error::invalid("logits", "must not be empty"));
    }
    check_length("logits", labels.len() * classes, logits.len())?;
    let (mut first, mut among_five) = (0usize, 0usize);
    for (row, &label) in logits.chunks_exact(classes).zip(labels) {
        let Some(&own) = row.get(label) else { continue };
        // Classes ranked before the label.
        let before = row
            .iter()
            .enumerate()
            .filter(|&(k, &v)| v > own || (v == own && k < label))
            .count();
        first += usize::from(before == 0);
        among_five += usize::from(before < 5);
    }
    let percent = |count: usize| 100.0 * count as f64 / labels.len() as f64;
    Ok(Accuracy {
        top1: percent(first),
        top5: (classes >= 5).then(|| percent(among_five)),
    })
}
