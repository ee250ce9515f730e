//! The lines of an epoch and of an evaluation.

use dinolab_eval::health::Health;

use crate::evaluation::Evaluation;

/// The health panel of an epoch, in one line; `waited` is the fraction of the steps' time that was
/// spent on waiting for data.
pub(super) fn panel(health: &Health, seconds: f64, waited: f64) -> String {
    let figure = |value: Option<f64>, digits: usize| match value {
        Some(value) => format!("{value:.digits$}"),
        None => "-".into(),
    };
    let percent = |value: Option<f64>| figure(value.map(|v| 100.0 * v), 0);
    format!(
        "epoch {:>3}  loss {}  teacher entropy {} of {:.2}  KL {}  centre {}  feature spread {}  \
         rank {}  prototypes used {} %  data {:.1} %  {seconds:.0} s",
        health.epoch + 1,
        figure(health.loss, 3),
        figure(health.teacher_entropy, 2),
        health.max_entropy(),
        figure(health.kl, 2),
        figure(health.centre_norm, 2),
        figure(health.feature_spread, 2),
        figure(health.feature_rank, 1),
        percent(health.used_prototypes),
        100.0 * waited,
    )
}

/// The figures of an evaluation after `epochs` epochs; empty if there are none.
pub(super) fn figures(epochs: u64, found: Evaluation) -> String {
    let mut words = Vec::new();
    if let Some(knn) = found.knn {
        words.push(format!("k-NN {knn:.1} %"));
    }
    if let Some(jaccard) = found.jaccard {
        words.push(format!("attention Jaccard {jaccard:.1} %"));
    }
    let when = match epochs {
        0 => "untrained".into(),
        epochs => format!("epoch {epochs}"),
    };
    match words.is_empty() {
        true => String::new(),
        false => format!("  {when}: {}", words.join(", ")),
    }
}
