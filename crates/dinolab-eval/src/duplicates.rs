//! Groups of near-duplicate images.

use crate::rows::rows_of;
use crate::similarity::for_each_query;
use crate::{Error, Result};

/// Rows compared with all others at a time.
const BLOCK: usize = 256;

/// A connected group of similar images: each has at least the threshold's similarity to another
/// image of the group.
#[derive(Clone, Debug, PartialEq)]
pub struct DuplicateGroup {
    /// Rows in ascending order, at least two.
    pub members: Vec<usize>,
    /// Cosine similarity of each member to the first.
    pub similarity: Vec<f32>,
}

/// Groups the rows of `features` (`[N, dim]`, L2-normalised): the connected components of the
/// graph whose edges are pairs with a cosine similarity of at least `threshold`. The largest group
/// is first, then the one with the lowest first member. All pairs are compared, in bounded memory.
/// `progress` is called with the number of rows done.
///
/// # Errors
/// [`Error::Slice`] for a length that is not a multiple of `dim` or values that are not finite,
/// [`Error::BadSetting`] for a threshold that is not above −1 and at most 1.
pub fn near_duplicates(
    features: &[f32],
    dim: usize,
    threshold: f64,
    progress: &mut dyn FnMut(usize),
) -> Result<Vec<DuplicateGroup>> {
    let rows = rows_of("features", features, dim)?;
    if !(threshold > -1.0 && threshold <= 1.0) {
        return Err(Error::setting(
            "threshold",
            format!("must be above -1 and at most 1, is {threshold}"),
        ));
    }
    // Equal rows have a similarity of 1 up to rounding.
    let least = threshold as f32 - 1e-6;
    let mut sets = Sets::new(rows);
    for (block, part) in features.chunks(BLOCK * dim).enumerate() {
        let first = block * BLOCK;
        // Later rows only: a pair is seen once.
        let pairs = for_each_query(
            &features[first * dim..],
            part,
            dim,
            |query, similarities| {
                let later = similarities.iter().enumerate().skip(query + 1);
                later
                    .filter(|&(_, &similarity)| similarity >= least)
                    .map(|(other, _)| (first + other) as u32)
                    .collect::<Vec<u32>>()
            },
        )?;
        for (query, others) in pairs.into_iter().enumerate() {
            for other in others {
                sets.unite(first + query, other as usize);
            }
        }
        progress((first + BLOCK).min(rows));
    }
    let mut groups = sets.groups();
    groups.sort_by(|a, b| b.len().cmp(&a.len()).then(a[0].cmp(&b[0])));
    let row = |i: usize| &features[i * dim..][..dim];
    Ok(groups
        .into_iter()
        .map(|members| DuplicateGroup {
            similarity: members
                .iter()
                .map(|&member| {
                    let pairs = row(members[0]).iter().zip(row(member));
                    pairs
                        .map(|(&a, &b)| f64::from(a) * f64::from(b))
                        .sum::<f64>() as f32
                })
                .collect(),
            members,
        })
        .collect())
}

/// Disjoint sets of rows.
struct Sets {
    parent: Vec<u32>,
}

impl Sets {
    fn new(rows: usize) -> Self {
        Self {
            parent: (0..rows as u32).collect(),
        }
    }

    fn root(&mut self, mut row: usize) -> usize {
        while self.parent[row] as usize != row {
            let above = self.parent[row] as usize;
            self.parent[row] = self.parent[above];
            row = above;
        }
        row
    }

    fn unite(&mut self, a: usize, b: usize) {
        let (a, b) = (self.root(a), self.root(b));
        // The lower row stays the root.
        self.parent[a.max(b)] = a.min(b) as u32;
    }

    /// Returns the sets of at least two rows.
    fn groups(mut self) -> Vec<Vec<usize>> {
        let mut by_root: std::collections::BTreeMap<usize, Vec<usize>> = Default::default();
        for row in 0..self.parent.len() {
            let root = self.root(row);
            by_root.entry(root).or_default().push(row);
        }
        by_root.into_values().filter(|set| set.len() > 1).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(angles: &[f32]) -> Vec<f32> {
        angles.iter().flat_map(|a| [a.cos(), a.sin()]).collect()
    }

    fn members(angles: &[f32], threshold: f64) -> Vec<Vec<usize>> {
        near_duplicates(&unit(angles), 2, threshold, &mut |_| {})
            .unwrap()
            .into_iter()
            .map(|group| group.members)
            .collect()
    }

    #[test]
    fn chains_hang_together() {
        // cos 0.1 = 0.995, cos 0.2 = 0.98: ends of a chain need not be near each other.
        let angles = [2.0, 0.0, 0.1, 0.2, 2.05, 1.2];
        assert_eq!(members(&angles, 0.99), [vec![1, 2, 3], vec![0, 4]]);
        assert_eq!(members(&angles, 0.9985), [vec![0, 4]]);
        assert_eq!(members(&[0.3, 0.3, 1.0], 1.0), [vec![0, 1]], "equal");
        assert!(members(&[0.3, 1.0], 0.99).is_empty());
        assert!(members(&[], 0.5).is_empty());
        let group = &near_duplicates(&unit(&angles), 2, 0.99, &mut |_| {}).unwrap()[0];
        assert!((group.similarity[0] - 1.0).abs() < 1e-6);
        assert!((group.similarity[2] - 0.2f32.cos()).abs() < 1e-6);
        assert!(near_duplicates(&unit(&angles), 2, 1.5, &mut |_| {}).is_err());
    }

    #[test]
    fn blocks_do_not_show() {
        // Every third row of a long list is the same.
        let angles: Vec<f32> = (0..BLOCK * 2 + 50)
            .map(|i| {
                if i % 3 == 0 {
                    0.5
                } else {
                    1.0 + i as f32 * 0.003
                }
            })
            .collect();
        let same: Vec<usize> = (0..angles.len()).filter(|i| i % 3 == 0).collect();
        assert_eq!(members(&angles, 1.0)[0], same);
    }
}
