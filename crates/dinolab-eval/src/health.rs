//! Is the run learning, or has it collapsed or diverged?
//!
//! [`HealthMeter`] gathers figures during an epoch and closes them into [`Health`];
//! [`diagnose`] compares those with earlier epochs and says in plain words what is wrong and
//! what to do about it.
//!
//! With *p* a teacher row `softmax((t − c) / T_t)`, *q* the student's `softmax(s / T_s)` of
//! another view of the same image, and *m* the mean of *p* over an epoch's sampled rows:
//!
//! | figure | formula | range | a healthy run |
//! |---|---|---|---|
//! | teacher entropy | mean of H(p) | 0 – ln K | falls from ln K, stays above 0 |
//! | marginal entropy | H(m) | 0 – ln K | stays high |
//! | information | H(m) − mean H(p) | 0 – ln min(K, rows) | rises: outputs differ between images |
//! | KL | mean of KL(p ‖ q) | 0 – ∞ | small next to ln K |
//! | prototypes used | share of K that is some row's argmax | 1/K – min(1, rows/K) | rises |
//! | effective prototypes | exp(H(m)) / K | 1/K – 1 | stays well above 1/K |
//! | centre norm | Euclidean length of c | 0 – ∞ | levels off |
//! | feature spread | mean over dimensions of the standard deviation of the normalised features, × √D | 0 – 1 | well above 0 |
//! | feature rank | exp of the entropy of the covariance's normalised eigenvalues | 0 – min(D, rows − 1) | rises |
//!
//! Entropies are in nats. The feature rank is the effective rank of Roy and Vetterli (2007),
//! taken of the covariance.

use std::fmt;

use nalgebra::{DMatrix, DMatrixView};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::error::check_length;
use crate::{Error, Result};

/// Rows handled by one task; fixed, so that sums do not depend on threads.
const ROW_BLOCK: usize = 8;

/// Feature rows kept per epoch at most.
const MAX_FEATURES: usize = 512;

/// What one sampled step shows of the outputs.
#[derive(Clone, Copy, Debug)]
pub struct Sample<'a> {
    /// Raw teacher logits `[N, K]`, before centre and temperature.
    pub teacher: &'a [f32],
    /// Raw student logits `[N, K]`: row *n* is another view of the image of teacher row *n*.
    /// May be empty: then there is no KL.
    pub student: &'a [f32],
    /// The centre that the step used, `[K]`.
    pub centre: &'a [f32],
    /// Backbone features of any images, `[M, D]`, normalised or not. May be empty.
    pub features: &'a [f32],
    /// D; ignored where there are no features.
    pub feature_dim: usize,
    /// T_t, above 0.
    pub teacher_temp: f64,
    /// T_s, above 0 (0.1 in the reference).
    pub student_temp: f64,
}

/// Figures of one epoch. `None`: nothing to compute it from. Never NaN, so that it survives
/// JSON. Ranges and formulas are in the [module's table](self).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Health {
    /// Epoch, from 0.
    pub epoch: usize,
    /// Steps taken.
    pub steps: u64,
    /// Steps whose loss or gradient norm was NaN or infinite.
    pub non_finite_steps: u64,
    /// Mean loss over the steps where it was finite.
    pub loss: Option<f64>,
    /// Mean gradient norm before clipping.
    pub grad_norm: Option<f64>,
    /// Largest gradient norm before clipping.
    pub grad_norm_max: Option<f64>,
    /// K.
    pub out_dim: usize,
    /// Teacher rows that the following figures rest on.
    pub rows: u64,
    /// Sampled rows that were left out because they were not finite.
    pub non_finite_rows: u64,
    /// Mean teacher temperature of the samples.
    pub teacher_temp: Option<f64>,
    /// Mean entropy of the teacher's rows, 0 – ln K.
    pub teacher_entropy: Option<f64>,
    /// Entropy of the mean teacher row, 0 – ln K.
    pub marginal_entropy: Option<f64>,
    /// Marginal entropy less teacher entropy, 0 – ln min(K, rows).
    pub information: Option<f64>,
    /// Mean KL(teacher ‖ student), from 0.
    pub kl: Option<f64>,
    /// Share of prototypes that were some row's argmax, 0–1.
    pub used_prototypes: Option<f64>,
    /// exp(marginal entropy) / K, 1/K – 1.
    pub effective_prototypes: Option<f64>,
    /// Length of the centre at the last sample.
    pub centre_norm: Option<f64>,
    /// Spread of the features, 0 (constant) – 1 (even in all directions).
    pub feature_spread: Option<f64>,
    /// Effective rank of the features' covariance; 0 if they are constant.
    pub feature_rank: Option<f64>,
}

