//! Image retrieval: the revisited Oxford and Paris protocol, and any labelled set.
//!
//! In revisited Oxford and Paris (Radenović et al., CVPR 2018), each query has *easy*, *hard* and
//! *junk* images in the database. Which images are relevant and which are ignored depends on the
//! [`Difficulty`]; see [`Score::of`]. The average precision is the area under the precision–recall
//! curve by trapezoids, as in the original Oxford evaluation. For labelled sets ([`LabelledScore`]) it is
//! the mean of precisions, as is usual there.

mod ground_truth;
mod labelled;
mod pickle;

pub use ground_truth::{GroundTruth, Query};
pub use labelled::LabelledScore;

use crate::similarity::ranks_of;
use crate::{Error, Result};

/// Which images of a query are relevant and which are ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Difficulty {
    /// Easy images are relevant; hard and junk images are ignored.
    Easy,
    /// Easy and hard images are relevant; junk images are ignored.
    Medium,
    /// Hard images are relevant; easy and junk images are ignored.
    Hard,
}

impl Difficulty {
    /// All three, in the order of the benchmark's tables.
    pub const ALL: [Self; 3] = [Self::Easy, Self::Medium, Self::Hard];

    /// Returns the name in lower case.
    pub fn name(self) -> &'static str {
        match self {
            Self::Easy => "easy",
            Self::Medium => "medium",
            Self::Hard => "hard",
        }
    }
}

/// Returns the average precision of one query: the area under its precision–recall curve, by
/// trapezoids.
///
/// `ranks` are the ranks of the relevant images, from 0 and without ignored images, in ascending
/// order; `positives` is the number of relevant images. Each adds a trapezoid of width
/// `1 / positives` between the precision before and at its rank; before rank 0 the precision is 1.
pub(crate) fn average_precision(ranks: &[usize], positives: usize) -> f64 {
    let areas = ranks.iter().enumerate().map(|(found, &rank)| {
        let before = match rank {
            0 => 1.0,
            _ => found as f64 / rank as f64,
        };
        let at = (found + 1) as f64 / (rank + 1) as f64;
        (before + at) / 2.0
    });
    areas.sum::<f64>() / positives as f64
}

/// Returns the precision at `k` as the revisited benchmark defines it: if the last relevant image
/// ranks before `k`, its rank is the cut-off instead.
fn precision_at(ranks: &[usize], k: usize) -> f64 {
    let Some(&last) = ranks.last() else {
        return 0.0;
    };
    let k = k.min(last + 1);
    ranks.iter().filter(|&&rank| rank < k).count() as f64 / k.max(1) as f64
}

/// Returns the ranks of the relevant images once junk is removed from the ranking. Both lists
/// ascend.
fn without_junk(ranks: &[usize], junk: &[usize]) -> Vec<usize> {
    let mut before = 0;
    ranks
        .iter()
        .map(|&rank| {
            while before < junk.len() && junk[before] < rank {
                before += 1;
            }
            rank - before
        })
        .collect()
}

/// The ranks, from 0 in the complete ranking, of the images in the ground truth of a query.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueryRanks {
    /// Of [`Query::easy`], ascending.
    pub easy: Vec<usize>,
    /// Of [`Query::hard`], ascending.
    pub hard: Vec<usize>,
    /// Of [`Query::junk`], ascending.
    pub junk: Vec<usize>,
}

/// The scores for one difficulty.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Score {
    /// Mean over queries of the average precision, 0–1; `None` if no query has relevant images.
    pub map: Option<f64>,
    /// Mean over queries of the precision at each `k`, 0–1.
    pub precision: Vec<f64>,
    /// Average precision of each query; `None` for one without relevant images, which is excluded
    /// from the means.
    pub per_query: Vec<Option<f64>>,
}

impl Score {
    /// Scores all queries at one difficulty; `ks` are the cut-offs of mP@k.
    pub fn of(difficulty: Difficulty, ranks: &[QueryRanks], ks: &[usize]) -> Self {
        let mut per_query = Vec::with_capacity(ranks.len());
        let mut precision = vec![0.0; ks.len()];
        for QueryRanks { easy, hard, junk } in ranks {
            let (wanted, left_out) = match difficulty {
                Difficulty::Easy => (easy.clone(), merged(junk, hard)),
                Difficulty::Medium => (merged(easy, hard), junk.clone()),
                Difficulty::Hard => (hard.clone(), merged(junk, easy)),
            };
            if wanted.is_empty() {
                per_query.push(None);
                continue;
            }
            let ranks = without_junk(&wanted, &left_out);
            per_query.push(Some(average_precision(&ranks, wanted.len())));
            for (sum, &k) in precision.iter_mut().zip(ks) {
                *sum += precision_at(&ranks, k);
            }
        }
        let counted = per_query.iter().flatten().count();
        for sum in &mut precision {
            *sum /= counted.max(1) as f64;
        }
        Self {
            map: (counted > 0).then(|| per_query.iter().flatten().sum::<f64>() / counted as f64),
            precision,
            per_query,
        }
    }
}

