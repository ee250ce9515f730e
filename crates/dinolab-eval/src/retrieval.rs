//! Finding images of the same thing: the revisited Oxford and Paris protocol, and any
//! labelled set.
//!
//! Revisited Oxford/Paris (Radenović et al., CVPR 2018): each query has *easy*, *hard* and
//! *junk* images in the database. What counts as found and what is left out of the ranking
//! depends on the [`Difficulty`]; see [`score`]. The average precision is the area under the
//! precision–recall curve by trapezoids, as in the original Oxford evaluation, not the mean of
//! precisions; labelled sets ([`labelled`]) use the latter, as is usual there.

mod ground_truth;
mod labelled;
mod pickle;

pub use ground_truth::{GroundTruth, Query};
pub use labelled::{LabelledScore, labelled};

use crate::similarity::ranks_of;
use crate::{Error, Result};

/// Which images of a query count as found, and which are as if they were not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Difficulty {
    /// Easy images count; hard ones and junk are left out.
    Easy,
    /// Easy and hard images count; junk is left out.
    Medium,
    /// Hard images count; easy ones and junk are left out.
    Hard,
}

impl Difficulty {
    /// All three, in the order of the benchmark's tables.
    pub const ALL: [Self; 3] = [Self::Easy, Self::Medium, Self::Hard];

    /// In lower case.
    pub fn name(self) -> &'static str {
        match self {
            Self::Easy => "easy",
            Self::Medium => "medium",
            Self::Hard => "hard",
        }
    }
}

/// Average precision of one query: the area under its precision–recall curve, by trapezoids.
///
/// `ranks` are the places of the images that count, counted from 0 among those that are not
/// left out, in ascending order; `positives` is how many there are to find. Each found image
/// adds a trapezoid of width `1 / positives` between the precision before it and at it; before
/// the first place the precision is 1.
pub fn average_precision(ranks: &[usize], positives: usize) -> f64 {
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

/// Precision among the first `k` places, as the revisited benchmark defines it: where the last
/// image that counts comes before place `k`, the places up to it are taken instead.
pub fn precision_at(ranks: &[usize], k: usize) -> f64 {
    let Some(&last) = ranks.last() else {
        return 0.0;
    };
    let k = k.min(last + 1);
    ranks.iter().filter(|&&rank| rank < k).count() as f64 / k.max(1) as f64
}

/// Places of the images that count, once those left out are taken out of the ranking. Both
/// lists ascend.
pub fn without_junk(ranks: &[usize], junk: &[usize]) -> Vec<usize> {
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

/// Places in the whole ranking, from 0, of the images that the ground truth names, per list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Places {
    /// Of [`Query::easy`], ascending.
    pub easy: Vec<usize>,
    /// Of [`Query::hard`], ascending.
    pub hard: Vec<usize>,
    /// Of [`Query::junk`], ascending.
    pub junk: Vec<usize>,
}

/// The figures of one difficulty.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Score {
    /// Mean over queries of the average precision, 0–1; `None` where no query counts.
    pub map: Option<f64>,
    /// Mean over queries of the precision at each `k`, 0–1.
    pub precision: Vec<f64>,
    /// Average precision of each query; `None` for one with nothing to find, which is left out
    /// of the means.
    pub per_query: Vec<Option<f64>>,
}

/// Judges all queries by their places at one difficulty; `ks` are the places of mP@k.
pub fn score(difficulty: Difficulty, places: &[Places], ks: &[usize]) -> Score {
    let mut per_query = Vec::with_capacity(places.len());
    let mut precision = vec![0.0; ks.len()];
    for Places { easy, hard, junk } in places {
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
    Score {
        map: (counted > 0).then(|| per_query.iter().flatten().sum::<f64>() / counted as f64),
        precision,
        per_query,
    }
}

fn merged(a: &[usize], b: &[usize]) -> Vec<usize> {
    let mut all = [a, b].concat();
    all.sort_unstable();
    all
}

/// Ranks the database (`[N, dim]`, in the order of [`GroundTruth::images`]) for every query
/// (`[Q, dim]`) by cosine similarity of rows of length 1, equals in the order of the database.
/// Memory beside the features is bounded.
///
/// # Errors
/// Numbers of rows that are not the ground truth's, values that are not finite.
pub fn places(
    truth: &GroundTruth,
    database: &[f32],
    queries: &[f32],
    dim: usize,
) -> Result<Vec<Places>> {
    if database.len() != truth.images.len() * dim || queries.len() != truth.truth.len() * dim {
        return Err(Error::invalid(
            "features",
            format!(
                "{} rows and {} queries for a ground truth of {} and {}",
                database.len() / dim.max(1),
                queries.len() / dim.max(1),
                truth.images.len(),
                truth.truth.len()
            ),
        ));
    }
    let wanted: Vec<Vec<usize>> = truth
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
    Ok(truth
        .truth
        .iter()
        .zip(ranks)
        .map(|(query, ranks)| {
            let (easy, rest) = ranks.split_at(query.easy.len());
            let (hard, junk) = rest.split_at(query.hard.len());
            Places {
                easy: sorted(easy),
                hard: sorted(hard),
                junk: sorted(junk),
            }
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn average_precision_by_hand() {
        // Everything first: 1. One of one at place 1: (0 + 1/2) / 2.
        assert_eq!(average_precision(&[0, 1, 2], 3), 1.0);
        assert_eq!(average_precision(&[1], 1), 0.25);
        // Places 0 and 2 of two: (1 + 1) / 2 and (1/2 + 2/3) / 2, each of width 1/2.
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
            Places {
                easy: vec![3],
                hard: vec![1, 4],
                junk: vec![0, 5],
            },
            // Nothing easy: left out of the easy figures, part of the others.
            Places {
                easy: vec![],
                hard: vec![0],
                junk: vec![],
            },
        ];
        let score = |difficulty| score(difficulty, &places, &[1, 2]);
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
        assert_eq!(super::score(Difficulty::Easy, &[], &[1]).map, None);
    }
}