impl Health {
    /// The loss above the teacher's entropy, its floor; the loss alone where that is unknown.
    fn excess(&self) -> Option<f64> {
        Some(self.loss? - self.teacher_entropy.unwrap_or(0.0))
    }

    /// ln K, the entropy of a uniform output.
    pub fn max_entropy(&self) -> f64 {
        (self.out_dim.max(1) as f64).ln()
    }
}

/// Gathers [`Health`] over an epoch.
///
/// [`step`](Self::step) costs nothing and belongs in every step. [`sample`](Self::sample)
/// looks at no more than `max_rows` rows, about 2·K exponentials each; every tenth to
/// fiftieth step is plenty.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct HealthMeter {
    out_dim: usize,
    max_rows: usize,
    steps: u64,
    non_finite_steps: u64,
    loss: Mean,
    grad_norm: Mean,
    grad_norm_max: Option<f64>,
    entropy: Mean,
    kl: Mean,
    teacher_temp: Mean,
    non_finite_rows: u64,
    marginal: Vec<f64>,
    used: Vec<bool>,
    centre_norm: Option<f64>,
    features: Reservoir,
}

impl HealthMeter {
    /// A meter for outputs of `out_dim` = K values that looks at up to `max_rows` rows of a
    /// sample (64 is a good number), spread evenly over it.
    ///
    /// # Errors
    /// `out_dim` or `max_rows` is 0.
    pub fn new(out_dim: usize, max_rows: usize) -> Result<Self> {
        if out_dim == 0 || max_rows == 0 {
            return Err(Error::invalid(
                "health meter",
                "out_dim and max_rows must be at least 1",
            ));
        }
        Ok(Self::blank(out_dim, max_rows))
    }

    fn blank(out_dim: usize, max_rows: usize) -> Self {
        Self {
            out_dim,
            max_rows,
            steps: 0,
            non_finite_steps: 0,
            loss: Mean::default(),
            grad_norm: Mean::default(),
            grad_norm_max: None,
            entropy: Mean::default(),
            kl: Mean::default(),
            teacher_temp: Mean::default(),
            non_finite_rows: 0,
            marginal: vec![0.0; out_dim],
            used: vec![false; out_dim],
            centre_norm: None,
            features: Reservoir::default(),
        }
    }

    /// Counts one step: its loss and, where known, the norm of its gradient before clipping.
    pub fn step(&mut self, loss: f64, grad_norm: Option<f64>) {
        self.steps += 1;
        let finite = loss.is_finite() && grad_norm.is_none_or(f64::is_finite);
        self.non_finite_steps += u64::from(!finite);
        if loss.is_finite() {
            self.loss.add(loss);
        }
        if let Some(norm) = grad_norm.filter(|n| n.is_finite()) {
            self.grad_norm.add(norm);
            self.grad_norm_max = Some(self.grad_norm_max.map_or(norm, |m| m.max(norm)));
        }
    }

