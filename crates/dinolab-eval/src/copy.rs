//! Copy detection: altered copies are queries for their originals among distractors.
//!
//! The protocol of the reference implementation on Copydays: descriptors of class token and pooled
//! patch tokens (`descriptor` of the crate `dinolab-features`), whitened ([`crate::whitening`]) and ranked by
//! cosine similarity. The average precision of a query is the area by trapezoids, which for a single
//! original at rank *r* (from 0) is `1 / (2 (r + 1))`, or 1 at rank 0.

mod attack;
mod originals;

pub use attack::{Attack, Family};
pub use originals::Originals;

use crate::Result;
use crate::retrieval::average_precision;
use crate::similarity::ranks_of;

/// The score of one query.
#[derive(Clone, Debug, PartialEq)]
pub struct CopyScore {
    /// Average precision, 0–1.
    pub average_precision: f64,
    /// Rank of the first original, from 0 in the whole database.
    pub first: usize,
}

impl CopyScore {
    /// Ranks `database` (`[N, dim]`, L2-normalised) for each query (`[Q, dim]`), whose originals are the
    /// rows `positives`, at least one each. `top` is the rank cut-off for average precision; the
    /// reference implementation uses 20.
    ///
    /// # Errors
    /// [`Error::Slice`](crate::Error::Slice) for mismatched lengths or values that are not finite.
    pub fn of_queries(
        database: &[f32],
        queries: &[f32],
        dim: usize,
        positives: &[Vec<usize>],
        top: Option<usize>,
    ) -> Result<Vec<Self>> {
        let ranks = ranks_of(database, queries, dim, positives)?;
        Ok(ranks
            .into_iter()
            .map(|mut ranks| {
                ranks.sort_unstable();
                let positives = ranks.len();
                let first = ranks.first().copied().unwrap_or(usize::MAX);
                ranks.retain(|&rank| top.is_none_or(|top| rank < top));
                Self {
                    average_precision: average_precision(&ranks, positives),
                    first,
                }
            })
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scored_by_hand() {
        // Database on the axes and between; queries near them.
        let r = std::f32::consts::FRAC_1_SQRT_2;
        let database = [1.0, 0.0, r, r, 0.0, 1.0];
        let queries = [1.0, 0.0, 0.6, 0.8];
        // The first finds its original at once; the second's order is 1, 2, 0.
        let evaluate = |top| {
            CopyScore::of_queries(&database, &queries, 2, &[vec![0], vec![0, 2]], top).unwrap()
        };
        let scores = evaluate(None);
        assert_eq!(
            scores[0],
            CopyScore {
                average_precision: 1.0,
                first: 0
            }
        );
        let expected = ((0.0 + 0.5) / 2.0 + (0.5 + 2.0 / 3.0) / 2.0) / 2.0;
        assert!((scores[1].average_precision - expected).abs() < 1e-12);
        assert_eq!(scores[1].first, 1);
        assert!((evaluate(Some(2))[1].average_precision - 0.125).abs() < 1e-12);
        assert_eq!(evaluate(Some(1))[1].average_precision, 0.0);
    }
}
