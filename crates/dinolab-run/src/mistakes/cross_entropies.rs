//! The loss from logits, in plain numbers: as it should be, and as mistakes make it.

/// Mean cross entropies of a step, in nats.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct CrossEntropies {
    /// Of each view of the teacher and each other view of the student, of the same image.
    pub(super) right: f64,
    /// Of all pairs of views of the same image.
    pub(super) with_same_view: f64,
    /// Of pairs of views as they should be, but of different images; the mean over all.
    pub(super) of_other_images: f64,
    /// As they should be, with the student's probabilities taken for logits.
    pub(super) of_softmax_twice: f64,
}

impl CrossEntropies {
    /// From the teacher's logits `[2·B, K]`, the student's `[V·B, K]`, both view-major, the centre `[K]`, and
    /// the temperatures of teacher and student.
    pub(super) fn of(
        teacher: &[f32],
        student: &[f32],
        centre: &[f32],
        [teacher_temp, student_temp]: [f64; 2],
        batch: usize,
    ) -> Self {
        let k = centre.len();
        let views = student.len() / (batch * k);
        let targets: Vec<Vec<f64>> = teacher
            .chunks(k)
            .map(|row| {
                let centred = row.iter().zip(centre);
                let logits = centred.map(|(&t, &c)| f64::from(t - c) / teacher_temp);
                let log_q = log_softmax(logits.collect());
                log_q.into_iter().map(f64::exp).collect()
            })
            .collect();
        let log_p: Vec<Vec<f64>> = student
            .chunks(k)
            .map(|row| log_softmax(row.iter().map(|&s| f64::from(s) / student_temp).collect()))
            .collect();
        let again: Vec<Vec<f64>> = log_p
            .iter()
            .map(|row| log_softmax(row.iter().map(|&log_p| log_p.exp()).collect()))
            .collect();

        let cross = |v: usize, u: usize, log_p: &[Vec<f64>]| {
            let pairs = (0..batch).map(|b| dot(&targets[v * batch + b], &log_p[u * batch + b]));
            -pairs.sum::<f64>() / batch as f64
        };
        // The cross entropy is linear in both: the sum over all pairs of images is that of the sums.
        let others = |v: usize, u: usize| {
            let all = dot(
                &sum(&targets[v * batch..][..batch]),
                &sum(&log_p[u * batch..][..batch]),
            );
            let pairs = batch * batch.saturating_sub(1);
            (-all - cross(v, u, &log_p) * batch as f64) / pairs.max(1) as f64
        };
        let pairs = || (0..2).flat_map(|v| (0..views).map(move |u| (v, u)));
        let proper = || pairs().filter(|(v, u)| v != u);
        let mean = |values: Vec<f64>| values.iter().sum::<f64>() / values.len() as f64;
        Self {
            right: mean(proper().map(|(v, u)| cross(v, u, &log_p)).collect()),
            with_same_view: mean(pairs().map(|(v, u)| cross(v, u, &log_p)).collect()),
            of_other_images: mean(proper().map(|(v, u)| others(v, u)).collect()),
            of_softmax_twice: mean(proper().map(|(v, u)| cross(v, u, &again)).collect()),
        }
    }
}

fn log_softmax(mut logits: Vec<f64>) -> Vec<f64> {
    let greatest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let total: f64 = logits.iter().map(|x| (x - greatest).exp()).sum();
    let normaliser = greatest + total.ln();
    logits.iter_mut().for_each(|x| *x -= normaliser);
    logits
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn sum(rows: &[Vec<f64>]) -> Vec<f64> {
    let mut total = vec![0.0; rows.first().map_or(0, Vec::len)];
    for row in rows {
        total.iter_mut().zip(row).for_each(|(t, v)| *t += v);
    }
    total
}