    /// Looks at the outputs of one step. Rows with values that are not finite are counted
    /// and left out.
    ///
    /// # Errors
    /// Lengths that do not fit, a temperature that is not above 0.
    pub fn sample(&mut self, sample: &Sample<'_>) -> Result<()> {
        let k = self.out_dim;
        let n = sample.teacher.len() / k;
        check_length("teacher logits", n * k, sample.teacher.len())?;
        if !sample.student.is_empty() {
            check_length("student logits", n * k, sample.student.len())?;
        }
        check_length("centre", k, sample.centre.len())?;
        for (what, temp) in [
            ("teacher temperature", sample.teacher_temp),
            ("student temperature", sample.student_temp),
        ] {
            if !(temp > 0.0 && temp.is_finite()) {
                return Err(Error::invalid(what, format!("must be above 0, is {temp}")));
            }
        }
        self.features.offer(sample.features, sample.feature_dim)?;

        let taken = n.min(self.max_rows);
        let rows: Vec<usize> = (0..taken).map(|i| i * n / taken).collect();
        let parts: Vec<Part> = rows
            .par_chunks(ROW_BLOCK)
            .map(|rows| Part::of(rows, k, sample))
            .collect();
        for part in parts {
            self.entropy.merge(part.entropy);
            self.kl.merge(part.kl);
            self.non_finite_rows += part.non_finite_rows;
            for (sum, p) in self.marginal.iter_mut().zip(part.marginal) {
                *sum += f64::from(p);
            }
            for prototype in part.first_choices {
                self.used[prototype] = true;
            }
        }
        self.teacher_temp.add(sample.teacher_temp);
        let squares: f64 = sample.centre.iter().map(|&c| f64::from(c).powi(2)).sum();
        self.centre_norm = Some(squares.sqrt()).filter(|n| n.is_finite());
        Ok(())
    }

    /// Ends the epoch: its figures, and the meter is as new.
    pub fn close(&mut self, epoch: usize) -> Health {
        let m = std::mem::replace(self, Self::blank(self.out_dim, self.max_rows));
        let k = m.out_dim as f64;
        let rows = m.entropy.count;
        let teacher_entropy = m.entropy.value();
        let marginal_entropy = (rows > 0).then(|| entropy(&m.marginal));
        let (feature_spread, feature_rank) = m.features.figures();
        Health {
            epoch,
            steps: m.steps,
            non_finite_steps: m.non_finite_steps,
            loss: m.loss.value(),
            grad_norm: m.grad_norm.value(),
            grad_norm_max: m.grad_norm_max,
            out_dim: m.out_dim,
            rows,
            non_finite_rows: m.non_finite_rows,
            teacher_temp: m.teacher_temp.value(),
            teacher_entropy,
            marginal_entropy,
            information: marginal_entropy
                .zip(teacher_entropy)
                .map(|(whole, each)| (whole - each).max(0.0)),
            kl: m.kl.value(),
            used_prototypes: (rows > 0).then(|| m.used.iter().filter(|&&u| u).count() as f64 / k),
            effective_prototypes: marginal_entropy.map(|h| h.exp() / k),
            centre_norm: m.centre_norm,
            feature_spread,
            feature_rank,
        }
    }
}

/// A running mean.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct Mean {
    sum: f64,
    count: u64,
}

impl Mean {
    fn add(&mut self, value: f64) {
        self.sum += value;
        self.count += 1;
    }

    fn merge(&mut self, other: Self) {
        self.sum += other.sum;
        self.count += other.count;
    }

    fn value(self) -> Option<f64> {
        (self.count > 0).then(|| self.sum / self.count as f64)
    }
}

/// What a block of rows adds.
struct Part {
    entropy: Mean,
    kl: Mean,
    non_finite_rows: u64,
    marginal: Vec<f32>,
    first_choices: Vec<usize>,
}

impl Part {
    fn of(rows: &[usize], k: usize, sample: &Sample<'_>) -> Self {
        let mut part = Self {
            entropy: Mean::default(),
            kl: Mean::default(),
            non_finite_rows: 0,
            marginal: vec![0.0; k],
            first_choices: Vec::with_capacity(rows.len()),
        };
        let sharpen = (1.0 / sample.teacher_temp) as f32;
        let mut x = vec![0.0f32; k];
        let mut e = vec![0.0f32; k];
        let mut y = vec![0.0f32; k];
        for &row in rows {
            let teacher = &sample.teacher[row * k..][..k];
            for ((x, &t), &c) in x.iter_mut().zip(teacher).zip(sample.centre) {
                *x = (t - c) * sharpen;
            }
            let Some(top) = settle(&mut x) else {
                part.non_finite_rows += 1;
                continue;
            };
            if !sample.student.is_empty() {
                let soften = (1.0 / sample.student_temp) as f32;
                let student = &sample.student[row * k..][..k];
                for (y, &s) in y.iter_mut().zip(student) {
                    *y = s * soften;
                }
                if settle(&mut y).is_none() {
                    part.non_finite_rows += 1;
                    continue;
                }
            }
            for (e, &x) in e.iter_mut().zip(&x) {
                *e = exp_below_zero(x);
            }
            let total = sum_of(&e, |i| e[i]);
            let entropy = total.ln() - sum_of(&e, |i| e[i] * x[i]) / total;
            part.entropy.add(entropy.max(0.0));
            part.first_choices.push(top);
            let scale = (1.0 / total) as f32;
            for (m, &e) in part.marginal.iter_mut().zip(&e) {
                *m += e * scale;
            }
            if !sample.student.is_empty() {
                let normaliser = sum_of(&y, |i| exp_below_zero(y[i])).ln();
                let cross = normaliser - sum_of(&y, |i| e[i] * y[i]) / total;
                part.kl.add((cross - entropy).max(0.0));
            }
        }
        part
    }
}

