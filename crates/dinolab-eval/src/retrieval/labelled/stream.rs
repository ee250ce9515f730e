//! Ranks in a database that is read some rows at a time.
//!
//! The rank of a relevant row is the number of rows before it. The database is read twice for some queries: for the
//! similarities of their relevant rows, and to count the rows between these.

use std::cmp::Ordering;
use std::collections::HashMap;

use dinolab_data::slice::{check_finite, check_length};
use rayon::prelude::*;

use super::{LabelledScore, Scored, rows_by_label};
use crate::feature_rows::{LabelledRows, for_blocks};
use crate::rows::{products, transposed};
use crate::similarity::{QUERY_BLOCK, ROW_BLOCK, order};
use crate::{Error, Result};

/// Most queries that the database is read for at a time.
const QUERIES: usize = 128 * QUERY_BLOCK;
/// Most relevant rows of these, of all queries together (a hundred megabytes).
const RELEVANT: usize = 1 << 23;

impl LabelledScore {
    /// [`LabelledScore::of`] with rows that need not be in memory; they must be L2-normalised. Up to 16,384 queries
    /// are held at a time, and their relevant rows' similarities; the database is read twice for them. The scores are
    /// the same. `progress` is called with the number of queries done.
    ///
    /// # Errors
    /// As [`LabelledScore::of`]; rows that cannot be read; 2³² rows or more.
    pub fn of_rows(
        database: LabelledRows<'_>,
        queries: Option<LabelledRows<'_>>,
        ks: &[usize],
        progress: &mut dyn FnMut(usize),
    ) -> Result<Self> {
        let asked = queries.unwrap_or(database);
        for LabelledRows { rows, labels } in [database, asked] {
            check_length("labels", rows.len(), labels.len())?;
            if rows.is_empty() || rows.dim() == 0 || u32::try_from(rows.len()).is_err() {
                return Err(Error::invalid("features", "no rows, or too many"));
            }
        }
        check_length("query feature width", database.rows.dim(), asked.rows.dim())?;
        if ks.contains(&0) {
            return Err(Error::setting("k", "must be at least 1"));
        }
        let others = database.rows.len() - usize::from(queries.is_none());
        let of_label = rows_by_label(database.labels);
        let count = |query: usize| of_label.get(asked.labels[query]).map_or(0, Vec::len);
        let mut scored = Vec::with_capacity(asked.labels.len());
        while scored.len() < asked.labels.len() {
            let first = scored.len();
            let group = Group {
                first,
                count: group(first, asked.labels.len(), count),
                skip_self: queries.is_none(),
            };
            let ranks = group.ranks(database, asked)?;
            scored.extend(
                ranks
                    .into_iter()
                    .map(|ranks| (!ranks.is_empty()).then(|| Scored::of(&ranks, others, ks))),
            );
            progress(scored.len());
        }
        Self::mean(&scored, ks)
    }
}

/// How many queries from `first` on the database is read for at once: whole blocks, and one at least.
fn group(first: usize, queries: usize, relevant: impl Fn(usize) -> usize) -> usize {
    let mut held = 0;
    let mut end = first;
    while end < queries.min(first + QUERIES) {
        let next = queries.min(end + QUERY_BLOCK);
        held += (end..next).map(&relevant).sum::<usize>();
        if held > RELEVANT && end > first {
            break;
        }
        end = next;
    }
    end - first
}

/// Queries that the database is read for together.
struct Group {
    first: usize,
    count: usize,
    /// Whether queries are rows of the database, which do not find themselves.
    skip_self: bool,
}

/// A block of them.
struct Block {
    /// The number of the first.
    first: usize,
    /// `[D, count]`.
    columns: Vec<f32>,
    /// The queries of each label.
    of_label: HashMap<usize, Vec<usize>>,
    /// Similarity and number of the relevant rows of each query; then in the order of their ranks.
    relevant: Vec<Vec<(f32, u32)>>,
    /// How many rows come before the first of them, between it and the second, ….
    between: Vec<Vec<u32>>,
}

