//! `report.html` of a run, from its metrics and pictures.

use std::fmt::Write as _;
use std::path::PathBuf;

use dinolab_view::report::{Chart, PictureSource, Report, Table};
use serde_json::{Map, Value};

use crate::error::Result;
use crate::evaluation::Evaluation;
use crate::run_folder::RunFolder;
use crate::settings::Config;
use crate::train_observer::SETTING;
use crate::values::MethodKind;

type Line = Map<String, Value>;

/// Figures that sum a run up.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Summary {
    /// Epochs done and figures of each evaluation, in order.
    pub evaluations: Vec<(u64, Evaluation)>,
}

impl Summary {
    /// The figures from before and after training, as a table; empty without evaluations.
    pub fn comparison(&self) -> String {
        let mut table = String::new();
        let (Some((_, first)), Some((_, last))) =
            (self.evaluations.first(), self.evaluations.last())
        else {
            return table;
        };
        // Writing to a text does not fail.
        let _ = writeln!(table, "{:<20} {:>10} {:>10}", "", "untrained", "trained");
        for (name, a, b) in [
            ("k-NN accuracy", first.knn, last.knn),
            ("k-NN, whitened", first.knn_whitened, last.knn_whitened),
            ("attention Jaccard", first.jaccard, last.jaccard),
        ] {
            if let (Some(a), Some(b)) = (a, b) {
                let _ = writeln!(table, "{name:<20} {a:>9.1}% {b:>9.1}%");
            }
        }
        table
    }
}

/// Metric keys and their names in older runs.
const RENAMED: [(&str, &str); 3] = [
    ("active_prototypes", "used_prototypes"),
    ("prototype_perplexity", "effective_prototypes"),
    ("feature_std", "feature_spread"),
];

fn number(line: &Line, key: &str) -> Option<f64> {
    let before = RENAMED.iter().find(|(new, _)| *new == key);
    let value = line.get(key).or_else(|| line.get(before?.1));
    value.and_then(Value::as_f64)
}

fn of_kind<'a>(lines: &'a [Line], kind: &'a str) -> impl Iterator<Item = &'a Line> {
    lines
        .iter()
        .filter(move |line| line.get("kind").and_then(Value::as_str) == Some(kind))
}

/// Points of `key` against `x`, of all lines of a kind.
fn points(lines: &[Line], kind: &str, x: &str, key: &str) -> Vec<(f64, f64)> {
    of_kind(lines, kind)
        .filter_map(|line| Some((number(line, x)?, number(line, key)?)))
        .collect()
}

fn chart(title: &str, x: &str, y: &str, lines: Vec<(&str, Vec<(f64, f64)>)>) -> Option<Chart> {
    let lines: Vec<_> = lines
        .into_iter()
        .filter(|(_, points)| !points.is_empty())
        .map(|(name, points)| (name.to_owned(), points))
        .collect();
    (!lines.is_empty()).then(|| Chart {
        title: title.into(),
        y_label: y.into(),
        x_label: x.into(),
        lines,
    })
}