/// Subtracts the greatest value from all and returns its place; `None` if any value is not
/// finite.
fn settle(values: &mut [f32]) -> Option<usize> {
    let greatest = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    if !values.iter().fold(true, |ok, v| ok & v.is_finite()) {
        return None;
    }
    let place = values.iter().position(|&v| v == greatest);
    for v in values {
        *v -= greatest;
    }
    place
}

/// Sum of `term(i)` over the indices of `values`: eight running f32 sums over short
/// stretches, those in f64, so that it is both quick and exact enough for 10⁵ terms.
fn sum_of(values: &[f32], term: impl Fn(usize) -> f32) -> f64 {
    const LANES: usize = 8;
    const STRETCH: usize = 256;
    let n = values.len();
    let mut total = 0.0f64;
    let mut start = 0;
    while start < n {
        let end = (start + STRETCH).min(n);
        let mut lanes = [0.0f32; LANES];
        let whole = start + (end - start) / LANES * LANES;
        for base in (start..whole).step_by(LANES) {
            for (l, lane) in lanes.iter_mut().enumerate() {
                *lane += term(base + l);
            }
        }
        total += lanes.iter().map(|&l| f64::from(l)).sum::<f64>();
        total += (whole..end).map(|i| f64::from(term(i))).sum::<f64>();
        start = end;
    }
    total
}

/// eˣ for x ≤ 0 to about 3 parts in 10⁷, without a call so that loops vectorise; below −87
/// it answers e⁻⁸⁷.
fn exp_below_zero(x: f32) -> f32 {
    // x = n·ln 2 + r with |r| ≤ ln 2 / 2; adding 1.5·2²³ rounds to the nearest integer and
    // leaves it in the low bits.
    const ROUND: f32 = 12_582_912.0;
    let x = x.max(-87.0);
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = (x - n * 0.693_359_4) - n * -2.121_944_4e-4;
    let tail = 1.0 / 24.0 + r * (1.0 / 120.0 + r * (1.0 / 720.0));
    let series = 1.0 + r * (1.0 + r * (0.5 + r * (1.0 / 6.0 + r * tail)));
    let power = f32::from_bits(shifted.to_bits().wrapping_add(127) << 23);
    series * power
}

/// Entropy of weights that need not sum to 1.
fn entropy(weights: &[f64]) -> f64 {
    let total: f64 = weights.iter().sum();
    let terms = weights.iter().filter(|&&w| w > 0.0).map(|w| {
        let p = w / total;
        -p * p.ln()
    });
    terms.sum::<f64>().max(0.0)
}

/// An even sample of all feature rows offered, of fixed size.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Reservoir {
    dim: usize,
    rows: Vec<f32>,
    seen: u64,
}

