//! What rows of outputs show: entropies and divergences of softmaxes.

use dinolab_data::slice::check_length;
use rayon::prelude::*;

use super::mean::Mean;
use super::sample::PrototypeSample;
use crate::Result;

/// Rows handled by one task; fixed, so that sums do not depend on threads.
const ROW_BLOCK: usize = 8;

/// What a block of rows adds.
pub(super) struct Part {
    pub(super) entropy: Mean,
    pub(super) kl: Mean,
    pub(super) non_finite_rows: u64,
    pub(super) marginal: Vec<f32>,
    pub(super) first_choices: Vec<usize>,
}

/// What up to `max_rows` rows over `k` prototypes show, spread evenly over those of a sample.
///
/// # Errors
/// Lengths that do not fit, a temperature that is not above 0.
pub(super) fn parts(sample: &PrototypeSample<'_>, k: usize, max_rows: usize) -> Result<Vec<Part>> {
    let n = sample.teacher.len().checked_div(k).unwrap_or(0);
    check_length("teacher logits", n * k, sample.teacher.len())?;
    if !sample.student.is_empty() {
        check_length("student logits", n * k, sample.student.len())?;
    }
    if let Some(centre) = sample.centre {
        check_length("centre", k, centre.len())?;
    }
    for (what, temp) in [
        ("teacher temperature", sample.teacher_temp),
        ("student temperature", sample.student_temp),
    ] {
        if !(temp > 0.0 && temp.is_finite()) {
            bail!("{what}: must be above 0, is {temp}");
        }
    }
    let taken = n.min(max_rows);
    let rows: Vec<usize> = (0..taken).map(|i| i * n / taken).collect();
    let blocks = rows.par_chunks(ROW_BLOCK);
    Ok(blocks.map(|rows| Part::of(rows, k, sample)).collect())
}

impl Part {
    pub(super) fn of(rows: &[usize], k: usize, sample: &PrototypeSample<'_>) -> Self {
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
            for (x, &t) in x.iter_mut().zip(teacher) {
                *x = t;
            }
            for (x, &c) in x.iter_mut().zip(sample.centre.unwrap_or_default()) {
                *x -= c;
            }
            x.iter_mut().for_each(|x| *x *= sharpen);
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
pub(super) fn exp_below_zero(x: f32) -> f32 {
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
pub(super) fn entropy(weights: &[f64]) -> f64 {
    let total: f64 = weights.iter().sum();
    let terms = weights.iter().filter(|&&w| w > 0.0).map(|w| {
        let p = w / total;
        -p * p.ln()
    });
    terms.sum::<f64>().max(0.0)
}
