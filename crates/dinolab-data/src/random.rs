//! Randomness by key instead of by order of use.
//!
//! Every random decision comes from a ChaCha8 generator whose 32 seed bytes are
//! `(seed, epoch, index, purpose)`, four little-endian `u64`. The draws of one image
//! therefore depend on nothing but its key: not on threads, batches, or on where a run
//! was resumed. [`Random::stream`] splits a key further (one stream per view), so that
//! one view's draws do not shift when another view uses more or fewer of them.
//!
//! All helpers are exact integer arithmetic or IEEE additions and multiplications, so
//! that results are the same on every platform.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

/// What the numbers are for. The values are part of a run's identity and never change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u64)]
#[non_exhaustive]
pub enum Purpose {
    /// The order of images in an epoch.
    Order = 1,
    /// The crops of an image.
    Crops = 2,
    /// Choices made for validation and evaluation.
    Validation = 3,
    /// Rendering of the built-in shapes.
    Shapes = 4,
    /// Stochastic depth.
    DropPath = 5,
    /// Initial weights.
    Init = 6,
    /// Images whose channels are measured.
    Statistics = 7,
    /// Random directions of a loss.
    Directions = 8,
    /// Patches that the student does not see.
    PatchDropout = 9,
    /// Coordinates of rotary position embeddings.
    Coordinates = 10,
    /// Patches that the student sees a mask token in place of.
    Masks = 11,
}

/// A generator for one key.
#[derive(Clone, Debug)]
pub struct Random {
    generator: ChaCha8Rng,
}

impl Random {
    /// The generator for a key, at its first number of stream 0.
    pub fn new(seed: u64, epoch: u64, index: u64, purpose: Purpose) -> Self {
        let mut key = [0; 32];
        for (bytes, word) in key
            .chunks_exact_mut(8)
            .zip([seed, epoch, index, purpose as u64])
        {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        Self {
            generator: ChaCha8Rng::from_seed(key),
        }
    }

    /// The same key's independent stream `stream`, at its first number.
    pub fn stream(mut self, stream: u64) -> Self {
        self.generator.set_stream(stream);
        self.generator.set_word_pos(0);
        self
    }

    /// 32 uniform bits.
    pub fn next_u32(&mut self) -> u32 {
        self.generator.next_u32()
    }

    /// 64 uniform bits.
    pub fn next_u64(&mut self) -> u64 {
        self.generator.next_u64()
    }

    /// Uniform in `[0, 1)`, a multiple of 2⁻⁵³.
    pub fn unit(&mut self) -> f64 {
        const STEP: f64 = 1.0 / (1u64 << 53) as f64;
        (self.next_u64() >> 11) as f64 * STEP
    }

    /// Uniform in `[low, high)`; `low` where the range is empty.
    pub fn uniform(&mut self, low: f64, high: f64) -> f64 {
        let value = low + (high - low) * self.unit();
        // The sum may round up to `high`.
        if value < high { value } else { low }
    }

    /// A ratio of two sides, log-uniform between `e^−bound` and `e^bound`; `bound` is at most 1.25.
    pub fn aspect(&mut self, bound: f64) -> f64 {
        exp(self.uniform(-bound, bound))
    }

    /// True with probability `p`: never for 0 (or NaN), always for 1.
    pub fn bool(&mut self, p: f64) -> bool {
        self.unit() < p
    }

    /// Uniform in `0..n`, without modulo bias; 0 where `n` is 0.
    pub fn below(&mut self, n: u64) -> u64 {
        // The high half of a product is uniform once the few low halves that occur
        // one time too often are rejected: 2^64 mod n of them.
        let surplus = if n == 0 { 0 } else { n.wrapping_neg() % n };
        loop {
            let product = u128::from(self.next_u64()) * u128::from(n);
            if product as u64 >= surplus {
                return (product >> 64) as u64;
            }
        }
    }

    /// Shuffles in place (Fisher–Yates): every order is equally likely.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last as u64 + 1) as usize);
        }
    }
}

/// `eˣ` for |x| ≤ 1.25 from additions and multiplications only: a system's own `exp` may
/// differ in the last bit, and with it, once in a while, a crop.
fn exp(x: f64) -> f64 {
    // Horner's scheme; 1.25²⁰/20! is below the last bit.
    (1..20)
        .rev()
        .fold(1.0, |sum, k| 1.0 + sum * x / f64::from(k))
}

/// The order in which an epoch visits `len` images: a permutation of `0..len`.
pub fn epoch_order(seed: u64, epoch: u64, len: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..len).collect();
    Random::new(seed, epoch, 0, Purpose::Order).shuffle(&mut order);
    order
}

/// The order in which an epoch visits images in shards: the shards in random order, each from
/// front to back, through a buffer of `buffer` images. Whenever one is taken out of it, at
/// random, the next one of the shards takes its place.
///
/// Position `k` of the order is therefore among the first `k + buffer` images that are read. A
/// buffer of 0 is one of 1.
pub fn shard_order(seed: u64, epoch: u64, shards: Vec<Vec<usize>>, buffer: usize) -> Vec<usize> {
    let mut reading = reading_order(seed, epoch, shards).into_iter();
    let mut held: Vec<usize> = reading.by_ref().take(buffer.max(1)).collect();
    let mut random = Random::new(seed, epoch, 0, Purpose::Order).stream(2);
    let mut order = Vec::new();
    while !held.is_empty() {
        let at = random.below(held.len() as u64) as usize;
        order.push(match reading.next() {
            Some(next) => std::mem::replace(&mut held[at], next),
            None => held.swap_remove(at),
        });
    }
    order
}

