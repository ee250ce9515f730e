//! From figures to plain words.

mod implementation;

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Health;
use super::remedy::{Remedy, each, short};

/// What [`diagnose`] needs about the run, to choose thresholds and suggest values.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Context {
    /// Images in the training set. With a single one a constant output is the right answer.
    pub images: usize,
    /// Length of the schedules, in epochs.
    pub epochs: f64,
    /// Epochs of learning-rate warm-up.
    pub warmup_epochs: f64,
    /// Epochs in which the head alone learns.
    pub freeze_backbone_epochs: f64,
    /// Peak learning rate for a batch of 256.
    pub lr: f64,
    /// What a method with a teacher and prototypes is set to.
    pub teacher: Option<TeacherContext>,
    /// The weight of SIGReg in the loss, of a method that has it.
    pub sigreg_weight: Option<f64>,
    /// The weight of VISReg's regulariser in the loss, of a method that has it.
    pub visreg_weight: Option<f64>,
    /// The weight of the coding rate in the loss, of a method that has it.
    pub coding_rate_weight: Option<f64>,
    /// Weight decay, the final one.
    pub weight_decay_end: f64,
    /// Largest norm of each parameter's gradient, where gradients are clipped.
    pub clip_grad: Option<f64>,
    /// Whether activations and matrix multiplications are in less than single precision.
    pub reduced_precision: bool,
}

/// Settings of a teacher and its outputs over prototypes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TeacherContext {
    /// Teacher temperature, the final one.
    pub teacher_temp: f64,
    /// Teacher momentum, the starting one.
    pub momentum_teacher: f64,
    /// Momentum of the centre.
    pub center_momentum: f64,
    /// Number of prototypes that suits the size of the training set.
    pub suited_out_dim: usize,
}

/// A failure mode of training.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureMode {
    /// The same output for every image, concentrated on few prototypes.
    ConstantOutput,
    /// The same output for every image, spread evenly over all prototypes.
    UniformOutput,
    /// Loss not finite, rising, or worse than guessing; or gradients exploding.
    Divergence,
    /// The backbone's features are all alike or lie along one line.
    FeatureCollapse,
    /// The embeddings are all alike or lie along one line.
    EmbeddingCollapse,
    /// The outputs for all masked patches are the same.
    PatchCollapse,
    /// The student falls ever further behind the teacher.
    StudentNotFollowing,
    /// Student and teacher start from different weights.
    DifferentInitialWeights,
    /// The teacher changes by more than its moving average.
    TeacherTrained,
    /// The teacher is the student of the step before.
    TeacherCopiesStudent,
    /// Pixels are outside of what normalised ones can be.
    PixelRange,
    /// The student's probabilities go through a softmax again.
    SoftmaxTwice,
    /// Views of different images are compared.
    MixedViews,
    /// Views are compared with themselves.
    SameView,
    /// The loss is not the cross entropy of the outputs, for another reason.
    OtherLoss,
    /// Nothing is subtracted from the teacher's logits.
    NoCentring,
    /// The teacher's temperature is not below the student's.
    NoSharpening,
    /// All images fit into the prototypes' combinations that there are.
    TooFewPrototypes,
}

impl FailureMode {
    /// Whether it is a mistake of the code that trains, or of its settings, and not an effect.
    pub fn is_of_code(self) -> bool {
        match self {
            Self::ConstantOutput
            | Self::UniformOutput
            | Self::Divergence
            | Self::FeatureCollapse
            | Self::EmbeddingCollapse
            | Self::PatchCollapse
            | Self::StudentNotFollowing => false,
            Self::DifferentInitialWeights
            | Self::TeacherTrained
            | Self::TeacherCopiesStudent
            | Self::PixelRange
            | Self::SoftmaxTwice
            | Self::MixedViews
            | Self::SameView
            | Self::OtherLoss
            | Self::NoCentring
            | Self::NoSharpening
            | Self::TooFewPrototypes => true,
        }
    }
}

impl fmt::Display for FailureMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ConstantOutput => "constant output",
            Self::UniformOutput => "uniform output",
            Self::Divergence => "divergence",
            Self::FeatureCollapse => "collapsed features",
            Self::EmbeddingCollapse => "collapsed embeddings",
            Self::PatchCollapse => "collapsed patches",
            Self::StudentNotFollowing => "student not following",
            Self::DifferentInitialWeights => "different initial weights",
            Self::TeacherTrained => "trained teacher",
            Self::TeacherCopiesStudent => "teacher copies student",
            Self::PixelRange => "crops normalised twice, or never",
            Self::SoftmaxTwice => "softmax twice",
            Self::MixedViews => "views of other images",
            Self::SameView => "same view",
            Self::OtherLoss => "another loss",
            Self::NoCentring => "no centring",
            Self::NoSharpening => "no sharpening",
            Self::TooFewPrototypes => "too few prototypes",
        })
    }
}