impl Reservoir {
    fn offer(&mut self, features: &[f32], dim: usize) -> Result<()> {
        if features.is_empty() {
            return Ok(());
        }
        if dim == 0 {
            return Err(Error::invalid("features", "rows have no values"));
        }
        check_length("features", features.len() / dim * dim, features.len())?;
        if self.dim == 0 {
            self.dim = dim;
        }
        check_length("feature width", self.dim, dim)?;
        for row in features.chunks_exact(dim) {
            let length = row
                .iter()
                .map(|&v| f64::from(v).powi(2))
                .sum::<f64>()
                .sqrt();
            if !length.is_finite() {
                continue;
            }
            let normalised = row
                .iter()
                .map(|&v| (f64::from(v) / length.max(1e-12)) as f32);
            if self.rows.len() < MAX_FEATURES * dim {
                self.rows.extend(normalised);
            } else {
                // Keep each row seen so far with the same chance; the place comes from the
                // row's number, so that a run repeats itself.
                let place = (scatter(self.seen) % (self.seen + 1)) as usize;
                if place < MAX_FEATURES {
                    let kept = &mut self.rows[place * dim..][..dim];
                    kept.iter_mut().zip(normalised).for_each(|(k, v)| *k = v);
                }
            }
            self.seen += 1;
        }
        Ok(())
    }

    fn figures(&self) -> (Option<f64>, Option<f64>) {
        match feature_figures(&self.rows, self.dim) {
            Some((spread, rank)) => (Some(spread), Some(rank)),
            None => (None, None),
        }
    }
}

fn scatter(counter: u64) -> u64 {
    let mut z = counter.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
    z = (z ^ (z >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
    z ^ (z >> 32)
}

/// Spread (0–1) and effective rank (0 – min(D, N − 1)) of normalised features `[N, dim]`;
/// `None` for fewer than two rows or
/// values that are not finite. Takes time in min(N, dim)³: meant for N up to 512.
pub fn feature_figures(features: &[f32], dim: usize) -> Option<(f64, f64)> {
    let n = features.len().checked_div(dim)?;
    let finite = features.iter().all(|v| v.is_finite());
    if n < 2 || n * dim != features.len() || !finite {
        return None;
    }
    // [dim, N] in column-major eyes.
    let mut x: DMatrix<f64> = DMatrixView::from_slice(features, dim, n).map(f64::from);
    let mean = x.column_mean();
    for mut column in x.column_iter_mut() {
        column -= &mean;
    }
    let spread = x
        .row_iter()
        .map(|row| (row.norm_squared() / n as f64).sqrt())
        .sum::<f64>()
        / dim as f64
        * (dim as f64).sqrt();
    // The covariance and the Gram matrix have the same eigenvalues but for zeros.
    let transposed = x.transpose();
    let square = if dim <= n {
        &x * &transposed
    } else {
        &transposed * &x
    } / n as f64;
    // Below the rounding of the f32 features there is nothing but noise.
    if square.trace() <= 1e-12 {
        return Some((spread.min(1.0), 0.0));
    }
    let eigenvalues = square.symmetric_eigenvalues();
    let positive: Vec<f64> = eigenvalues.iter().map(|v| v.max(0.0)).collect();
    Some((spread.min(1.0), entropy(&positive).exp()))
}

/// What [`diagnose`] needs to know of the run to judge fairly and to advise in numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Context {
    /// Images in the training set. With a single one a constant output is the right answer.
    pub images: usize,
    /// Epochs of learning-rate warm-up.
    pub warmup_epochs: usize,
    /// Peak learning rate as given by `--lr`.
    pub lr: f64,
    /// `--teacher-temp`, the final one.
    pub teacher_temp: f64,
    /// `--momentum-teacher`, the starting one.
    pub momentum_teacher: f64,
    /// `--clip-grad`, where gradients are clipped.
    pub clip_grad: Option<f64>,
}

/// What kind of trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trouble {
    /// The same output for every image, concentrated on few prototypes.
    ConstantOutput,
    /// The same output for every image, spread evenly over all prototypes.
    UniformOutput,
    /// Loss not finite, rising, or worse than guessing; or gradients exploding.
    Divergence,
    /// The backbone's features are all alike or lie along one line.
    FeatureCollapse,
    /// The student falls ever further behind the teacher.
    StudentNotFollowing,
}

/// Something that needs attention, in plain words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Warning {
    /// The kind.
    pub trouble: Trouble,
    /// What was seen, with numbers.
    pub seen: String,
    /// What it means.
    pub meaning: String,
    /// What to do about it, naming options.
    pub remedy: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.seen, self.meaning, self.remedy)
    }
}

