//! Targets at one scale: each dimension with mean 0 and variance 1.

use burn::tensor::{Device, Tensor};

use crate::ranks::TreeSum;
use crate::{Ranks, Result, State};

/// Added to variances, so that a dimension that never changes is 0 throughout.
const EPSILON: f64 = 1e-6;

/// Mean and variance of each dimension of a teacher's outputs over all steps so far, each step with the
/// same weight. Features of networks differ in scale by orders of magnitude, and so do their dimensions;
/// without this, a few dimensions would be all of the loss (M. Ranzinger et al., arXiv 2410.01680).
#[derive(Clone, Debug)]
pub(super) struct Standard {
    name: &'static str,
    /// Steps.
    count: f64,
    /// `[F]`.
    mean: Tensor<1>,
    /// `[F]`.
    variance: Tensor<1>,
}

impl Standard {
    pub(super) fn new(name: &'static str, width: usize, device: &Device) -> Self {
        Self {
            name,
            count: 0.0,
            mean: Tensor::zeros([width], device),
            variance: Tensor::zeros([width], device),
        }
    }

    /// Takes the outputs of a step into account: those of this process' shards, each `[R, F]` in parts.
    pub(super) fn follow(&mut self, shards: &[Vec<Tensor<2>>], ranks: &Ranks) -> Result<()> {
        let rows: usize = shards.iter().flatten().map(|x| x.dims()[0]).sum();
        let rows = (rows * ranks.size()) as f64;
        let mean = sum(shards, ranks, |x| x)? / rows;
        let own = mean.clone().reshape([1, mean.dims()[0]]);
        let variance = sum(shards, ranks, |x| {
            let distance = x - own.clone();
            distance.clone() * distance
        })? / rows;
        self.count += 1.0;
        let share = 1.0 / self.count;
        let moved = mean - self.mean.clone();
        let between = moved.clone() * moved.clone() * (share * (1.0 - share));
        self.variance = self.variance.clone() * (1.0 - share) + variance * share + between;
        self.mean = self.mean.clone() + moved * share;
        Ok(())
    }

    /// Outputs `[R, F]` at this scale.
    pub(super) fn apply(&self, x: Tensor<2>) -> Tensor<2> {
        let row = |vector: Tensor<1>| {
            let width = vector.dims()[0];
            vector.reshape([1, width])
        };
        let deviation = (self.variance.clone() + EPSILON).sqrt();
        (x - row(self.mean.clone())) / row(deviation)
    }

    pub(super) fn put(&self, state: &mut State) {
        let [count, mean, variance] = self.names();
        let device = self.mean.device();
        state.put_vector(&count, &Tensor::from_floats([self.count as f32], &device));
        state.put_vector(&mean, &self.mean);
        state.put_vector(&variance, &self.variance);
    }

    pub(super) fn restore(&mut self, state: &State) -> Result<()> {
        let [count, mean, variance] = self.names();
        let (width, device) = (self.mean.dims()[0], self.mean.device());
        let steps = state.vector(&count, 1, &device)?;
        self.count = f64::from(steps.into_scalar::<f32>());
        self.mean = state.vector(&mean, width, &device)?;
        self.variance = state.vector(&variance, width, &device)?;
        Ok(())
    }

    fn names(&self) -> [String; 3] {
        ["steps", "mean", "variance"].map(|part| format!("targets.{}.{part}", self.name))
    }
}

/// The sum over rows of all shards, `[F]`, of what `of` makes of them.
fn sum(
    shards: &[Vec<Tensor<2>>],
    ranks: &Ranks,
    of: impl Fn(Tensor<2>) -> Tensor<2>,
) -> Result<Tensor<1>> {
    let add = |a: Tensor<1>, b: Tensor<1>| a + b;
    let mut all = TreeSum::default();
    for parts in shards {
        let of_part = |x: &Tensor<2>| {
            let width = x.dims()[1];
            of(x.clone()).sum_dim(0).reshape([width])
        };
        let shard = parts.iter().map(of_part).reduce(add);
        all.push(shard.expect("a shard has images"), add);
    }
    let own = all.finish(add).expect("a process has a shard");
    Ok(ranks.sum(vec![own])?.remove(0))
}

#[cfg(test)]
mod tests {
    use burn::tensor::TensorData;
    use dinolab_nn::device;

    use super::*;

    fn host<const D: usize>(x: Tensor<D>) -> Vec<f32> {
        x.into_data().try_to_vec().unwrap()
    }

    #[test]
    fn steps_of_equal_size_give_the_statistics_of_all_their_rows() {
        let device = device::by_name("cpu").unwrap();
        let rows = |step: usize| -> Vec<f32> {
            let value = |i: usize| (((step * 12 + i) as f32 * 1.3).sin() + step as f32) * 40.0;
            (0..12)
                .map(|i| if i % 3 == 2 { 7.0 } else { value(i) })
                .collect()
        };
        let mut standard = Standard::new("feature", 3, &device);
        let mut all = Vec::new();
        for step in 0..5 {
            let x = Tensor::<2>::from_data(TensorData::new(rows(step), [4, 3]), &device);
            let parts = vec![x.clone().narrow(0, 0, 1), x.narrow(0, 1, 3)];
            standard.follow(&[parts], &Ranks::default()).unwrap();
            all.append(&mut rows(step));
        }
        let x = Tensor::<2>::from_data(TensorData::new(all, [20, 3]), &device);
        let y = host(standard.apply(x));
        for dimension in 0..2 {
            let own: Vec<f32> = y.iter().skip(dimension).step_by(3).copied().collect();
            let mean = own.iter().sum::<f32>() / 20.0;
            let variance = own.iter().map(|v| (v - mean).powi(2)).sum::<f32>() / 20.0;
            assert!(
                mean.abs() < 1e-5 && (variance - 1.0).abs() < 1e-4,
                "{mean} {variance}"
            );
        }
        assert!(y.iter().skip(2).step_by(3).all(|v| v.abs() < 1e-3), "{y:?}");

        let mut state = State::default();
        standard.put(&mut state);
        let mut again = Standard::new("feature", 3, &device);
        again.restore(&state).unwrap();
        assert_eq!(again.count, 5.0);
        assert_eq!(host(again.variance), host(standard.variance));
    }
}
