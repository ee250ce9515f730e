//! A run with a mistake beside the right one.

use std::fmt;
use std::path::Path;

use dinolab_view::report::{Chart, Report};

use super::{Mistake, ShortRun};
use crate::error::{Context, Result};
use crate::health::Health;
use crate::mistakes::EPOCHS;

/// Two runs of the same images and seed.
#[derive(Clone, Debug)]
pub struct Lesson {
    /// The mistake.
    pub mistake: Mistake,
    /// Without it.
    pub right: ShortRun,
    /// With it.
    pub wrong: ShortRun,
}

impl Lesson {
    /// Trains both, a minute or less each. `each` hears of every epoch that is done.
    ///
    /// # Errors
    /// [`dinolab_train::Error::NonFiniteLoss`].
    pub fn train(
        mistake: Mistake,
        seed: u64,
        each: &mut dyn FnMut(Option<Mistake>, &Health),
    ) -> Result<Self> {
        let mut run =
            |of: Option<Mistake>| ShortRun::train(of, seed, EPOCHS, &mut |health| each(of, health));
        Ok(Self {
            mistake,
            right: run(None)?,
            wrong: run(Some(mistake))?,
        })
    }

    /// Writes the figures of both as `right/metrics.jsonl` and under the mistake's name, and their curves
    /// as `report.html`.
    ///
    /// # Errors
    /// A folder or file that cannot be written.
    pub fn write(&self, folder: &Path) -> Result<()> {
        for (name, run) in [("right", &self.right), (self.mistake.name(), &self.wrong)] {
            let folder = folder.join(name);
            std::fs::create_dir_all(&folder)
                .with_context(|| format!("cannot make {}", folder.display()))?;
            run.write(&folder)?;
        }
        Ok(self.report().write(folder.join("report.html"))?)
    }

    fn report(&self) -> Report {
        let mistake = self.mistake;
        let lines = |of: &dyn Fn(&ShortRun) -> Vec<(f64, f64)>| {
            vec![
                ("right".to_owned(), of(&self.right)),
                (mistake.name().to_owned(), of(&self.wrong)),
            ]
        };
        let by_epoch = |figure: &dyn Fn(&Health) -> Option<f64>| {
            lines(&|run| {
                let points = run.epochs.iter();
                let points =
                    points.filter_map(|health| Some((health.epoch as f64 + 1.0, figure(health)?)));
                points.collect()
            })
        };
        let chart = |title: &str, y_label: &str, x_label: &str, lines| Chart {
            title: title.into(),
            note: String::new(),
            y_label: y_label.into(),
            x_label: x_label.into(),
            lines,
        };
        Report {
            title: format!("A mistake: {mistake}"),
            warnings: self.warning().into_iter().collect(),
            charts: vec![
                chart(
                    "Loss",
                    "nats",
                    "step",
                    lines(&|run| {
                        let steps = (1..).map(f64::from);
                        steps.zip(run.losses.iter().copied()).collect()
                    }),
                ),
                chart(
                    mistake.sign(),
                    "",
                    "epoch",
                    by_epoch(&|health| mistake.sign_of(health)),
                ),
                chart(
                    "Entropy of the teacher's targets",
                    "nats",
                    "epoch",
                    by_epoch(&|h| h.teacher_entropy),
                ),
                chart(
                    "Entropy over all images",
                    "nats",
                    "epoch",
                    by_epoch(&|h| h.marginal_entropy),
                ),
                chart(
                    "Effective rank of the features",
                    "dimensions",
                    "epoch",
                    by_epoch(&|h| h.feature_rank),
                ),
            ],
            ..Report::default()
        }
    }

    /// What the health check says of the mistake.
    fn warning(&self) -> Option<String> {
        let mut all = self.wrong.warnings.iter().flatten();
        all.rfind(|warning| warning.failure == self.mistake.failure())
            .map(ToString::to_string)
    }
}

impl fmt::Display for Lesson {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = self.mistake.sign();
        writeln!(f, "       {:^19}  {:^21}", "loss", sign)?;
        writeln!(
            f,
            "epoch  {:>9} {:>9}  {:>10} {:>10}",
            "right", "mistake", "right", "mistake"
        )?;
        // Adding 0 takes the sign off a 0.
        let rounded = |value: f64| format!("{:.4}", (value * 1e4).round() / 1e4 + 0.0);
        let figure = |value: Option<f64>| value.map_or("-".to_owned(), rounded);
        for (right, wrong) in self.right.epochs.iter().zip(&self.wrong.epochs) {
            let [a, b] = [right, wrong].map(|health| figure(health.loss));
            let [c, d] = [right, wrong].map(|health| figure(self.mistake.sign_of(health)));
            writeln!(f, "{:>5}  {a:>9} {b:>9}  {c:>10} {d:>10}", right.epoch + 1)?;
        }
        match self.warning() {
            Some(warning) => writeln!(f, "\n{}: {warning}", self.mistake.failure()),
            None => writeln!(f, "\nthe health check has not noticed"),
        }
    }
}
