//! Sums over the processes that train one network together, for operations that need all of a batch.
//!
//! Batch normalisation has the statistics of a whole batch, of which each process computes a part. The sums are
//! known for the length of a step, forward and backward, in the thread that computes it.

use std::cell::RefCell;
use std::rc::Rc;

use dinolab_kernels::Moments;

use super::fused;
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

/// The moments of all of a batch, from those of this process' part.
pub(super) fn moments_of_all(mut part: Moments) -> Moments {
    let Some(sums) = SUMS.with_borrow(Clone::clone) else {
        return part;
    };
    let processes = sums.processes();
    let share = 1.0 / processes as f64;
    // Of equal parts, the mean is that of the means, and the variance that of the variances and of the means.
    let own = part.mean.clone();
    part.mean
        .iter_mut()
        .for_each(|mean| *mean = (share * f64::from(*mean)) as f32);
    sums.sum(&mut part.mean);
    let means = own.iter().zip(&part.mean);
    for (variance, (own, mean)) in part.variance.iter_mut().zip(means) {
        let squares = f64::from(*variance) + (f64::from(*own) - f64::from(*mean)).powi(2);
        *variance = (share * squares) as f32;
    }
    sums.sum(&mut part.variance);
    part.count *= processes;
    part
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
}
