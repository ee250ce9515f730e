//! `report.html` of a run, from its metrics and pictures.

use std::path::PathBuf;

use dinolab_view::report::{Chart, PictureSource, Report, Table};
use serde_json::{Map, Value};

use crate::error::Result;
use crate::run_folder::RunFolder;
use crate::settings::Config;
use crate::train_observer::SETTING;
use crate::values::MethodKind;

type Line = Map<String, Value>;

/// Figures that sum a run up.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Summary {
    /// Evaluations in order: epochs, k-NN, Jaccard.
    pub evaluations: Vec<(u64, Option<f64>, Option<f64>)>,
}

/// Keys of figures, and what they were called in runs of before.
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
            "What it can tell apart",
            "epoch",
            "k-NN accuracy, %",
            vec![("k-NN", found("knn"))],
        ),
        chart(
            "Where it looks",
            "epoch",
            "Jaccard, %",
            vec![("attention against object masks", found("jaccard"))],
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
            "Teacher: sure of itself, but not always of the same",
            "epoch",
            "nats",
            vec![
                ("entropy per image", entropy),
                ("entropy over all images", epoch("marginal_entropy")),
                ("ln K, uniform", top),
            ],
        ),
        chart(
            "Teacher to student",
            "epoch",
            "nats",
            vec![("KL(teacher‖student)", epoch("kl"))],
        ),
        chart(
            "Embeddings: standard deviation",
            "epoch",
            "1 is aimed at",
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
            "0 all alike – 1 isotropic",
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
            "share",
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
            "share of the step",
            vec![(
                "waiting",
                points(&timing, "timing", "step", "waited_for_data"),
            )],
        ),
    ];
    let evaluations: Vec<_> = of_kind(&lines, "evaluation")
        .filter_map(|line| {
            Some((
                number(line, "epochs")? as u64,
                number(line, "knn"),
                number(line, "jaccard"),
            ))
        })
        .collect();
    let percent =
        |value: Option<f64>| value.map_or("–".to_owned(), |value| format!("{value:.1} %"));
    let table = Table {
        title: if dino {
            "Evaluations of the teacher".into()
        } else {
            "Evaluations of the averaged backbone".into()
        },
        header: vec!["epochs".into(), "k-NN".into(), "attention Jaccard".into()],
        rows: evaluations
            .iter()
            .map(|&(epochs, knn, jaccard)| vec![epochs.to_string(), percent(knn), percent(jaccard)])
            .collect(),
    };
    let settings = Table {
        title: "Settings".into(),
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
        title: "Settings changed in the course of the run".into(),
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
    if let (Some(first), Some(end)) = (evaluations.first(), evaluations.last()) {
        let change = |name: &str, a: Option<f64>, b: Option<f64>| {
            a.zip(b).map(|(a, b)| {
                (
                    name.to_owned(),
                    format!("{a:.1} % untrained, {b:.1} % trained"),
                )
            })
        };
        summary.extend(change("k-NN", first.1, end.1));
        summary.extend(change("attention Jaccard", first.2, end.2));
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
        Some(epochs) => format!("Attention after {epochs} epochs"),
        None => stem.into(),
    }
}