/// Writes the report and returns the evaluations it is about.
///
/// # Errors
/// Metrics that cannot be read, a report that cannot be written.
pub fn write(folder: &RunFolder, config: &Config, images: &str) -> Result<Summary> {
    let lines = dinolab_train::log::read(&folder.join("metrics.jsonl"))?;
    let timing = dinolab_train::log::read(&folder.join("timing.jsonl"))?;
    let step = |key| points(&lines, "train", "step", key);
    // Epochs count from 1 for people.
    let epoch = |key| {
        let counted = points(&lines, "epoch", "epoch", key);
        counted
            .into_iter()
            .map(|(x, y)| (x + 1.0, y))
            .collect::<Vec<_>>()
    };
    let found = |key| points(&lines, "evaluation", "epochs", key);
    let dino = config.method == MethodKind::Dino;
    let ln_k = (config.out_dim as f64).ln();
    let ceiling =
        |points: &[(f64, f64)]| points.iter().map(|&(x, _)| (x, ln_k)).collect::<Vec<_>>();
    let entropy = epoch("teacher_entropy");
    let top = ceiling(&entropy);
    let charts = [
        chart(
            "k-NN accuracy",
            "epoch",
            "%",
            vec![
                ("k-NN", found("knn")),
                ("k-NN of whitened features", found("knn_whitened")),
            ],
        ),
        chart(
            "Attention against object masks",
            "epoch",
            "Jaccard, %",
            vec![("Jaccard", found("jaccard"))],
        ),
        chart(
            "Loss",
            "step",
            if dino { "nats" } else { "" },
            vec![
                ("loss", step("loss")),
                ("invariance", step("invariance")),
                ("SIGReg", step("sigreg")),
                ("location", step("location")),
                ("scale", step("scale")),
                ("shape", step("shape")),
                ("similarity", step("similarity")),
                ("coding rate", step("coding_rate")),
            ],
        ),
        chart(
            "Teacher entropy",
            "epoch",
            "nats",
            vec![
                ("entropy per image", entropy),
                ("entropy over all images", epoch("marginal_entropy")),
                ("ln K, uniform", top),
            ],
        ),
        chart(
            "KL divergence",
            "epoch",
            "nats",
            vec![("KL(teacher‖student)", epoch("kl"))],
        ),
        chart(
            "Embeddings: standard deviation",
            "epoch",
            "target: 1",
            vec![("embedding std", epoch("embedding_std"))],
        ),
        chart(
            "Embeddings: effective rank",
            "epoch",
            "dimensions",
            vec![("embedding rank", epoch("embedding_rank"))],
        ),
        chart(
            "Features: standard deviation",
            "epoch",
            "0 identical – 1 isotropic",
            vec![("feature std", epoch("feature_std"))],
        ),
        chart(
            "Features: effective rank",
            "epoch",
            "dimensions",
            vec![("effective rank", epoch("feature_rank"))],
        ),
        chart(
            "Prototypes",
            "epoch",
            "fraction",
            vec![
                ("active", epoch("active_prototypes")),
                ("perplexity", epoch("prototype_perplexity")),
            ],
        ),
        chart(
            "Centre",
            "epoch",
            "norm",
            vec![("centre", epoch("centre_norm"))],
        ),
        chart(
            "Gradient before clipping",
            "step",
            "norm",
            vec![
                ("all", step("grad_norm")),
                ("largest tensor", step("grad_norm_max")),
            ],
        ),
        chart(
            "Learning rate",
            "step",
            "",
            vec![("learning rate", step("lr"))],
        ),
        chart(
            "Speed",
            "step",
            "images/s",
            vec![(
                "images/s",
                points(&timing, "timing", "step", "images_per_second"),
            )],
        ),
        chart(
            "Waiting for data",
            "step",
            "fraction of the step",
            vec![(
                "waiting",
                points(&timing, "timing", "step", "waited_for_data"),
            )],
        ),
    ];
    let evaluations: Vec<_> = of_kind(&lines, "evaluation")
        .filter_map(|line| {
            // Runs from before whitening have none.
            let figures = Evaluation {
                knn: number(line, "knn"),
                knn_whitened: number(line, "knn_whitened"),
                jaccard: number(line, "jaccard"),
            };
            Some((number(line, "epochs")? as u64, figures))
        })
        .collect();
    let percent =
        |value: Option<f64>| value.map_or("–".to_owned(), |value| format!("{value:.1}%"));
    let table = Table {
        title: if config.averages() {
            "Evaluations of the averaged backbone".into()
        } else {
            "Evaluations of the teacher".into()
        },
        note: whitening_note(&evaluations),
        header: ["epochs", "k-NN", "k-NN, whitened", "attention Jaccard"]
            .map(Into::into)
            .into(),
        rows: evaluations
            .iter()
            .map(|(epochs, found)| {
                let figures = [found.knn, found.knn_whitened, found.jaccard];
                let figures = figures.map(percent).into_iter();
                [epochs.to_string()].into_iter().chain(figures).collect()
            })
            .collect(),
    };
    let settings = Table {
        title: "Settings".into(),
        note: String::new(),
        header: vec!["setting".into(), "value".into()],
        rows: toml::Table::try_from(config)?
            .into_iter()
            .map(|(key, value)| vec![key, value.to_string()])
            .collect(),
    };
    let text = |line: &Line, key: &str| {
        let value = line.get(key).and_then(Value::as_str);
        value.unwrap_or_default().to_owned()
    };
    let changes: Vec<Vec<String>> = of_kind(&lines, SETTING)
        .map(|line| {
            let step = number(line, "step").unwrap_or_default().to_string();
            vec![
                step,
                text(line, "setting"),
                text(line, "from"),
                text(line, "to"),
            ]
        })
        .collect();
    let changed = (!changes.is_empty()).then(|| Table {
        title: "Settings changed during the run".into(),
        note: String::new(),
        header: ["after step", "setting", "before", "since"]
            .map(Into::into)
            .into(),
        rows: changes,
    });
    let warnings = of_kind(&lines, "epoch")
        .flat_map(|line| {
            let epoch = number(line, "epoch").unwrap_or(0.0) + 1.0;
            let texts = line
                .get("warnings")
                .and_then(Value::as_array)
                .into_iter()
                .flatten();
            texts.filter_map(move |text| Some(format!("epoch {epoch}: {}", text.as_str()?)))
        })
        .collect();
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder.join("pictures"))
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|ext| ext == "png"))
        .collect();
    files.sort();
    let pictures = files
        .into_iter()
        .map(|file| (caption(&file), PictureSource::File(file)))
        .collect();
    let last = of_kind(&lines, "epoch").last();
    let mut summary = vec![
        ("images".to_owned(), images.to_owned()),
        (
            "network".into(),
            format!(
                "{}: width {}, depth {}, {} heads, patch {}",
                config.arch, config.width, config.depth, config.heads, config.patch_size,
            ),
        ),
        (
            "method".into(),
            match config.method {
                MethodKind::Dino => format!("DINO, {} prototypes", config.out_dim),
                MethodKind::LeJepa => format!("LeJEPA, embeddings of {}", config.proj_dim),
                MethodKind::SimDino => {
                    format!("SimDINO, outputs of {}", config.head_bottleneck_dim)
                }
                MethodKind::VisReg => format!("VISReg, embeddings of {}", config.proj_dim),
            },
        ),
        (
            "epochs".into(),
            format!("{} of {}", of_kind(&lines, "epoch").count(), config.epochs),
        ),
    ];
    if let Some(loss) = last.and_then(|line| number(line, "loss")) {
        summary.push(("loss of the last epoch".into(), format!("{loss:.3}")));
    }
    if let (Some((_, first)), Some((_, end))) = (evaluations.first(), evaluations.last()) {
        let change = |name: &str, a: Option<f64>, b: Option<f64>| {
            a.zip(b).map(|(a, b)| {
                (
                    name.to_owned(),
                    format!("{a:.1}% untrained, {b:.1}% trained"),
                )
            })
        };
        summary.extend(change("k-NN", first.knn, end.knn));
        let whitened = change("k-NN, whitened", first.knn_whitened, end.knn_whitened);
        summary.extend(whitened);
        summary.extend(change("attention Jaccard", first.jaccard, end.jaccard));
    }
    Report {
        title: format!("dinolab: {}", folder.root().display()),
        summary,
        warnings,
        charts: charts.into_iter().flatten().collect(),
        tables: [Some(table), changed, Some(settings)]
            .into_iter()
            .flatten()
            .collect(),
        pictures,
    }
    .write(folder.join("report.html"))?;
    Ok(Summary { evaluations })
}