impl Group {
    /// The ranks of the relevant rows of each query, ascending.
    fn ranks(
        &self,
        database: LabelledRows<'_>,
        asked: LabelledRows<'_>,
    ) -> Result<Vec<Vec<usize>>> {
        let dim = database.rows.dim();
        let mut queries = vec![0.0; self.count * dim];
        asked.rows.read(self.first, &mut queries)?;
        check_finite("query features", &queries)?;
        let labels = &asked.labels[self.first..][..self.count];
        let mut blocks: Vec<Block> = queries
            .par_chunks(QUERY_BLOCK * dim)
            .zip(labels.par_chunks(QUERY_BLOCK))
            .enumerate()
            .map(|(number, (rows, labels))| {
                let first = self.first + number * QUERY_BLOCK;
                Block::new(first, rows, labels, dim)
            })
            .collect();
        drop(queries);
        for_blocks(database.rows, |first, rows| {
            check_finite("features", rows)?;
            self.look(&mut blocks, rows, dim, |block, start, similarities| {
                let count = block.relevant.len();
                for (row, of_all) in (first + start..).zip(similarities.chunks_exact(count)) {
                    let queries = block.of_label.get(&database.labels[row]);
                    for &query in queries.into_iter().flatten() {
                        if !(self.skip_self && block.first + query == row) {
                            block.relevant[query].push((of_all[query] + 0.0, row as u32));
                        }
                    }
                }
            });
            Ok(())
        })?;
        for block in &mut blocks {
            block.relevant.par_iter_mut().for_each(|relevant| {
                relevant.sort_unstable_by(|&a, &b| ordered(a, b));
            });
            let between = block
                .relevant
                .iter()
                .map(|relevant| vec![0; relevant.len()]);
            block.between = between.collect();
        }
        for_blocks(database.rows, |first, rows| {
            self.look(&mut blocks, rows, dim, |block, start, similarities| {
                let count = block.relevant.len();
                let counts = block
                    .relevant
                    .par_iter()
                    .zip(&mut block.between)
                    .enumerate();
                // All rows for one query: its relevant rows stay in the cache.
                counts.for_each(|(query, (relevant, between))| {
                    let own = self.skip_self.then_some(block.first + query);
                    let of_query = similarities[query..].iter().step_by(count);
                    // Adding 0 makes −0 and 0 equal.
                    let found = of_query.map(|similarity| similarity + 0.0);
                    let rows = found.zip(first + start..);
                    count_between(relevant, rows.filter(|(_, row)| Some(*row) != own), between);
                });
            });
            Ok(())
        })?;
        let between = blocks.into_iter().flat_map(|block| block.between);
        let ranks = between.map(|between| {
            let mut before = 0;
            let ranks = between.into_iter().map(|count| {
                before += count as usize;
                // The row itself is counted.
                before - 1
            });
            ranks.collect()
        });
        Ok(ranks.collect())
    }

    /// Gives `each` the similarities of `rows` to the queries of each block: some rows at a time, with the number
    /// of the first.
    fn look(
        &self,
        blocks: &mut [Block],
        rows: &[f32],
        dim: usize,
        each: impl Fn(&mut Block, usize, &[f32]) + Sync,
    ) {
        blocks
            .par_iter_mut()
            .for_each_init(Vec::new, |similarities: &mut Vec<f32>, block| {
                let count = block.columns.len() / dim;
                for (place, part) in rows.chunks(ROW_BLOCK * dim).enumerate() {
                    similarities.resize(part.len() / dim * count, 0.0);
                    products(part, &block.columns, dim, similarities);
                    each(block, place * ROW_BLOCK, similarities);
                }
            });
    }
}

impl Block {
    fn new(first: usize, rows: &[f32], labels: &[usize], dim: usize) -> Self {
        let mut of_label: HashMap<usize, Vec<usize>> = HashMap::new();
        for (query, &label) in labels.iter().enumerate() {
            of_label.entry(label).or_default().push(query);
        }
        Self {
            first,
            columns: transposed(rows, dim),
            of_label,
            relevant: vec![Vec::new(); labels.len()],
            between: Vec::new(),
        }
    }
}

