//! Groups of near-duplicate images.

use std::collections::BTreeMap;

use dinolab_data::slice::check_finite;
use rayon::prelude::*;

use crate::feature_rows::{BLOCK, FeatureRows, RowsInMemory};
use crate::rows::{products, transposed};
use crate::{Error, Result};

/// Rows that are compared with all later ones, which are read once for them.
const TILE: usize = 4 * BLOCK;
/// Rows of a tile that are compared at a time.
const QUERY_BLOCK: usize = 128;
/// Later rows that are compared at a time.
const ROW_BLOCK: usize = 2048;

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
    near_duplicate_rows(&RowsInMemory::new(features, dim)?, threshold, progress)
}

/// [`near_duplicates`] of rows that need not be in memory: 40,960 of them are, at a time, and a number for each
/// row. The groups are the same.
///
/// # Errors
/// As [`near_duplicates`]; rows that cannot be read; 2³² rows or more.
pub fn near_duplicate_rows(
    rows: &dyn FeatureRows,
    threshold: f64,
    progress: &mut dyn FnMut(usize),
) -> Result<Vec<DuplicateGroup>> {
    if !(threshold > -1.0 && threshold <= 1.0) {
        return Err(Error::setting(
            "threshold",
            format!("must be above -1 and at most 1, is {threshold}"),
        ));
    }
    let (count, dim) = (rows.len(), rows.dim());
    if u32::try_from(count).is_err() {
        return Err(Error::invalid("features", "there are too many to compare"));
    }
    // Equal rows have a similarity of 1 up to rounding.
    let least = threshold as f32 - 1e-6;
    let mut sets = Sets::new(count);
    let mut held = Vec::new();
    for first in (0..count).step_by(TILE) {
        let tile = TILE.min(count - first);
        let mut queries: Vec<Vec<f32>> = Vec::new();
        for start in (first..first + tile).step_by(BLOCK) {
            held.resize(BLOCK.min(first + tile - start) * dim, 0.0);
            rows.read(start, &mut held)?;
            check_finite("features", &held)?;
            let blocks = held.par_chunks(QUERY_BLOCK * dim);
            queries.par_extend(blocks.map(|block| transposed(block, dim)));
        }
        // The tile itself, and later rows only: a pair is seen once.
        for start in (first..count).step_by(BLOCK) {
            let end = count.min(start + BLOCK);
            held.resize((end - start) * dim, 0.0);
            rows.read(start, &mut held)?;
            let edges: Vec<Vec<(u32, u32)>> = queries
                .par_iter()
                .enumerate()
                .map_init(Vec::new, |similarities, (number, queries)| {
                    let queries = Block {
                        first: first + number * QUERY_BLOCK,
                        columns: queries,
                    };
                    queries.edges(&held, start, dim, least, similarities)
                })
                .collect();
            for (a, b) in edges.into_iter().flatten() {
                sets.unite(a as usize, b as usize);
            }
            progress(first + tile * (end - first) / (count - first));
        }
    }
    let mut groups = sets.groups();
    groups.sort_by(|a, b| b.len().cmp(&a.len()).then(a[0].cmp(&b[0])));
    groups
        .into_iter()
        .map(|members| {
            Ok(DuplicateGroup {
                similarity: to_first(rows, &members)?,
                members,
            })
        })
        .collect()
}

/// The cosine similarity of each of some rows to the first of them.
fn to_first(rows: &dyn FeatureRows, members: &[usize]) -> Result<Vec<f32>> {
    let dim = rows.dim();
    let (mut first, mut held) = (vec![0.0; dim], Vec::new());
    rows.read(members[0], &mut first)?;
    let mut similarity = Vec::with_capacity(members.len());
    for members in members.chunks(BLOCK) {
        held.resize(members.len() * dim, 0.0);
        rows.gather(members, &mut held)?;
        similarity.extend(held.chunks_exact(dim).map(|row| {
            let pairs = first.iter().zip(row);
            pairs
                .map(|(&a, &b)| f64::from(a) * f64::from(b))
                .sum::<f64>() as f32
        }));
    }
    Ok(similarity)
}

/// Rows that are compared with later ones.
struct Block<'a> {
    /// The number of the first.
    first: usize,
    /// `[D, count]`.
    columns: &'a [f32],
}