/// What the last evaluation's whitened k-NN says; empty without one.
fn whitening_note(evaluations: &[(u64, Evaluation)]) -> String {
    let figures = evaluations
        .last()
        .map(|(_, last)| (last.knn, last.knn_whitened));
    let Some((Some(raw), Some(whitened))) = figures else {
        return String::new();
    };
    // Twice the standard error of a figure of a thousand images.
    let reading = match whitened - raw {
        more if more > 3.0 => {
            "here it is higher: directions of small variance hold what a few large ones hide, and \
             whitening the features brings it out"
        }
        less if less < -3.0 => {
            "here it is lower: directions of small variance are noise, and features are best used raw"
        }
        _ => "here both are much the same: the features are used about evenly",
    };
    format!(
        "Whitened k-NN counts every principal component of the features alike, where raw k-NN follows \
         the largest; {reading}."
    )
}

/// What a picture shows, from its name.
fn caption(file: &std::path::Path) -> String {
    let stem = file
        .file_stem()
        .and_then(|stem| stem.to_str())
        .unwrap_or_default();
    match stem
        .strip_prefix("attention-epoch-")
        .and_then(|epochs| epochs.parse::<u64>().ok())
    {
        Some(0) => {
            "Attention of the class token, untrained: image, mean over heads, each head".into()
        }
        Some(1) => "Attention after 1 epoch".into(),
        Some(epochs) => format!("Attention after {epochs} epochs"),
        None => stem.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whitened_figures_are_read_as_they_stand() {
        let at = |knn, knn_whitened| Evaluation {
            knn,
            knn_whitened,
            jaccard: None,
        };
        let note = |knn, whitened| whitening_note(&[(0, at(None, None)), (3, at(knn, whitened))]);
        assert!(note(Some(40.0), Some(45.0)).contains("it is higher"));
        assert!(note(Some(40.0), Some(30.0)).contains("it is lower"));
        assert!(note(Some(40.0), Some(41.0)).contains("much the same"));
        assert_eq!(note(Some(40.0), None), "");
        assert_eq!(whitening_note(&[]), "");
    }
}