/// Counts the rows `found`, similarity and number, before the first of the `relevant` rows, between it and the
/// second, …; those behind the last do not count.
fn count_between(
    relevant: &[(f32, u32)],
    found: impl Iterator<Item = (f32, usize)>,
    between: &mut [u32],
) {
    let Some(&last) = relevant.last() else { return };
    for (similarity, row) in found {
        let found = (similarity, row as u32);
        if ordered(last, found) != Ordering::Less {
            let place = relevant.partition_point(|&w| ordered(w, found) == Ordering::Less);
            between[place] += 1;
        }
    }
}

/// As [`order`], of rows that are numbered in 32 bits.
fn ordered(a: (f32, u32), b: (f32, u32)) -> Ordering {
    order((a.0, a.1 as usize), (b.0, b.1 as usize))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::feature_rows::RowsInMemory;
    use crate::knn::{Labelled, l2_normalise};

    /// Rows of unit length about centres of classes, some of them twice, so that there are ties.
    fn set(count: usize, classes: usize, seed: usize) -> (Vec<f32>, Vec<usize>) {
        let value = |i: usize| ((i * 7919 + seed) % 1013) as f32 / 506.5 - 1.0;
        let labels: Vec<usize> = (0..count).map(|row| row * row % classes).collect();
        let mut features: Vec<f32> = (0..count * 6)
            .map(|i| value(labels[i / 6] * 6 + i % 6) + 0.8 * value(i / 12 * 12 + i % 6))
            .collect();
        l2_normalise(&mut features, 6).unwrap();
        (features, labels)
    }

    #[test]
    fn scores_are_those_of_rows_in_memory() {
        let (database, queries) = (set(9000, 23, 1), set(300, 25, 40));
        let rows = |(features, _): &(Vec<f32>, Vec<usize>)| {
            RowsInMemory::new(features.clone(), 6).unwrap()
        };
        let (all, some) = (rows(&database), rows(&queries));
        let memory = |set: &'static str| match set {
            "queries" => (&queries.0, &queries.1),
            _ => (&database.0, &database.1),
        };
        let labelled = |set| {
            let (features, labels) = memory(set);
            Labelled {
                features,
                dim: 6,
                labels,
            }
        };
        let ks = [1, 5, 100];
        let stream = LabelledRows {
            rows: &all,
            labels: &database.1,
        };
        let asked = LabelledRows {
            rows: &some,
            labels: &queries.1,
        };
        let expected =
            LabelledScore::of(labelled("database"), Some(labelled("queries")), &ks).unwrap();
        let found = LabelledScore::of_rows(stream, Some(asked), &ks, &mut |_| {}).unwrap();
        assert_eq!(found, expected);
        assert!(expected.without_match > 0 && expected.map < 1.0);
        // Each row against all others.
        let expected = LabelledScore::of(labelled("queries"), None, &ks).unwrap();
        let mut done = 0;
        let found = LabelledScore::of_rows(asked, None, &ks, &mut |now| done = now).unwrap();
        assert_eq!((found, done), (expected, 300));
        assert!(LabelledScore::of_rows(asked, None, &[0], &mut |_| {}).is_err());
        let short = LabelledRows {
            labels: &queries.1[1..],
            ..asked
        };
        assert!(LabelledScore::of_rows(short, None, &ks, &mut |_| {}).is_err());
    }

    #[test]
    fn queries_are_held_as_far_as_their_relevant_rows_fit() {
        assert_eq!(group(0, 300, |_| 1), 300);
        assert_eq!(group(256, 300, |_| 1), 44);
        assert_eq!(group(0, 1 << 20, |_| 1), QUERIES);
        // A block is the least.
        assert_eq!(group(0, 1000, |_| RELEVANT), QUERY_BLOCK);
        assert_eq!(group(0, 1000, |_| RELEVANT / 300), 2 * QUERY_BLOCK);
    }
}
