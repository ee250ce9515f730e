//! What is wrong with a run, from its figures: a run folder of dinolab, its `metrics.jsonl`, a file
//! that another program wrote in its manner, or the reference's `log.txt`.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::Value;

use crate::error::{Context as _, Result};
use crate::health::{Context, FailureMode, Health, Invariants, Warning, diagnose};
use crate::report::charts::{Line, number, of_kind};
use crate::run_folder::RunFolder;
use crate::run_folder::contents::Contents;
use crate::train_observer::context;

/// Steps that an epoch is taken to have where the file does not say.
const STEPS: u64 = 200;
/// Prototypes of the reference, unless told otherwise.
const OF_REFERENCE: usize = 65_536;

/// Something wrong, and when.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Finding {
    /// What, as it showed last.
    #[serde(flatten)]
    pub warning: Warning,
    /// First epoch that showed it, from 1.
    pub first_epoch: usize,
    /// Last epoch that showed it, from 1.
    pub last_epoch: usize,
}

/// What the figures of a run say.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Examination {
    /// The file that was read.
    pub file: PathBuf,
    /// Epochs that it has figures of.
    pub epochs: usize,
    /// What is wrong, causes before their effects; empty for a healthy run.
    pub findings: Vec<Finding>,
    /// What could not be judged, with the figures that it takes.
    pub not_judged: Vec<NotJudged>,
}

/// What could not be judged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NotJudged {
    /// The figures that are not in the file, by their names there.
    pub missing: &'static str,
    /// What they would tell.
    pub tells: &'static str,
}

/// Judges the run in `path`: a run folder, or a file of JSON lines. `out_dim` is the number of
/// prototypes where the file does not say it, as the reference's does not.
///
/// # Errors
/// A place that is not there, a file without figures of epochs.
pub fn examine(path: &Path, out_dim: Option<usize>) -> Result<Examination> {
    let file = match path.is_dir() {
        true => path.join("metrics.jsonl"),
        false => path.to_owned(),
    };
    ensure!(
        file.exists(),
        "{}: {}",
        path.display(),
        match path.is_dir() {
            true => "a folder without metrics.jsonl; give a run folder or a log file",
            false => "there is no such file or folder",
        }
    );
    let lines = read(&file)?;
    let epochs = epochs(&lines, out_dim);
    ensure!(
        !epochs.is_empty(),
        "{}: no line has figures of an epoch: neither \"kind\": \"epoch\" nor the reference's train_loss",
        file.display()
    );
    let of_run = match path.is_dir() {
        true => of_folder(path)?,
        false => None,
    };
    let context = of_run.unwrap_or_else(|| of_lines(&lines, epochs.len()));
    let mut findings: Vec<Finding> = Vec::new();
    for (number, health) in epochs.iter().enumerate() {
        for warning in diagnose(health, &epochs[..number], &context) {
            let epoch = number + 1;
            let known = |finding: &&mut Finding| finding.warning.failure == warning.failure;
            match findings.iter_mut().find(known) {
                Some(finding) => {
                    finding.warning = warning;
                    finding.last_epoch = epoch;
                }
                None => findings.push(Finding {
                    warning,
                    first_epoch: epoch,
                    last_epoch: epoch,
                }),
            }
        }
    }
    findings.sort_by_key(|finding| !finding.warning.failure.is_of_code());
    Ok(Examination {
        file,
        epochs: epochs.len(),
        findings,
        not_judged: not_judged(&epochs),
    })
}

/// All lines of a log. One that is not whole may only be the last, which is being written.
fn read(file: &Path) -> Result<Vec<Line>> {
    let text =
        std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| !line.trim().is_empty())
        .collect();
    let mut parsed = Vec::new();
    for (number, line) in lines.iter().enumerate() {
        // Python writes what JSON does not have.
        let finite = ["-Infinity", "Infinity", "NaN"]
            .iter()
            .fold((*line).to_owned(), |line, name| {
                line.replace(&format!(": {name}"), ": null")
            });
        match serde_json::from_str(&finite) {
            Ok(line) => parsed.push(line),
            Err(_) if number + 1 == lines.len() => {}
            Err(error) => bail!(
                "{}: line {} is no JSON object: {error}; a log has one in each line",
                file.display(),
                number + 1
            ),
        }
    }
    Ok(parsed)
}

