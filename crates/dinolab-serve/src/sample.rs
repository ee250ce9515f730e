//! Some of many rows or images, always the same ones.

/// `most` indices below `len`, evenly spread.
pub fn spread(len: usize, most: usize) -> Vec<usize> {
    let count = len.min(most);
    (0..count).map(|i| i * len / count).collect()
}

/// `most` indices below `len` in ascending order, one of each of as many equal parts, at no regular
/// distance: every fifth of rows whose classes take turns would be of few classes.
pub fn sample(len: usize, most: usize) -> Vec<usize> {
    let count = len.min(most);
    (0..count)
        .map(|i| {
            let (first, next) = (i * len / count, (i + 1) * len / count);
            first + mixed(i as u64) as usize % (next - first).max(1)
        })
        .collect()
}

/// A number that looks random (SplitMix64).
fn mixed(number: u64) -> u64 {
    let mut z = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (z ^ (z >> 31)) >> 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_even_and_follow_no_period() {
        assert_eq!(sample(5, 9), [0, 1, 2, 3, 4]);
        assert!(sample(0, 9).is_empty() && spread(0, 9).is_empty());
        assert_eq!(spread(10, 4), [0, 2, 5, 7]);
        let chosen = sample(10_000, 1_000);
        assert!(chosen.windows(2).all(|pair| pair[0] < pair[1]));
        for class in 0..10 {
            let of_class = chosen.iter().filter(|&&i| i % 10 == class).count();
            assert!((70..130).contains(&of_class), "{class}: {of_class}");
        }
    }
}