/// The order in which [`shard_order`] reads images.
pub(crate) fn reading_order(seed: u64, epoch: u64, mut shards: Vec<Vec<usize>>) -> Vec<usize> {
    Random::new(seed, epoch, 0, Purpose::Order)
        .stream(1)
        .shuffle(&mut shards);
    shards.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand_chacha::rand_core::{RngCore, SeedableRng};

    use super::{ChaCha8Rng, Purpose, Random, epoch_order, exp, shard_order};

    #[test]
    fn key_is_the_seed_bytes() {
        let mut key = [0; 32];
        key[0] = 7;
        key[9] = 1;
        key[16] = 5;
        key[24] = 2;
        let mut expected = ChaCha8Rng::from_seed(key);
        let mut random = Random::new(7, 256, 5, Purpose::Crops);
        assert_eq!(random.next_u64(), RngCore::next_u64(&mut expected));
    }

    #[test]
    fn exp_is_exact_enough() {
        for step in -125..=125 {
            let x = f64::from(step) / 100.0;
            assert!(
                (exp(x) - x.exp()).abs() <= 4.0 * f64::EPSILON * x.exp(),
                "{x}"
            );
        }
    }

    #[test]
    fn keys_and_streams_differ_and_repeat() {
        let draw = |seed, epoch, index, purpose, stream| {
            Random::new(seed, epoch, index, purpose)
                .stream(stream)
                .next_u64()
        };
        let base = draw(1, 2, 3, Purpose::Crops, 0);
        assert_eq!(base, draw(1, 2, 3, Purpose::Crops, 0));
        for other in [
            draw(2, 2, 3, Purpose::Crops, 0),
            draw(1, 3, 3, Purpose::Crops, 0),
            draw(1, 2, 4, Purpose::Crops, 0),
            draw(1, 2, 3, Purpose::Order, 0),
            draw(1, 2, 3, Purpose::Crops, 1),
        ] {
            assert_ne!(base, other);
        }
    }

    #[test]
    fn a_stream_starts_at_its_first_number() {
        let mut used = Random::new(1, 2, 3, Purpose::Crops);
        used.next_u64();
        let fresh = Random::new(1, 2, 3, Purpose::Crops);
        assert_eq!(used.stream(4).next_u64(), fresh.stream(4).next_u64());
    }

    #[test]
    fn below_is_uniform() {
        let mut random = Random::new(3, 0, 0, Purpose::Validation);
        let mut counts = [0u32; 6];
        for _ in 0..60_000 {
            counts[random.below(6) as usize] += 1;
        }
        // Five standard deviations of a binomial(60000, 1/6) are 457.
        assert!(
            counts.iter().all(|&count| count.abs_diff(10_000) < 457),
            "{counts:?}"
        );
        assert_eq!(random.below(1), 0);
        assert_eq!(random.below(0), 0);
    }

    #[test]
    fn bool_keeps_its_probability_and_its_ends() {
        let mut random = Random::new(3, 0, 0, Purpose::Validation);
        let hits = (0..10_000).filter(|_| random.bool(0.2)).count();
        assert!(hits.abs_diff(2_000) < 200, "{hits}");
        assert!((0..1_000).all(|_| random.bool(1.0)));
        assert!(!(0..1_000).any(|_| random.bool(0.0)));
    }

    #[test]
    fn orders_of_epochs_differ() {
        assert_ne!(epoch_order(0, 0, 50), epoch_order(0, 1, 50));
        assert_ne!(epoch_order(0, 0, 50), epoch_order(1, 0, 50));
        assert_eq!(epoch_order(0, 0, 0), Vec::<usize>::new());
    }

    #[test]
    fn a_buffer_of_one_reads_shards_from_front_to_back() {
        let shards: Vec<Vec<usize>> = (0..6).map(|s| (10 * s..10 * s + 10).collect()).collect();
        let order = shard_order(3, 1, shards.clone(), 1);
        let mut visited: Vec<Vec<usize>> = order.chunks(10).map(<[usize]>::to_vec).collect();
        assert_ne!(visited, shards);
        visited.sort();
        assert_eq!(visited, shards);
        assert_ne!(order, shard_order(3, 2, shards, 1));
    }

    proptest! {
        #[test]
        fn a_buffer_is_never_ahead_of_what_was_read(seed: u64, len in 1usize..200, buffer in 0usize..50) {
            let order = shard_order(seed, 0, vec![(0..len).collect()], buffer);
            for (k, &index) in order.iter().enumerate() {
                prop_assert!(index < k + buffer.max(1));
            }
            let mut sorted = order;
            sorted.sort_unstable();
            prop_assert_eq!(sorted, (0..len).collect::<Vec<_>>());
        }

        #[test]
        fn order_is_a_permutation(seed: u64, epoch: u64, len in 0usize..300) {
            let mut order = epoch_order(seed, epoch, len);
            order.sort_unstable();
            prop_assert_eq!(order, (0..len).collect::<Vec<_>>());
        }

        #[test]
        fn uniform_stays_inside(seed: u64, low in -1e6f64..1e6, width in 1e-9f64..1e6) {
            let mut random = Random::new(seed, 0, 0, Purpose::Validation);
            let value = random.uniform(low, low + width);
            prop_assert!(value >= low && value < low + width);
        }
    }
}