/// Figures of each epoch, by the names of `metrics.jsonl` or of the reference.
fn epochs(lines: &[Line], out_dim: Option<usize>) -> Vec<Health> {
    let own: Vec<Health> = of_kind(lines, "epoch")
        .filter_map(|line| serde_json::from_value(Value::Object(line.clone())).ok())
        .collect();
    if !own.is_empty() {
        return own;
    }
    let of_reference = lines.iter().filter(|line| line.contains_key("train_loss"));
    of_reference
        .enumerate()
        .map(|(epoch, line)| {
            let loss = number(line, "train_loss").filter(|loss| loss.is_finite());
            Health {
                epoch,
                steps: STEPS,
                // JSON has no NaN: a loss that is one is written as something that is no number.
                non_finite_steps: u64::from(loss.is_none()),
                loss,
                out_dim: out_dim.unwrap_or(OF_REFERENCE),
                ..Health::default()
            }
        })
        .collect()
}

/// What dinolab knows of its own run.
fn of_folder(path: &Path) -> Result<Option<Context>> {
    let folder = RunFolder::new(path);
    let Some(settings) = folder.settings()? else {
        return Ok(None);
    };
    let recorded = Contents::read(&folder.join("images.tsv"))?;
    let images = recorded.map_or(0, |contents| contents.trained_on());
    let (config, _) = settings.resolve(images).context("its config.toml")?;
    Ok(Some(context(&config, images)))
}

/// What lines without a run say.
fn of_lines(lines: &[Line], epochs: usize) -> Context {
    let last = |keys: [&str; 2]| {
        let mut newest = lines.iter().rev();
        newest
            .find_map(|line| keys.iter().find_map(|key| number(line, key)))
            .unwrap_or_default()
    };
    let rates = lines
        .iter()
        .filter_map(|line| number(line, "lr").or_else(|| number(line, "train_lr")));
    Context {
        images: usize::MAX,
        epochs: epochs as f64,
        warmup_epochs: 0.0,
        freeze_backbone_epochs: 0.0,
        lr: rates.fold(0.0, f64::max),
        teacher: None,
        sigreg_weight: None,
        visreg_weight: None,
        coding_rate_weight: None,
        weight_decay_end: last(["weight_decay", "train_wd"]),
        clip_grad: None,
        reduced_precision: false,
    }
}

fn not_judged(epochs: &[Health]) -> Vec<NotJudged> {
    let has = |test: fn(&Health) -> bool| epochs.iter().any(test);
    let of_code = |test: fn(&Invariants) -> bool| epochs.iter().any(|h| test(&h.invariants));
    // A method without prototypes has figures of embeddings, and none of DINO's code.
    let of_embeddings = has(|h| h.embedding_std.is_some());
    [
        (
            has(|h| h.teacher_entropy.is_some()) || of_embeddings,
            "teacher_entropy, marginal_entropy, mutual_information, kl",
            "whether outputs have collapsed",
        ),
        (
            has(|h| h.feature_std.is_some()),
            "feature_std, feature_rank",
            "whether features have collapsed",
        ),
        (
            of_code(|i| i.cross_entropy.is_some()) || of_embeddings,
            "measured_loss, cross_entropy",
            "whether the loss is the cross entropy of the outputs",
        ),
        (
            of_code(|i| i.teacher_step.is_some()) || of_embeddings,
            "initial_distance, teacher_step, teacher_lag",
            "whether the teacher is an average of the student",
        ),
        (
            of_code(|i| i.pixel_min.is_some()),
            "pixel_min, pixel_max",
            "whether crops are normalised once",
        ),
    ]
    .into_iter()
    .filter(|(judged, ..)| !judged)
    .map(|(_, missing, tells)| NotJudged { missing, tells })
    .collect()
}

impl Examination {
    /// What showed until the end, or is a mistake of the code whenever it showed.
    pub fn is_healthy(&self) -> bool {
        let grave = |finding: &Finding| {
            finding.last_epoch == self.epochs || finding.warning.failure.is_of_code()
        };
        !self.findings.iter().any(grave)
    }

    /// The likeliest cause, if something is wrong.
    pub fn cause(&self) -> Option<FailureMode> {
        self.findings.first().map(|finding| finding.warning.failure)
    }
}

impl fmt::Display for Examination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.epochs == 1 { "" } else { "s" };
        let file = self.file.display();
        writeln!(f, "{file}: {} epoch{plural}", self.epochs)?;
        for finding in &self.findings {
            let (first, last) = (finding.first_epoch, finding.last_epoch);
            let when = match first == last {
                true => format!("epoch {first}"),
                false => format!("epochs {first} to {last}"),
            };
            let until = if last < self.epochs {
                ", not later"
            } else {
                ""
            };
            let failure = finding.warning.failure;
            writeln!(f, "\n{failure} ({when}{until})\n  {}", finding.warning)?;
        }
        if self.findings.is_empty() {
            writeln!(f, "nothing is wrong with its figures")?;
        }
        if !self.not_judged.is_empty() {
            writeln!(f, "\nnot judged, for want of figures:")?;
        }
        for NotJudged { missing, tells } in &self.not_judged {
            writeln!(f, "  {tells} ({missing})")?;
        }
        Ok(())
    }
}