/// Something that needs attention, in plain words.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Warning {
    /// Which failure mode.
    #[serde(alias = "trouble")]
    pub failure: FailureMode,
    /// What was seen, with numbers.
    pub seen: String,
    /// What it means.
    pub meaning: String,
    /// What to do about it: any one of these, the likeliest first.
    pub remedies: Vec<Remedy>,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let remedies: Vec<String> = self.remedies.iter().map(ToString::to_string).collect();
        write!(f, "{} {} What may help: ", self.seen, self.meaning)?;
        write!(f, "{}.", remedies.join("; or "))
    }
}

/// Limits of [`diagnose`], with their reasons.
mod limit {
    /// Complete epochs before outputs or features are checked (besides warm-up): a fresh
    /// network's outputs are close to uniform and its features alike.
    pub const GRACE_EPOCHS: usize = 2;
    /// Steps before they are checked: an epoch of a small set is only a few steps.
    pub const GRACE_STEPS: u64 = 200;
    /// Information, as a share of the most that the sampled rows could show, under which
    /// the output is called the same for every image. Sampling can only overstate it.
    pub const SAME_OUTPUT: f64 = 0.005;
    /// Entropy, as a share of ln K, above which a row is uniform. At teacher temperature
    /// 0.04 logits need only differ by a hundredth to get below.
    pub const UNIFORM: f64 = 0.98;
    /// Loss within this share of ln K is "stuck at ln K".
    pub const AT_LN_K: f64 = 0.02;
    /// Loss above ln K by this factor is worse than guessing. A fresh student is at ln K.
    pub const WORSE_THAN_GUESSING: f64 = 1.25;
    /// Epochs in a row that a figure has to rise.
    pub const RISES: usize = 3;
    /// Rise over them, as a share of ln K, of the loss above the teacher's entropy. The
    /// entropy itself may rise by nats while a network learns, and the loss with it.
    pub const LOSS_RISE: f64 = 0.1;
    /// Gradient norm against the median of earlier epochs. Ordinary runs vary by 2 to 4.
    pub const GRADIENT_RISE: f64 = 10.0;
    /// Spread of 0.03 is a mean cosine of 0.999 between images; a fresh ViT is near 0.1.
    pub const FEATURE_SPREAD: f64 = 0.03;
    /// One direction holds nearly all the variance.
    pub const FEATURE_RANK: f64 = 1.5;
    /// Standard deviation of embeddings that are nearly constant. SIGReg draws it to 1.
    pub const EMBEDDING_STD: f64 = 0.1;
    /// One direction holds nearly all the variance of the embeddings.
    pub const EMBEDDING_RANK: f64 = 1.5;
    /// KL, as a share of ln K, that is much. A student that follows is at a tenth or two.
    pub const KL: f64 = 0.3;
}

/// Compares an epoch with those before it (`history`, oldest first, without `health`) and
/// returns what is wrong, gravest first; nothing for a healthy run.
///
/// Outputs and features are checked only after warm-up, two epochs and 200 steps, and only if
/// the epoch before looked the same; a loss that is not finite is reported at once.
pub fn diagnose(health: &Health, history: &[Health], context: &Context) -> Vec<Warning> {
    let case = Case {
        now: health,
        history,
        context,
        ln_k: health.max_entropy(),
    };
    let settled = case.settled();
    let mut warnings = case.mistakes();
    warnings.extend(case.divergence());
    if settled && context.images > 1 {
        let output = case.uniform_output().or_else(|| case.constant_output());
        let output = output.or_else(|| case.loss_alone());
        warnings.extend(output);
        warnings.extend(case.embedding_collapse());
        warnings.extend(case.patch_collapse());
        warnings.extend(case.feature_collapse());
    }
    if settled {
        warnings.extend(case.student_not_following());
    }
    for warning in &mut warnings {
        if warning.remedies.is_empty() {
            // Every setting that could matter is at its end already.
            warning.remedies.push(Remedy::CheckImages);
        }
    }
    warnings
}

