//! A run's charts, from its lines of metrics: those of the report, and of the page that `dinolab-serve` shows.

use dinolab_view::report::Chart;
use serde_json::{Map, Value};

/// A line of `metrics.jsonl` or `timing.jsonl`.
pub type Line = Map<String, Value>;

type Points = Vec<(f64, f64)>;

/// Metric keys and their names in older runs.
const RENAMED: [(&str, &str); 3] = [
    ("active_prototypes", "used_prototypes"),
    ("prototype_perplexity", "effective_prototypes"),
    ("feature_std", "feature_spread"),
];

/// The number under `key`, or under its name in older runs.
pub fn number(line: &Line, key: &str) -> Option<f64> {
    let before = RENAMED.iter().find(|(new, _)| *new == key);
    let value = line.get(key).or_else(|| line.get(before?.1));
    value.and_then(Value::as_f64)
}

/// The lines of a kind (`train`, `epoch`, `evaluation`, `setting`, `timing`).
pub fn of_kind<'a>(lines: &'a [Line], kind: &'a str) -> impl DoubleEndedIterator<Item = &'a Line> {
    lines
        .iter()
        .filter(move |line| line.get("kind").and_then(Value::as_str) == Some(kind))
}

/// The charts of a run for which there are figures. `prototypes` is the number of the head's outputs, of a
/// method that has prototypes.
pub fn of(metrics: &[Line], timing: &[Line], prototypes: Option<usize>) -> Vec<Chart> {
    let from = Figures { metrics, timing };
    let mut charts = from.evaluations();
    charts.push(from.loss(prototypes.is_some()));
    charts.extend(from.outputs(prototypes));
    charts.extend(from.representations());
    charts.extend(from.optimisation());
    charts.retain(|chart| !chart.lines.is_empty());
    charts
}

struct Figures<'a> {
    metrics: &'a [Line],
    timing: &'a [Line],
}

