//! The lines of an epoch and of an evaluation.

use crate::evaluation::Evaluation;
use crate::health::Health;

/// The metrics of an epoch that its method has, in one line; `waited` is the fraction of the steps'
/// time that was spent on waiting for data.
pub(super) fn panel(health: &Health, seconds: f64, waited: f64) -> String {
    let mut words = vec![format!("epoch {:>3}", health.epoch + 1)];
    let mut figure = |name: &str, value: Option<f64>, digits: usize, after: &str| {
        words.extend(value.map(|value| format!("{name} {value:.digits$}{after}")));
    };
    let percent = |value: Option<f64>| value.map(|value| 100.0 * value);
    figure("loss", health.loss, 3, "");
    for (name, value) in &health.terms {
        figure(name, Some(*value), 3, "");
    }
    let most = format!(" of {:.2}", health.max_entropy());
    figure("teacher entropy", health.teacher_entropy, 2, &most);
    figure("KL", health.kl, 2, "");
    let patches = &health.patches;
    let most = format!(" of {:.2}", patches.max_entropy());
    figure("patch entropy", patches.patch_entropy, 2, &most);
    let masked = percent(patches.masked_fraction);
    figure("masked", masked, 0, "%");
    figure("centre norm", health.centre_norm, 2, "");
    figure("embedding std", health.embedding_std, 2, "");
    figure("embedding rank", health.embedding_rank, 1, "");
    figure("feature std", health.feature_std, 2, "");
    figure("effective rank", health.feature_rank, 1, "");
    let used = percent(health.active_prototypes);
    figure("active prototypes", used, 0, "%");
    figure("data wait", Some(100.0 * waited), 1, "%");
    words.push(format!("{seconds:.0} s"));
    words.join("  ")
}

/// The figures of an evaluation after `epochs` epochs; empty if there are none.
pub(super) fn figures(epochs: u64, found: Evaluation) -> String {
    let mut words = Vec::new();
    if let Some(knn) = found.knn {
        let whitened = found.knn_whitened;
        let whitened = whitened.map_or(String::new(), |knn| format!(" ({knn:.1}% whitened)"));
        words.push(format!("k-NN {knn:.1}%{whitened}"));
    }
    if let Some(jaccard) = found.jaccard {
        words.push(format!("attention Jaccard {jaccard:.1}%"));
    }
    let when = match epochs {
        0 => "before training".into(),
        epochs => format!("epoch {epochs}"),
    };
    match words.is_empty() {
        true => String::new(),
        false => format!("  {when}: {}", words.join(", ")),
    }
}