/// Limits of [`diagnose`], with their reasons.
mod limit {
    /// Complete epochs before outputs or features are judged (besides warm-up): a fresh
    /// network's outputs are close to uniform and its features alike.
    pub const GRACE_EPOCHS: usize = 2;
    /// Steps before they are judged: an epoch of a small set is only a few steps.
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
    /// KL, as a share of ln K, that is much. A student that follows is at a tenth or two.
    pub const KL: f64 = 0.3;
}

/// Compares an epoch with those before it (`history`, oldest first, without `health`) and
/// returns what is wrong, gravest first; nothing for a healthy run.
///
/// Outputs and features are judged only after warm-up, two epochs and 200 steps, and only if
/// the epoch before looked the same; a loss that is not finite is reported at once.
pub fn diagnose(health: &Health, history: &[Health], context: &Context) -> Vec<Warning> {
    let case = Case {
        now: health,
        history,
        context,
        ln_k: health.max_entropy(),
    };
    let settled = case.settled();
    let mut warnings = Vec::new();
    warnings.extend(case.divergence());
    if settled && context.images > 1 {
        let output = case.uniform_output().or_else(|| case.constant_output());
        warnings.extend(output);
        warnings.extend(case.feature_collapse());
    }
    if settled {
        warnings.extend(case.student_not_following());
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
        self.now.epoch >= limit::GRACE_EPOCHS.max(self.context.warmup_epochs)
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

    fn lower_lr(&self) -> String {
        format!("--lr {}", short(self.context.lr / 2.0))
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
            .loss
            .filter(|&l| self.settled() && l > limit::WORSE_THAN_GUESSING * self.ln_k.max(1.0))
        {
            format!(
                "The loss is {loss:.3}, above the {:.3} (ln K) of plain guessing.",
                self.ln_k
            )
        } else if let Some(rise) = self
            .steady_rise(Health::excess)
            .filter(|&rise| self.settled() && rise > limit::LOSS_RISE * self.ln_k)
        {
            format!(
                "The loss rose by {rise:.3} nats over the last {} epochs, to {:.3}, beyond what the \
                 teacher's entropy accounts for.",
                limit::RISES,
                now.loss.unwrap_or_default()
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
        let clip = match self.context.clip_grad {
            Some(clip) => format!(
                "clip harder (--clip-grad {}, now {})",
                short(clip / 3.0),
                short(clip)
            ),
            None => "clip gradients (--clip-grad 3)".to_string(),
        };
        Some(Warning {
            trouble: Trouble::Divergence,
            seen,
            meaning: "Training is diverging: steps are too large for the network to stay \
                      where it learns."
                .into(),
            remedy: format!(
                "Resume from the last good checkpoint with a lower learning rate ({}), {clip}, \
                 or warm up longer (--warmup-epochs {}). With reduced precision, try \
                 --precision f32 once to tell the two apart.",
                self.lower_lr(),
                (2 * self.context.warmup_epochs).max(10),
            ),
        })
    }

    fn exploding_gradient(&self) -> Option<(f64, f64)> {
        let mut earlier: Vec<f64> = self.history.iter().filter_map(|h| h.grad_norm).collect();
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
                && h.loss
                    .is_none_or(|l| (l - self.ln_k).abs() < limit::AT_LN_K * self.ln_k)
        };
        if !self.persists(uniform) || self.now.out_dim < 2 {
            return None;
        }
        let out_dim = self.now.out_dim;
        let smaller = suggested_out_dim(self.context.images);
        let fewer = if smaller < out_dim {
            format!("fewer prototypes (--out-dim {smaller}, now {out_dim}), ")
        } else {
            String::new()
        };
        Some(Warning {
            trouble: Trouble::UniformOutput,
            seen: format!(
                "The teacher's entropy is {:.3} of at most {:.3} (ln K){}.",
                self.now.teacher_entropy?,
                self.ln_k,
                self.now
                    .loss
                    .map_or_else(String::new, |l| format!(" and the loss stays at {l:.3}")),
            ),
            meaning: "Every image gets the same weight on every prototype: the output has \
                      collapsed to uniform and nothing is learnt."
                .into(),
            remedy: format!(
                "Use a sharper teacher (--teacher-temp {}, now {}), {fewer}or a longer warm-up \
                 (--warmup-epochs {}).",
                short((self.context.teacher_temp / 2.0).max(0.02)),
                short(self.context.teacher_temp),
                (2 * self.context.warmup_epochs).max(10),
            ),
        })
    }

    fn constant_output(&self) -> Option<Warning> {
        let same = |h: &Health| {
            let most = (h.rows.max(2) as f64).min(h.out_dim as f64).ln();
            h.information
                .is_some_and(|i| most > 0.0 && i < limit::SAME_OUTPUT * most)
                && h.teacher_entropy
                    .is_some_and(|e| e <= limit::UNIFORM * self.ln_k)
        };
        if !self.persists(same) {
            return None;
        }
        let prototypes = self.now.marginal_entropy?.exp();
        Some(Warning {
            trouble: Trouble::ConstantOutput,
            seen: format!(
                "All images together use about {prototypes:.1} of {} prototypes, and single \
                 images the same ones (entropy {:.3}, {:.3} of all together).",
                self.now.out_dim, self.now.teacher_entropy?, self.now.marginal_entropy?,
            ),
            meaning: "Every image gets the same answer: the output has collapsed to a \
                      constant, and a low loss means nothing."
                .into(),
            remedy: format!(
                "Let the teacher move more slowly (--momentum-teacher {}, now {}), lower the \
                 learning rate ({}), raise the teacher's temperature (--teacher-temp {}, now \
                 {}), and check that centring is on (--center-momentum 0.9).",
                short(1.0 - (1.0 - self.context.momentum_teacher) / 2.0),
                short(self.context.momentum_teacher),
                self.lower_lr(),
                short((self.context.teacher_temp * 1.5).min(0.07)),
                short(self.context.teacher_temp),
            ),
        })
    }

    fn feature_collapse(&self) -> Option<Warning> {
        let collapsed = |h: &Health| {
            h.feature_spread.is_some_and(|s| s < limit::FEATURE_SPREAD)
                || h.feature_rank.is_some_and(|r| r < limit::FEATURE_RANK)
        };
        // Three images span a plane at most: no rank to judge.
        if !self.persists(collapsed) || self.context.images < 4 {
            return None;
        }
        Some(Warning {
            trouble: Trouble::FeatureCollapse,
            seen: format!(
                "The features' spread is {:.4} (0: constant, 1: even) and their effective \
                 rank {:.2}.",
                self.now.feature_spread?, self.now.feature_rank?
            ),
            meaning: "The backbone gives nearly the same feature to every image, or features \
                      along a single line."
                .into(),
            remedy: format!(
                "Go back to a checkpoint from before it and lower the learning rate ({}) or \
                 the weight decay (--weight-decay-end), or warm up longer (--warmup-epochs \
                 {}). If it never was otherwise, check that the images differ.",
                self.lower_lr(),
                (2 * self.context.warmup_epochs).max(10),
            ),
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
            trouble: Trouble::StudentNotFollowing,
            seen: format!(
                "The student's output is {kl:.3} nats from the teacher's, {rise:.3} more than \
                 {} epochs ago, and the loss does not fall.",
                limit::RISES
            ),
            meaning: "The student cannot follow its teacher, which changes or sharpens too \
                      fast."
                .into(),
            remedy: format!(
                "Let the teacher move more slowly (--momentum-teacher {}, now {}), raise its \
                 temperature (--teacher-temp {}, now {}), or lower the learning rate ({}).",
                short(1.0 - (1.0 - self.context.momentum_teacher) / 2.0),
                short(self.context.momentum_teacher),
                short((self.context.teacher_temp * 1.5).min(0.07)),
                short(self.context.teacher_temp),
                self.lower_lr(),
            ),
        })
    }
}

/// Prototypes that suit a set of this size.
fn suggested_out_dim(images: usize) -> usize {
    match images {
        0..=20_000 => 1024,
        20_001..=50_000 => 2048,
        50_001..=100_000 => 4096,
        100_001..=200_000 => 16_384,
        _ => 65_536,
    }
}

/// Four significant digits without trailing zeros.
fn short(value: f64) -> String {
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

#[cfg(test)]
mod tests;
