//! Sums over the processes that train one network together, for operations that need all of a batch.
//!
//! Batch normalisation has the statistics of a whole batch, of which each process computes a part. The sums are
//! known for the length of a step, forward and backward, in the thread that computes it.

use std::cell::RefCell;
use std::rc::Rc;

use burn::tensor::Tensor;
use dinolab_kernels::Moments;

use super::fused::{self, Dispatch, batch_mean::BatchMeanOp};
use crate::Parameters;

/// Sums over processes that each have an equal part of a batch.
pub trait BatchSums {
    /// Number of processes.
    fn processes(&self) -> usize;

    /// Replaces `values` by their sums over all processes: the same bits in each of them. All call it in the
    /// same order.
    fn sum(&self, values: &mut [f32]);
}

thread_local! {
    static SUMS: RefCell<Option<Rc<dyn BatchSums>>> = const { RefCell::new(None) };
}

/// Calls `f`, in which batch normalisation that uses the statistics of the batch takes `sums` over processes.
/// Only the fused bodies of operations do ([`sums_batches`]).
pub fn with_batch_sums<R>(sums: Rc<dyn BatchSums>, f: impl FnOnce() -> R) -> R {
    struct Restore(Option<Rc<dyn BatchSums>>);
    impl Drop for Restore {
        fn drop(&mut self) {
            SUMS.set(self.0.take());
        }
    }
    let _restore = Restore(SUMS.replace(Some(sums)));
    f()
}

/// Whether batch normalisation of `network` can be of a batch that several processes have: on the CPU, in
/// single precision.
pub fn sums_batches(network: &dyn Parameters) -> bool {
    let mut all = true;
    network.visit("", &mut |_, param| {
        all &= param.precision() == crate::Precision::F32 && fused::applies(&param.flat());
    });
    all
}

/// The mean of `x` over processes, each with that of an equal part of a batch: `x` itself in one process. All
/// processes differentiate it, in the same order.
pub(crate) fn batch_mean(x: Tensor<3>) -> Tensor<3> {
    match SUMS.with_borrow(Option::is_some) {
        true => Tensor::from_dispatch(Dispatch::dinolab_batch_mean(x.into_dispatch())),
        false => x,
    }
}

/// The means over all processes of this process' `values`.
pub(super) fn means_of_all(values: &[f32]) -> Vec<f32> {
    match SUMS.with_borrow(Clone::clone) {
        Some(sums) => means(&*sums, values.iter().map(|&value| f64::from(value))),
        None => values.to_vec(),
    }
}

fn means(sums: &dyn BatchSums, own: impl Iterator<Item = f64>) -> Vec<f32> {
    let share = 1.0 / sums.processes() as f64;
    let mut all: Vec<f32> = own.map(|value| (share * value) as f32).collect();
    sums.sum(&mut all);
    all
}

/// The moments of all of a batch, from those of this process' part.
pub(super) fn moments_of_all(part: Moments) -> Moments {
    let Some(sums) = SUMS.with_borrow(Clone::clone) else {
        return part;
    };
    // Of equal parts, the mean is that of the means, and the variance that of the variances and of the means.
    let mean = means_of_all(&part.mean);
    let apart = part.mean.iter().zip(&mean);
    let apart = apart.map(|(&own, &all)| f64::from(own) - f64::from(all));
    let squares = part.variance.iter().zip(apart);
    let squares = squares.map(|(&variance, apart)| f64::from(variance) + apart.powi(2));
    let variance = means(&*sums, squares);
    Moments {
        count: part.count * sums.processes(),
        mean,
        variance,
    }
}

/// Two sums over the rows of all of a batch, from those over this process' `count` rows, and the number of all.
pub(super) fn sums_of_all([a, b]: [&[f32]; 2], count: usize) -> ([Vec<f32>; 2], usize) {
    let Some(sums) = SUMS.with_borrow(Clone::clone) else {
        return ([a.to_vec(), b.to_vec()], count);
    };
    let mut all = [a, b].concat();
    sums.sum(&mut all);
    let second = all.split_off(a.len());
    ([all, second], count * sums.processes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::{by_name, to_host_f32};

    /// A sum with another process that has the values `other`, in the order in which they are asked for.
    struct With(RefCell<Vec<Vec<f32>>>);

    impl BatchSums for With {
        fn processes(&self) -> usize {
            2
        }

        fn sum(&self, values: &mut [f32]) {
            let other = self.0.borrow_mut().remove(0);
            for (value, other) in values.iter_mut().zip(other) {
                *value += other;
            }
        }
    }

    #[test]
    fn moments_are_those_of_both_parts_and_of_one_outside() {
        // 1, 3 and 5, 11: the mean is 5, the variance 14.
        let part = Moments {
            count: 2,
            mean: vec![2.0],
            variance: vec![1.0],
        };
        // The other's mean is 8 and its variance 9; half of each, the latter about the mean of all.
        let other = With(RefCell::new(vec![vec![4.0], vec![9.0]]));
        let all = with_batch_sums(Rc::new(other), || moments_of_all(part.clone()));
        assert_eq!(
            (all.count, all.mean, all.variance),
            (4, vec![5.0], vec![14.0])
        );
        assert_eq!(moments_of_all(part.clone()), part);
        let other = With(RefCell::new(vec![vec![1.0, 2.0]]));
        let (sums, count) = with_batch_sums(Rc::new(other), || sums_of_all([&[3.0], &[4.0]], 2));
        assert_eq!((sums, count), ([vec![4.0], vec![6.0]], 4));
    }
    #[test]
    fn a_mean_and_its_gradient_are_over_both() {
        let device = by_name("cpu").unwrap().autodiff();
        let x = Tensor::<3>::from_data([[[2.0, 4.0]]], &device).require_grad();
        // Half of the other's values, and half of its gradient by the mean.
        let other = With(RefCell::new(vec![vec![3.0, -1.0], vec![0.5, 0.0]]));
        with_batch_sums(Rc::new(other), || {
            let mean = batch_mean(x.clone());
            assert_eq!(to_host_f32(mean.clone()), [4.0, 1.0]);
            let mut gradients = (mean.clone() * mean).sum().backward();
            let gradient = x.grad_remove(&mut gradients).unwrap();
            assert_eq!(to_host_f32(gradient), [4.5, 1.0]);
        });
        assert_eq!(to_host_f32(batch_mean(x)), [2.0, 4.0]);
    }
}
