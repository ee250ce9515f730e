//! Remedies for the failure modes of a run, as settings and values.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Context;

/// A setting that a remedy changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Setting {
    /// Peak learning rate for a batch of 256.
    LearningRate,
    /// Largest norm of each parameter's gradient; 0 disables.
    GradientClip,
    /// Epochs of the learning rate's warm-up.
    WarmupEpochs,
    /// Teacher temperature after its warm-up.
    TeacherTemp,
    /// Teacher momentum at the start.
    TeacherMomentum,
    /// Momentum of the centre.
    CentreMomentum,
    /// Weight decay at the end.
    WeightDecayEnd,
    /// Number of prototypes K.
    OutDim,
    /// Weight of SIGReg in the loss.
    SigRegWeight,
    /// Weight of VISReg's regulariser in the loss.
    VisRegWeight,
    /// Weight of the coding rate in the loss.
    CodingRateWeight,
}

impl Setting {
    /// In words.
    fn words(self) -> &'static str {
        match self {
            Self::LearningRate => "learning rate",
            Self::GradientClip => "largest norm of gradients",
            Self::WarmupEpochs => "warm-up in epochs",
            Self::TeacherTemp => "teacher's temperature",
            Self::TeacherMomentum => "teacher's momentum",
            Self::CentreMomentum => "centre's momentum",
            Self::WeightDecayEnd => "weight decay at the end",
            Self::OutDim => "number of prototypes",
            Self::SigRegWeight => "weight of SIGReg",
            Self::VisRegWeight => "weight of the regulariser",
            Self::CodingRateWeight => "weight of the coding rate",
        }
    }
}

/// A setting's new value, which differs from the one it has.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Adjustment {
    /// The setting.
    pub setting: Setting,
    /// Its value now.
    pub from: f64,
    /// The value to try, within the setting's range.
    pub to: f64,
}

impl fmt::Display for Adjustment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how = if self.setting == Setting::GradientClip && self.from == 0.0 {
            "set"
        } else if self.to > self.from {
            "raise"
        } else {
            "lower"
        };
        let (from, to) = (short(self.from), short(self.to));
        write!(f, "{how} the {} from {from} to {to}", self.setting.words())
    }
}

/// One remedy for a failure mode.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Remedy {
    /// Resume the run, from its last sound checkpoint, with these changes.
    Resume(Vec<Adjustment>),
    /// Start a new run with these changes: what went wrong cannot be trained away, or the
    /// network changes.
    NewRun(Vec<Adjustment>),
    /// Resume the run in full precision, to tell its rounding from its settings.
    FullPrecision,
    /// Look at the images, which may all be alike.
    CheckImages,
    /// Correct the code that trains, as these words say.
    Correct(String),
}

impl fmt::Display for Remedy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |adjustments: &[Adjustment]| {
            let words: Vec<String> = adjustments.iter().map(ToString::to_string).collect();
            words.join(" and ")
        };
        match self {
            Self::Resume(adjustments) => write!(f, "{}", list(adjustments)),
            Self::NewRun(adjustments) => write!(f, "{} in a new run", list(adjustments)),
            Self::FullPrecision => f.write_str("resume in full precision"),
            Self::CheckImages => f.write_str("check that the images differ"),
            Self::Correct(what) => f.write_str(what),
        }
    }
}

/// What helps a run whose loss, gradients or weights are no longer numbers; the likeliest first.
pub fn after_divergence(context: &Context) -> Vec<Remedy> {
    let both: Vec<_> = [context.lower_lr(), context.harder_clip()]
        .into_iter()
        .flatten()
        .collect();
    let mut remedies = vec![Remedy::Resume(both)];
    remedies.extend(context.reduced_precision.then_some(Remedy::FullPrecision));
    remedies
}

/// One remedy for each adjustment that there is.
pub(super) fn each(
    remedy: impl Fn(Vec<Adjustment>) -> Remedy,
    adjustments: impl IntoIterator<Item = Option<Adjustment>>,
) -> Vec<Remedy> {
    let adjustments = adjustments.into_iter().flatten();
    adjustments
        .map(|adjustment| remedy(vec![adjustment]))
        .collect()
}

/// `None` where the value, as it is printed, is the one that the setting has.
fn adjust(setting: Setting, from: f64, to: f64) -> Option<Adjustment> {
    let to = short(to).parse().unwrap_or(to);
    (to != from && to.is_finite()).then_some(Adjustment { setting, from, to })
}