fn merged(a: &[usize], b: &[usize]) -> Vec<usize> {
    let mut all = [a, b].concat();
    all.sort_unstable();
    all
}

impl GroundTruth {
    /// Ranks the database (`[N, dim]`, in the order of [`GroundTruth::images`]) for each query
    /// (`[Q, dim]`) by cosine similarity; rows are L2-normalised, and ties are in the order of the
    /// database. Memory in addition to the features is bounded.
    ///
    /// # Errors
    /// [`Error::Invalid`] for numbers of rows that differ from the ground truth's,
    /// [`Error::Slice`] for values that are not finite.
    pub fn ranks(&self, database: &[f32], queries: &[f32], dim: usize) -> Result<Vec<QueryRanks>> {
        if database.len() != self.images.len() * dim || queries.len() != self.truth.len() * dim {
            return Err(Error::invalid(
                "features",
                format!(
                    "{} rows and {} queries for a ground truth of {} and {}",
                    database.len() / dim.max(1),
                    queries.len() / dim.max(1),
                    self.images.len(),
                    self.truth.len()
                ),
            ));
        }
        let wanted: Vec<Vec<usize>> = self
            .truth
            .iter()
            .map(|query| [&query.easy[..], &query.hard, &query.junk].concat())
            .collect();
        let ranks = ranks_of(database, queries, dim, &wanted)?;
        let sorted = |ranks: &[usize]| {
            let mut ranks = ranks.to_vec();
            ranks.sort_unstable();
            ranks
        };
        Ok(self
            .truth
            .iter()
            .zip(ranks)
            .map(|(query, ranks)| {
                let (easy, rest) = ranks.split_at(query.easy.len());
                let (hard, junk) = rest.split_at(query.hard.len());
                QueryRanks {
                    easy: sorted(easy),
                    hard: sorted(hard),
                    junk: sorted(junk),
                }
            })
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn average_precision_by_hand() {
        // Everything first: 1. One of one at place 1: (0 + 1/2) / 2.
        assert_eq!(average_precision(&[0, 1, 2], 3), 1.0);
        assert_eq!(average_precision(&[1], 1), 0.25);
        // QueryRanks 0 and 2 of two: (1 + 1) / 2 and (1/2 + 2/3) / 2, each of width 1/2.
        let expected = 0.5 * (1.0 + (0.5 + 2.0 / 3.0) / 2.0);
        assert!((average_precision(&[0, 2], 2) - expected).abs() < 1e-15);
        // One of two is never found.
        assert_eq!(average_precision(&[0], 2), 0.5);
        assert_eq!(average_precision(&[], 2), 0.0);
    }

    #[test]
    fn precision_stops_at_the_last_one() {
        assert_eq!(precision_at(&[0, 3], 1), 1.0);
        assert_eq!(precision_at(&[0, 3], 10), 0.5, "two of the first four");
        assert_eq!(precision_at(&[0, 3], 3), 1.0 / 3.0);
        assert_eq!(precision_at(&[2], 1), 0.0);
        assert_eq!(precision_at(&[], 5), 0.0);
    }

    #[test]
    fn junk_moves_up_what_comes_after_it() {
        assert_eq!(without_junk(&[0, 3, 5], &[1, 2, 4, 6]), [0, 1, 2]);
        assert_eq!(without_junk(&[2, 3], &[]), [2, 3]);
        assert_eq!(without_junk(&[], &[1]), [] as [usize; 0]);
    }

    #[test]
    fn difficulties_by_hand() {
        // The ranking: junk, hard, negative, easy, hard, junk.
        let places = [
            QueryRanks {
                easy: vec![3],
                hard: vec![1, 4],
                junk: vec![0, 5],
            },
            // Nothing easy: left out of the easy figures, part of the others.
            QueryRanks {
                easy: vec![],
                hard: vec![0],
                junk: vec![],
            },
        ];
        let score = |difficulty| Score::of(difficulty, &places, &[1, 2]);
        // Easy: without junk and hard the ranking is negative, easy.
        let easy = score(Difficulty::Easy);
        assert_eq!(easy.per_query, [Some(0.25), None]);
        assert_eq!(easy.map, Some(0.25));
        assert_eq!(easy.precision, [0.0, 0.5]);
        // Medium: hard, negative, easy, hard.
        let medium = score(Difficulty::Medium);
        let first = (1.0 + (0.5 + 2.0 / 3.0) / 2.0 + (2.0 / 3.0 + 0.75) / 2.0) / 3.0;
        assert!((medium.per_query[0].unwrap() - first).abs() < 1e-15);
        assert!((medium.map.unwrap() - (first + 1.0) / 2.0).abs() < 1e-15);
        assert_eq!(medium.precision, [1.0, 0.75]);
        // Hard: hard, negative, hard.
        let hard = score(Difficulty::Hard);
        let first = (1.0 + (0.5 + 2.0 / 3.0) / 2.0) / 2.0;
        assert!((hard.per_query[0].unwrap() - first).abs() < 1e-15);
        assert_eq!(Score::of(Difficulty::Easy, &[], &[1]).map, None);
    }
}
