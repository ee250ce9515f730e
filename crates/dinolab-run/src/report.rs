//! `report.html` of a run, from its metrics and pictures.

pub mod charts;

use std::fmt::Write as _;
use std::path::PathBuf;

use dinolab_view::report::{PictureSource, Report, Table};
use serde_json::Value;

use self::charts::{Line, number, of_kind};

use crate::error::Result;
use crate::evaluation::Evaluation;
use crate::run_folder::RunFolder;
use crate::settings::Config;
use crate::train_observer::SETTING;
use crate::values::MethodKind;

/// Figures that sum a run up.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Summary {
    /// Epochs done and figures of each evaluation, in order.
    pub evaluations: Vec<(u64, Evaluation)>,
    /// Whether the run started from weights that it was given.
    pub from_weights: bool,
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
        let [start, end] = ends(self.from_weights);
        let _ = writeln!(table, "{:<20} {start:>10} {end:>10}", "");
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

/// What a network is called before and after a run.
fn ends(from_weights: bool) -> [&'static str; 2] {
    match from_weights {
        true => ["as given", "adapted"],
        false => ["untrained", "trained"],
    }
}

/// Writes the report and returns the evaluations it is about.
///
/// # Errors
/// Metrics that cannot be read, a report that cannot be written.
pub fn write(folder: &RunFolder, config: &Config, images: &str) -> Result<Summary> {
    let lines = dinolab_train::log::read(&folder.join("metrics.jsonl"))?;
    let timing = dinolab_train::log::read(&folder.join("timing.jsonl"))?;
    let prototypes = config.method.has_prototypes().then_some(config.out_dim);
    let charts = charts::of(&lines, &timing, prototypes);
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
    let from_weights = !config.weights.as_os_str().is_empty();
    let [start, stop] = ends(from_weights);
    let mut summary = vec![
        ("images".to_owned(), images.to_owned()),
        (
            "network".into(),
            match config.backbone().vit() {
                Some(vit) => format!(
                    "{}: width {}, depth {}, {} heads, patch {}{}",
                    config.arch,
                    vit.width,
                    vit.depth,
                    vit.heads,
                    vit.patch_size,
                    config.stem.in_words(),
                ),
                None => format!("{}: width {}", config.arch, config.width),
            },
        ),
        (
            "method".into(),
            match config.method {
                MethodKind::Dino => format!("DINO, {} prototypes", config.out_dim),
                MethodKind::LeJepa => format!("LeJEPA, embeddings of {}", config.proj_dim),
                MethodKind::SimDino => {
                    format!("SimDINO, outputs of {}", config.head_bottleneck_dim)
                }
                MethodKind::DinoV2 => format!("DINOv2, {} prototypes", config.out_dim),
                MethodKind::Distill => {
                    format!("distillation from {}", config.teacher_weights.display())
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
            a.zip(b)
                .map(|(a, b)| (name.to_owned(), format!("{a:.1}% {start}, {b:.1}% {stop}")))
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
        charts,
        tables: [Some(table), changed, Some(settings)]
            .into_iter()
            .flatten()
            .collect(),
        pictures,
    }
    .write(folder.join("report.html"))?;
    Ok(Summary {
        evaluations,
        from_weights,
    })
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
    let Some((kind, epochs)) = stem.split_once("-epoch-") else {
        return stem.into();
    };
    let what = match kind {
        "attention" => "Attention",
        "activation" => "Activation",
        _ => return stem.into(),
    };
    match epochs.parse::<u64>() {
        Ok(0) if what == "Attention" => {
            "Attention of the class token before training: image, mean over heads, each head".into()
        }
        Ok(0) => {
            "Activation before training: image, and the share of each position in its feature, over the image and \
             alone"
                .into()
        }
        Ok(1) => format!("{what} after 1 epoch"),
        Ok(epochs) => format!("{what} after {epochs} epochs"),
        Err(_) => stem.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_are_described_by_their_names() {
        let caption = |name: &str| caption(std::path::Path::new(name));
        assert!(caption("attention-epoch-0000.png").contains("each head"));
        assert!(caption("activation-epoch-0000.png").starts_with("Activation before"));
        assert_eq!(
            caption("attention-epoch-0001.png"),
            "Attention after 1 epoch"
        );
        assert_eq!(
            caption("activation-epoch-0012.png"),
            "Activation after 12 epochs"
        );
        for other in ["mine", "mine-epoch-2", "attention-epoch-last"] {
            assert_eq!(caption(&format!("{other}.png")), other);
        }
    }

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