impl Context {
    pub(super) fn lower_lr(&self) -> Option<Adjustment> {
        // Half of a value that is far out of range still is.
        let to = if self.lr > 0.01 {
            0.0005
        } else {
            self.lr / 2.0
        };
        adjust(Setting::LearningRate, self.lr, to)
    }

    pub(super) fn harder_clip(&self) -> Option<Adjustment> {
        let (from, to) = match self.clip_grad {
            Some(clip) => (clip, (clip / 3.0).min(3.0)),
            None => (0.0, 3.0),
        };
        adjust(Setting::GradientClip, from, to)
    }

    pub(super) fn longer_warmup(&self) -> Option<Adjustment> {
        let from = self.warmup_epochs;
        let to = (2.0 * from)
            .max(10f64.min(0.2 * self.epochs))
            .min(0.5 * self.epochs);
        adjust(Setting::WarmupEpochs, from, to).filter(|warmup| warmup.to > from)
    }

    pub(super) fn sharper_teacher(&self) -> Option<Adjustment> {
        let from = self.teacher.as_ref()?.teacher_temp;
        adjust(Setting::TeacherTemp, from, (from / 2.0).max(0.02)).filter(|temp| temp.to < from)
    }

    pub(super) fn warmer_teacher(&self) -> Option<Adjustment> {
        let from = self.teacher.as_ref()?.teacher_temp;
        adjust(Setting::TeacherTemp, from, (from * 1.5).min(0.07)).filter(|temp| temp.to > from)
    }

    pub(super) fn slower_teacher(&self) -> Option<Adjustment> {
        let from = self.teacher.as_ref()?.momentum_teacher;
        // A teacher of momentum 1 would not follow at all.
        adjust(Setting::TeacherMomentum, from, 1.0 - (1.0 - from) / 2.0)
            .filter(|momentum| momentum.to < 1.0)
    }

    /// Where the centre hardly moves.
    pub(super) fn centring(&self) -> Option<Adjustment> {
        let from = self.teacher.as_ref()?.center_momentum;
        adjust(Setting::CentreMomentum, from, 0.9).filter(|_| from > 0.99)
    }

    pub(super) fn less_decay(&self) -> Option<Adjustment> {
        let from = self.weight_decay_end;
        adjust(Setting::WeightDecayEnd, from, from / 2.0)
    }

    pub(super) fn more_sigreg(&self) -> Option<Adjustment> {
        let from = self.sigreg_weight?;
        adjust(Setting::SigRegWeight, from, (2.0 * from).clamp(0.02, 0.5))
            .filter(|weight| weight.to > from)
    }

    pub(super) fn more_visreg(&self) -> Option<Adjustment> {
        let from = self.visreg_weight?;
        // Of the part that invariance has, half.
        adjust(Setting::VisRegWeight, from, (1.0 + from).min(1.9) / 2.0)
            .filter(|weight| weight.to > from)
    }

    pub(super) fn more_coding_rate(&self) -> Option<Adjustment> {
        let from = self.coding_rate_weight?;
        adjust(Setting::CodingRateWeight, from, (2.0 * from).max(0.01))
            .filter(|weight| weight.to > from)
    }

    pub(super) fn more_prototypes(&self, out_dim: usize) -> Option<Adjustment> {
        let from = out_dim as f64;
        let suited = self.teacher.as_ref()?.suited_out_dim as f64;
        adjust(Setting::OutDim, from, suited).filter(|more| more.to > from)
    }

    pub(super) fn fewer_prototypes(&self, out_dim: usize) -> Option<Adjustment> {
        let from = out_dim as f64;
        let suited = self.teacher.as_ref()?.suited_out_dim as f64;
        adjust(Setting::OutDim, from, suited).filter(|fewer| fewer.to < from)
    }
}

/// Four significant digits without trailing zeros.
pub(super) fn short(value: f64) -> String {
    if value == 0.0 || !value.is_finite() {
        return value.to_string();
    }
    let magnitude = value.abs().log10().floor();
    if !(-5.0..6.0).contains(&magnitude) {
        return format!("{value:.2e}");
    }
    let decimals = (3.0 - magnitude).max(0.0) as usize;
    let text = format!("{value:.decimals$}");
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_string()
    } else {
        text
    }
}