impl Figures<'_> {
    fn step(&self, key: &str) -> Points {
        points(self.metrics, "train", "step", key)
    }

    /// Epochs count from 1 for people.
    fn epoch(&self, key: &str) -> Points {
        let counted = points(self.metrics, "epoch", "epoch", key);
        counted.into_iter().map(|(x, y)| (x + 1.0, y)).collect()
    }

    fn evaluation(&self, key: &str) -> Points {
        points(self.metrics, "evaluation", "epochs", key)
    }

    fn timing(&self, key: &str) -> Points {
        points(self.timing, "timing", "step", key)
    }

    fn evaluations(&self) -> Vec<Chart> {
        vec![
            chart(
                ["k-NN accuracy", "epoch", "%"],
                "Higher is better; it should rise above its untrained value within the first epochs.",
                vec![
                    ("k-NN", self.evaluation("knn")),
                    ("k-NN of whitened features", self.evaluation("knn_whitened")),
                ],
            ),
            chart(
                ["Attention against object masks", "epoch", "Jaccard, %"],
                "Higher is better: the class token attends to the annotated objects.",
                vec![("Jaccard", self.evaluation("jaccard"))],
            ),
        ]
    }

    fn loss(&self, of_prototypes: bool) -> Chart {
        chart(
            ["Loss", "step", if of_prototypes { "nats" } else { "" }],
            match of_prototypes {
                true => {
                    "It starts near ln K and should fall; a small rise while the teacher \
                     temperature warms up is normal."
                }
                false => "It should fall quickly at first, then slowly, without jumps.",
            },
            vec![
                ("loss", self.step("loss")),
                ("invariance", self.step("invariance")),
                ("SIGReg", self.step("sigreg")),
                ("location", self.step("location")),
                ("scale", self.step("scale")),
                ("shape", self.step("shape")),
                ("similarity", self.step("similarity")),
                ("coding rate", self.step("coding_rate")),
                ("DINO", self.step("dino")),
                ("iBOT", self.step("ibot")),
                ("KoLeo", self.step("koleo")),
            ],
        )
    }

    fn outputs(&self, prototypes: Option<usize>) -> Vec<Chart> {
        let entropy = self.epoch("teacher_entropy");
        let ln_k = prototypes.map(|outputs| (outputs.max(1) as f64).ln());
        let uniform = |ln_k: f64| entropy.iter().map(|&(x, _)| (x, ln_k)).collect();
        let top = ln_k.map_or(Points::new(), uniform);
        vec![
            chart(
                ["Teacher entropy", "epoch", "nats"],
                "The entropy per image should fall while the entropy over all images stays near \
                 ln K; both at ln K, or both near 0, is collapse.",
                vec![
                    ("entropy per image", entropy),
                    ("entropy over all images", self.epoch("marginal_entropy")),
                    ("ln K, uniform", top),
                ],
            ),
            chart(
                ["Masked patches: teacher entropy", "epoch", "nats"],
                "As for images: the entropy per patch should fall below that over all patches, which \
                 stays high.",
                vec![
                    ("entropy per patch", self.epoch("patch_entropy")),
                    (
                        "entropy over all patches",
                        self.epoch("patch_marginal_entropy"),
                    ),
                ],
            ),
            chart(
                ["KL divergence", "epoch", "nats"],
                "It should stay small and level: the student follows the teacher.",
                vec![("KL(teacher‖student)", self.epoch("kl"))],
            ),
            chart(
                ["Prototypes", "epoch", "fraction"],
                "Higher is better: most prototypes should be in use.",
                vec![
                    ("active", self.epoch("active_prototypes")),
                    ("perplexity", self.epoch("prototype_perplexity")),
                ],
            ),
            chart(
                ["Centre", "epoch", "norm"],
                "It should settle to a constant value.",
                vec![("centre", self.epoch("centre_norm"))],
            ),
        ]
    }

    fn representations(&self) -> Vec<Chart> {
        vec![
            chart(
                ["Embeddings: standard deviation", "epoch", "target: 1"],
                "It should approach 1; near 0, all embeddings are alike.",
                vec![("embedding std", self.epoch("embedding_std"))],
            ),
            chart(
                ["Embeddings: effective rank", "epoch", "dimensions"],
                "Higher is better; near 1, the embeddings lie along one line.",
                vec![("embedding rank", self.epoch("embedding_rank"))],
            ),
            chart(
                [
                    "Features: standard deviation",
                    "epoch",
                    "0 identical – 1 isotropic",
                ],
                "It should stay well above 0, where all images have the same features.",
                vec![("feature std", self.epoch("feature_std"))],
            ),
            chart(
                ["Features: drift", "step", "1 − cosine"],
                "How far features of the same views have turned from those of the network that the run \
                 started from; it should level off; a larger weight holds it lower.",
                vec![("drift", self.step("drift"))],
            ),
            chart(
                ["Features: effective rank", "epoch", "dimensions"],
                "Higher is better: the features use more directions; near 1 they have collapsed.",
                vec![("effective rank", self.epoch("feature_rank"))],
            ),
        ]
    }

    fn optimisation(&self) -> Vec<Chart> {
        vec![
            chart(
                ["Gradient before clipping", "step", "norm"],
                "It should stay level or fall; a rise to ten times its usual value announces \
                 divergence.",
                vec![
                    ("all", self.step("grad_norm")),
                    ("largest tensor", self.step("grad_norm_max")),
                ],
            ),
            chart(
                ["Learning rate", "step", ""],
                "It follows the schedule: a rise during warm-up, then a cosine.",
                vec![("learning rate", self.step("lr"))],
            ),
            chart(
                ["Speed", "step", "images/s"],
                "Higher is better; a lasting drop means that something else uses the machine.",
                vec![("images/s", self.timing("images_per_second"))],
            ),
            chart(
                ["Waiting for data", "step", "fraction of the step"],
                "Near 0 is good; above 0.1, decoding limits the speed.",
                vec![("waiting", self.timing("waited_for_data"))],
            ),
        ]
    }
}

/// Points of `key` against `x`, of all lines of a kind.
fn points(lines: &[Line], kind: &str, x: &str, key: &str) -> Points {
    of_kind(lines, kind)
        .filter_map(|line| Some((number(line, x)?, number(line, key)?)))
        .collect()
}

/// A chart of the lines that have points.
fn chart([title, x, y]: [&str; 3], note: &str, lines: Vec<(&str, Points)>) -> Chart {
    let lines = lines
        .into_iter()
        .filter(|(_, points)| !points.is_empty())
        .map(|(name, points)| (name.to_owned(), points))
        .collect();
    Chart {
        title: title.into(),
        note: note.into(),
        y_label: y.into(),
        x_label: x.into(),
        lines,
    }
}