impl Block<'_> {
    /// Edges that join what is similar among these rows and `others` `[R, dim]`, from number `start` on: no more
    /// than one for each row, however many pairs are similar. `similarities` is room to work in.
    fn edges(
        &self,
        others: &[f32],
        start: usize,
        dim: usize,
        least: f32,
        similarities: &mut Vec<f32>,
    ) -> Vec<(u32, u32)> {
        let count = self.columns.len() / dim;
        let mut own = Sets::new(count);
        let mut edges = Vec::new();
        for (place, part) in others.chunks(ROW_BLOCK * dim).enumerate() {
            let start = start + place * ROW_BLOCK;
            if start + part.len() / dim <= self.first {
                continue;
            }
            similarities.resize(part.len() / dim * count, 0.0);
            products(part, self.columns, dim, similarities);
            for (row, of_all) in similarities.chunks_exact(count).enumerate() {
                let other = start + row;
                let earlier = other.saturating_sub(self.first).min(count);
                let mut similar = (0..earlier).filter(|&query| of_all[query] >= least);
                let Some(one) = similar.next() else { continue };
                edges.push(((self.first + one) as u32, other as u32));
                for query in similar {
                    // They are joined through this row.
                    if own.unite(one, query) {
                        edges.push(((self.first + one) as u32, (self.first + query) as u32));
                    }
                }
            }
        }
        edges
    }
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

    /// Joins the sets of two rows, and returns whether they were apart.
    fn unite(&mut self, a: usize, b: usize) -> bool {
        let (a, b) = (self.root(a), self.root(b));
        // The lower row stays the root.
        self.parent[a.max(b)] = a.min(b) as u32;
        a != b
    }

    /// Returns the sets of at least two rows.
    fn groups(mut self) -> Vec<Vec<usize>> {
        // The root of a set is its first row.
        let mut by_root: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for row in 0..self.parent.len() {
            let root = self.root(row);
            if root != row {
                by_root.entry(root).or_insert_with(|| vec![root]).push(row);
            }
        }
        by_root.into_values().collect()
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
        let angles: Vec<f32> = (0..ROW_BLOCK * 2 + 50)
            .map(|i| {
                if i % 3 == 0 {
                    0.5
                } else {
                    1.0 + i as f32 * 0.0003
                }
            })
            .collect();
        let same: Vec<usize> = (0..angles.len()).filter(|i| i % 3 == 0).collect();
        let found = members(&angles, 1.0);
        assert!(found.contains(&same));
    }

    /// Connected components by the definition, all pairs in double precision.
    fn plain(features: &[f32], dim: usize, threshold: f64) -> Vec<Vec<usize>> {
        let rows: Vec<&[f32]> = features.chunks(dim).collect();
        let mut of: Vec<usize> = (0..rows.len()).collect();
        for b in 0..rows.len() {
            for a in 0..b {
                let pairs = rows[a].iter().zip(rows[b]);
                let cosine: f64 = pairs.map(|(x, y)| f64::from(*x) * f64::from(*y)).sum();
                if cosine >= threshold && of[a] != of[b] {
                    let (low, high) = (of[a].min(of[b]), of[a].max(of[b]));
                    of.iter_mut().filter(|o| **o == high).for_each(|o| *o = low);
                }
            }
        }
        let groups = (0..rows.len()).map(|root| -> Vec<usize> {
            let members = of.iter().enumerate().filter(|(_, of)| **of == root);
            members.map(|(row, _)| row).collect()
        });
        let mut groups: Vec<Vec<usize>> = groups.filter(|group| group.len() > 1).collect();
        groups.sort_by(|a, b| b.len().cmp(&a.len()).then(a[0].cmp(&b[0])));
        groups
    }

    #[test]
    fn groups_are_the_connected_components() {
        // Clusters of several sizes, chains among them, in an order that mixes them, and lone rows.
        let (dim, count) = (5, 900);
        let value = |i: usize| ((i * 7919 + 31) % 1013) as f32 / 506.5 - 1.0;
        let mut features: Vec<f32> = (0..count)
            .flat_map(|row| {
                let cluster = row * row % 97;
                let near = move |d: usize| 0.06 * value(row * 13 + d);
                (0..dim).map(move |d| value(cluster * dim + d) + near(d))
            })
            .collect();
        crate::knn::l2_normalise(&mut features, dim).unwrap();
        for threshold in [0.9, 0.98, 0.995, 0.9995] {
            let found = near_duplicates(&features, dim, threshold, &mut |_| {}).unwrap();
            let found: Vec<Vec<usize>> = found.into_iter().map(|group| group.members).collect();
            assert_eq!(found, plain(&features, dim, threshold), "{threshold}");
        }
    }

    /// Rows that are made as they are read: every `period`-th is the same, the others point elsewhere.
    struct Made {
        count: usize,
        period: usize,
    }

    impl FeatureRows for Made {
        fn len(&self) -> usize {
            self.count
        }

        fn dim(&self) -> usize {
            8
        }

        fn read(&self, first: usize, out: &mut [f32]) -> Result<()> {
            for (row, out) in (first..).zip(out.chunks_exact_mut(8)) {
                out.fill(0.0);
                match row % self.period {
                    0 => out[7] = 1.0,
                    _ => {
                        let angle = row as f32 * 0.0001;
                        (out[row % 3], out[3 + row % 4]) = (angle.cos(), angle.sin());
                    }
                }
            }
            Ok(())
        }
    }

    #[test]
    fn tiles_do_not_show() {
        let rows = Made {
            count: TILE + BLOCK + 77,
            period: 1000,
        };
        let mut last = 0;
        let found = near_duplicate_rows(&rows, 1.0, &mut |done| {
            assert!(done >= last);
            last = done;
        });
        assert_eq!(last, rows.count);
        let expected: Vec<usize> = (0..rows.count).step_by(1000).collect();
        let group = found.unwrap();
        let group = group.iter().find(|group| group.members[0] == 0).unwrap();
        assert_eq!(group.members, expected);
        assert!(group.similarity.iter().all(|&similarity| similarity == 1.0));
    }

    #[test]
    fn rows_that_are_all_alike_take_an_edge_each() {
        let rows = 2 * QUERY_BLOCK + 9;
        let features = vec![1.0; rows];
        let queries = Block {
            first: 0,
            columns: &features[..QUERY_BLOCK],
        };
        let edges = queries.edges(&features, 0, 1, 0.5, &mut Vec::new());
        assert!(edges.len() < rows + QUERY_BLOCK, "{}", edges.len());
        let found = near_duplicates(&features, 1, 0.5, &mut |_| {}).unwrap();
        assert_eq!(found[0].members, (0..rows).collect::<Vec<_>>());
    }
}
