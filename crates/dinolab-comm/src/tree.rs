//! Sums along a balanced binary tree over the ranks.

use std::ops::Range;

/// Replaces `values` by their sums over `size` processes, a power of two, along the binary tree whose
/// leaves are the ranks in order: ranks 0 and 1, 2 and 3, … first, then their sums.
///
/// The two partners of a level divide the values between them, so each node of the tree adds a value
/// once, in one process; then the sums are passed back. A process sends less than twice the values
/// whatever the number of processes, and all processes hold the same bits, those of a NaN included.
///
/// `exchange` sends the first slice to a rank and fills the second with what that rank sends.
pub(crate) fn all_reduce(
    rank: usize,
    size: usize,
    values: &mut [f32],
    mut exchange: impl FnMut(usize, &[f32], &mut [f32]),
) {
    debug_assert!(size.is_power_of_two() && rank < size);
    let mut received = vec![0.0; values.len().div_ceil(2)];
    let mut levels = Vec::new();
    let mut held = 0..values.len();
    for distance in (0..size.ilog2()).map(|level| 1 << level) {
        let level = Level {
            partner: rank ^ distance,
            keeps_lower: rank & distance == 0,
            held,
        };
        let (kept, given) = level.split(values);
        let received = &mut received[..kept.len()];
        exchange(level.partner, given, received);
        for (own, other) in kept.iter_mut().zip(received) {
            *own += *other;
        }
        held = level.kept();
        levels.push(level);
    }
    for level in levels.iter().rev() {
        let (kept, given) = level.split(values);
        exchange(level.partner, kept, given);
    }
}

/// The division of values that two partners both hold.
struct Level {
    partner: usize,
    held: Range<usize>,
    keeps_lower: bool,
}

impl Level {
    fn kept(&self) -> Range<usize> {
        let middle = self.held.start + self.held.len() / 2;
        if self.keeps_lower {
            self.held.start..middle
        } else {
            middle..self.held.end
        }
    }

    /// The parts of `values` that this process keeps and that it gives to its partner.
    fn split<'a>(&self, values: &'a mut [f32]) -> (&'a mut [f32], &'a mut [f32]) {
        let (lower, upper) = values[self.held.clone()].split_at_mut(self.held.len() / 2);
        if self.keeps_lower {
            (lower, upper)
        } else {
            (upper, lower)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;

    use super::all_reduce;

    /// Sums over threads that stand for processes, joined by channels.
    fn over_threads(mut values: Vec<Vec<f32>>) -> Vec<Vec<f32>> {
        let size = values.len();
        let (senders, receivers): (Vec<_>, Vec<_>) = (0..size * size)
            .map(|_| mpsc::channel::<Vec<f32>>())
            .unzip();
        let mut receivers = receivers.into_iter();
        thread::scope(|scope| {
            for (rank, values) in values.iter_mut().enumerate() {
                let inbox: Vec<_> = receivers.by_ref().take(size).collect();
                let senders = senders.clone();
                scope.spawn(move || {
                    all_reduce(rank, size, values, |partner, given, taken| {
                        senders[partner * size + rank].send(given.to_vec()).unwrap();
                        taken.copy_from_slice(&inbox[partner].recv().unwrap());
                    });
                });
            }
        });
        values
    }

    /// Summands whose sum depends on the order of additions.
    fn summand(index: usize, len: usize) -> Vec<f32> {
        (0..len)
            .map(|i| ((index * 31 + i * 7 + 1) as f32).sin() * 10f32.powi((index % 5) as i32))
            .collect()
    }

    fn tree(summands: &[Vec<f32>]) -> Vec<f32> {
        match summands {
            [one] => one.clone(),
            _ => {
                let (lower, upper) = summands.split_at(summands.len() / 2);
                tree(lower)
                    .iter()
                    .zip(tree(upper))
                    .map(|(a, b)| a + b)
                    .collect()
            }
        }
    }

    fn bits(values: &[f32]) -> Vec<u32> {
        values.iter().map(|v| v.to_bits()).collect()
    }

    #[test]
    fn sums_do_not_depend_on_the_number_of_processes() {
        for len in [0, 1, 2, 3, 5, 17, 1000, 1001] {
            let summands: Vec<_> = (0..16).map(|index| summand(index, len)).collect();
            let expected = bits(&tree(&summands));
            for size in [1, 2, 4, 8, 16] {
                let own = summands.chunks(16 / size).map(tree).collect();
                for sums in over_threads(own) {
                    assert_eq!(bits(&sums), expected, "{len} values over {size} processes");
                }
            }
        }
    }

    #[test]
    fn nans_are_the_same_everywhere() {
        let values = (0..4)
            .map(|rank| vec![f32::from_bits(0x7fc0_0001 + rank); 9])
            .collect();
        let sums = over_threads(values);
        assert!(sums.iter().all(|own| bits(own) == bits(&sums[0])));
    }
}