struct Case<'a> {
    now: &'a Health,
    history: &'a [Health],
    context: &'a Context,
    ln_k: f64,
}

impl Case<'_> {
    fn settled(&self) -> bool {
        let earlier: u64 = self.history.iter().map(|h| h.steps).sum();
        self.now.epoch >= limit::GRACE_EPOCHS.max(self.context.warmup_epochs.ceil() as usize)
            && earlier + self.now.steps >= limit::GRACE_STEPS
    }

    /// Holds now and held in the epoch before.
    fn persists(&self, test: impl Fn(&Health) -> bool) -> bool {
        test(self.now) && self.history.last().is_some_and(test)
    }

    /// By how much a figure rose over the last epochs, if it rose in each of them while the
    /// teacher's temperature stood still (a warmer teacher raises the loss by itself).
    fn steady_rise(&self, figure: impl Fn(&Health) -> Option<f64>) -> Option<f64> {
        let before = self.history.len().checked_sub(limit::RISES)?;
        let recent: Vec<&Health> = self.history[before..].iter().chain([self.now]).collect();
        let values = recent
            .iter()
            .map(|h| figure(h))
            .collect::<Option<Vec<_>>>()?;
        let temps: Vec<f64> = recent.iter().filter_map(|h| h.teacher_temp).collect();
        let warming = temps.windows(2).any(|t| t[1] > t[0] * 1.001);
        let rising = values.windows(2).all(|v| v[1] > v[0]);
        (rising && !warming).then(|| values[limit::RISES] - values[0])
    }

    /// What rises of the loss are measured by: ln K, or without prototypes the first epoch's loss.
    fn loss_scale(&self) -> f64 {
        match self.now.out_dim {
            0 => self
                .history
                .first()
                .and_then(|first| first.loss)
                .map_or(f64::INFINITY, f64::abs),
            _ => self.ln_k,
        }
    }

    fn divergence(&self) -> Option<Warning> {
        let now = self.now;
        let seen = if now.non_finite_steps > 0 {
            format!(
                "{} of {} steps had a loss or gradient that was not a number.",
                now.non_finite_steps, now.steps
            )
        } else if now.non_finite_rows > 0 {
            format!(
                "{} sampled output rows held values that are not numbers.",
                now.non_finite_rows
            )
        } else if let Some(loss) = now
            .cross_entropy()
            .filter(|_| self.settled() && now.out_dim > 0)
            .filter(|&l| l > limit::WORSE_THAN_GUESSING * self.ln_k.max(1.0))
        {
            format!(
                "The loss is {loss:.3}, above the {:.3} (ln K) of plain guessing.",
                self.ln_k
            )
        } else if let Some(rise) = self
            .steady_rise(Health::cross_entropy)
            // A teacher that sharpens raises the excess, but then the loss itself falls.
            .and_then(|_| self.steady_rise(Health::excess))
            .filter(|&rise| self.settled() && rise > limit::LOSS_RISE * self.loss_scale())
        {
            let beyond = match now.out_dim {
                0 => "",
                _ => ", beyond what the teacher's entropy accounts for",
            };
            format!(
                "The loss rose by {rise:.3} over the last {} epochs, to {:.3}{beyond}.",
                limit::RISES,
                now.cross_entropy().unwrap_or_default()
            )
        } else if let Some((norm, usual)) = self.exploding_gradient() {
            format!(
                "The gradient norm is {} on average; in earlier epochs it was {}.",
                short(norm),
                short(usual)
            )
        } else {
            return None;
        };
        let mut remedies = each(
            Remedy::Resume,
            [self.context.lower_lr(), self.context.harder_clip()],
        );
        remedies.extend(each(Remedy::NewRun, [self.context.longer_warmup()]));
        let reduced = self.context.reduced_precision;
        remedies.extend(reduced.then_some(Remedy::FullPrecision));
        Some(Warning {
            failure: FailureMode::Divergence,
            seen,
            meaning: "Training is diverging: the update steps are too large.".into(),
            remedies,
        })
    }

    fn exploding_gradient(&self) -> Option<(f64, f64)> {
        // Those of the head alone are no measure.
        let whole = |h: &&Health| h.epoch as f64 >= self.context.freeze_backbone_epochs;
        let earlier = self.history.iter().filter(whole);
        let mut earlier: Vec<f64> = earlier.filter_map(|h| h.grad_norm).collect();
        if earlier.len() < 2 {
            return None;
        }
        earlier.sort_by(f64::total_cmp);
        let usual = earlier[earlier.len() / 2];
        let norm = self.now.grad_norm?;
        (norm > limit::GRADIENT_RISE * usual && usual > 0.0).then_some((norm, usual))
    }

    fn uniform_output(&self) -> Option<Warning> {
        let uniform = |h: &Health| {
            h.teacher_entropy
                .is_some_and(|e| e > limit::UNIFORM * self.ln_k)
                && h.cross_entropy()
                    .is_none_or(|l| (l - self.ln_k).abs() < limit::AT_LN_K * self.ln_k)
        };
        if !self.persists(uniform) || self.now.out_dim < 2 {
            return None;
        }
        let mut remedies = each(Remedy::Resume, [self.context.sharper_teacher()]);
        remedies.extend(each(
            Remedy::NewRun,
            [
                self.context.fewer_prototypes(self.now.out_dim),
                self.context.longer_warmup(),
            ],
        ));
        Some(Warning {
            failure: FailureMode::UniformOutput,
            seen: format!(
                "The teacher's entropy is {:.3} of at most {:.3} (ln K){}.",
                self.now.teacher_entropy?,
                self.ln_k,
                self.now
                    .cross_entropy()
                    .map_or_else(String::new, |l| format!(" and the loss stays at {l:.3}")),
            ),
            meaning: "Every image gets the same weight on every prototype: the output has \
                      collapsed to uniform and nothing is learned."
                .into(),
            remedies,
        })
    }

    /// What a loss tells where there is no other figure of the outputs.
    fn loss_alone(&self) -> Option<Warning> {
        if self.now.teacher_entropy.is_some() || self.now.out_dim < 2 {
            return None;
        }
        let loss = self.now.cross_entropy()?;
        let guessing = |h: &Health| {
            h.cross_entropy()
                .is_some_and(|l| (l - self.ln_k).abs() < limit::AT_LN_K * self.ln_k)
        };
        let vanished = |h: &Health| {
            h.cross_entropy()
                .is_some_and(|l| l < limit::AT_LN_K * self.ln_k)
        };
        let (failure, meaning) = if self.persists(guessing) {
            (
                FailureMode::UniformOutput,
                "That is guessing: the output is uniform, or the loss is not of the outputs, as with a \
                 softmax too many.",
            )
        } else if self.persists(vanished) {
            (
                FailureMode::ConstantOutput,
                "No two views are that alike: every image gets the same output, as without a centre.",
            )
        } else {
            return None;
        };
        Some(Warning {
            failure,
            seen: format!("The loss stays at {loss:.3}; ln K is {:.3}.", self.ln_k),
            meaning: meaning.into(),
            remedies: vec![Remedy::Correct(
                "log the entropies of the teacher's targets, which tell the cause".into(),
            )],
        })
    }

    fn constant_output(&self) -> Option<Warning> {
        let same = |h: &Health| {
            let most = (h.rows.max(2) as f64).min(h.out_dim as f64).ln();
            h.mutual_information
                .is_some_and(|i| most > 0.0 && i < limit::SAME_OUTPUT * most)
                && h.teacher_entropy
                    .is_some_and(|e| e <= limit::UNIFORM * self.ln_k)
        };
        if !self.persists(same) {
            return None;
        }
        let prototypes = self.now.marginal_entropy?.exp();
        Some(Warning {
            failure: FailureMode::ConstantOutput,
            seen: format!(
                "All images together use about {prototypes:.1} of {} prototypes, and every image \
                 uses the same ones (entropy {:.3} per image, {:.3} over all images).",
                self.now.out_dim, self.now.teacher_entropy?, self.now.marginal_entropy?,
            ),
            meaning: "Every image gets the same output: it has collapsed to a constant, and a \
                      low loss means nothing."
                .into(),
            remedies: each(
                Remedy::Resume,
                [
                    self.context.centring(),
                    self.context.slower_teacher(),
                    self.context.lower_lr(),
                    self.context.warmer_teacher(),
                ],
            ),
        })
    }

    fn feature_collapse(&self) -> Option<Warning> {
        let collapsed = |h: &Health| {
            h.feature_std.is_some_and(|s| s < limit::FEATURE_SPREAD)
                || h.feature_rank.is_some_and(|r| r < limit::FEATURE_RANK)
        };
        // Three images span a plane at most: no rank to judge.
        if !self.persists(collapsed) || self.context.images < 4 {
            return None;
        }
        Some(Warning {
            failure: FailureMode::FeatureCollapse,
            seen: format!(
                "The features' standard deviation is {:.4} (0: constant, 1: even) and their \
                 effective rank {:.2}.",
                self.now.feature_std?, self.now.feature_rank?
            ),
            meaning: "The backbone gives nearly the same feature to every image, or features \
                      along a single line."
                .into(),
            // Features that are alike give no gradient that tells them apart again.
            remedies: each(
                Remedy::NewRun,
                [
                    self.context.lower_lr(),
                    self.context.less_decay(),
                    self.context.longer_warmup(),
                ],
            )
            .into_iter()
            .chain([Remedy::CheckImages])
            .collect(),
        })
    }

    fn embedding_collapse(&self) -> Option<Warning> {
        let collapsed = |h: &Health| {
            h.embedding_std.is_some_and(|s| s < limit::EMBEDDING_STD)
                || h.embedding_rank.is_some_and(|r| r < limit::EMBEDDING_RANK)
        };
        if !self.persists(collapsed) || self.context.images < 4 {
            return None;
        }
        Some(Warning {
            failure: FailureMode::EmbeddingCollapse,
            seen: format!(
                "The embeddings' standard deviation is {:.4} and their effective rank {:.2}.",
                self.now.embedding_std?, self.now.embedding_rank?
            ),
            meaning:
                "The projection gives nearly the same embedding to every image, or embeddings \
                      along a single line: nothing is learned."
                    .into(),
            remedies: each(
                Remedy::NewRun,
                [
                    self.context.more_sigreg(),
                    self.context.more_visreg(),
                    self.context.more_coding_rate(),
                    self.context.lower_lr(),
                    self.context.longer_warmup(),
                ],
            )
            .into_iter()
            .chain([Remedy::CheckImages])
            .collect(),
        })
    }

    /// Masked patches that all have the same output, uniform or not.
    fn patch_collapse(&self) -> Option<Warning> {
        let uniform = |h: &Health| {
            let most = h.patches.max_entropy();
            most > 0.0
                && h.patches
                    .patch_entropy
                    .is_some_and(|e| e > limit::UNIFORM * most)
                && h.patches
                    .patch_kl
                    .is_some_and(|kl| kl < limit::AT_LN_K * most)
        };
        let constant = |h: &Health| {
            let most = h.patches.max_entropy();
            let figures = h
                .patches
                .patch_entropy
                .zip(h.patches.patch_marginal_entropy);
            most > 0.0
                && figures.is_some_and(|(each, all)| {
                    all - each < limit::SAME_OUTPUT * most && each <= limit::UNIFORM * most
                })
        };
        let (entropy, remedies) = if self.persists(uniform) {
            (
                "the most there can be",
                [
                    self.context.sharper_teacher(),
                    self.context.lower_lr(),
                    None,
                ],
            )
        } else if self.persists(constant) {
            (
                "no less than over all patches",
                [
                    self.context.centring(),
                    self.context.slower_teacher(),
                    self.context.lower_lr(),
                ],
            )
        } else {
            return None;
        };
        Some(Warning {
            failure: FailureMode::PatchCollapse,
            seen: format!(
                "The teacher's entropy for a masked patch is {:.3} of at most {:.3} (ln K), {entropy}.",
                self.now.patches.patch_entropy?,
                self.now.patches.max_entropy()
            ),
            meaning: "Every masked patch gets the same output: predicting them teaches nothing."
                .into(),
            remedies: each(Remedy::Resume, remedies),
        })
    }

    fn student_not_following(&self) -> Option<Warning> {
        let kl = self.now.kl.filter(|&kl| kl > limit::KL * self.ln_k)?;
        // A teacher that sharpens also raises it, but then the loss falls.
        let rise = self.steady_rise(|h| h.kl)?;
        let earlier = self.history[self.history.len() - limit::RISES].loss;
        if earlier
            .zip(self.now.loss)
            .is_some_and(|(then, now)| now < then)
        {
            return None;
        }
        Some(Warning {
            failure: FailureMode::StudentNotFollowing,
            seen: format!(
                "The student's output is {kl:.3} nats from the teacher's, {rise:.3} more than \
                 {} epochs ago, and the loss does not fall.",
                limit::RISES
            ),
            meaning: "The student cannot follow its teacher, which changes or sharpens too \
                      fast."
                .into(),
            remedies: each(
                Remedy::Resume,
                [
                    self.context.slower_teacher(),
                    self.context.warmer_teacher(),
                    self.context.lower_lr(),
                ],
            ),
        })
    }
}
