//! Copy detection: does an altered copy find its original among distractors?
//!
//! As the reference judges on Copydays: vectors of class token and pooled patch tokens
//! ([`crate::descriptor`]), whitened ([`crate::whitening`]), ranked by cosine; the average
//! precision of a query is the area by trapezoids, which for a single original at place *r*
//! (from 0) is `1 / (2 (r + 1))`, or 1 at place 0.

mod attack;
mod originals;

pub use attack::{Attack, Family};
pub use originals::Originals;

use crate::Result;
use crate::retrieval::average_precision;
use crate::similarity::ranks_of;

/// How one query did.
#[derive(Clone, Debug, PartialEq)]
pub struct CopyScore {
    /// Average precision, 0–1.
    pub average_precision: f64,
    /// Place of the first original, from 0 among the whole database.
    pub first: usize,
}

/// Ranks `database` (`[N, dim]`, rows of length 1) for each query (`[Q, dim]`), whose originals
/// are the rows `positives`, at least one each. Only the first `top` places count where given;
/// the reference looks at 20.
///
/// # Errors
/// Mismatched lengths, values that are not finite.
pub fn judge(
    database: &[f32],
    queries: &[f32],
    dim: usize,
    positives: &[Vec<usize>],
    top: Option<usize>,
) -> Result<Vec<CopyScore>> {
    let ranks = ranks_of(database, queries, dim, positives)?;
    Ok(ranks
        .into_iter()
        .map(|mut ranks| {
            ranks.sort_unstable();
            let positives = ranks.len();
            let first = ranks.first().copied().unwrap_or(usize::MAX);
            ranks.retain(|&rank| top.is_none_or(|top| rank < top));
            CopyScore {
                average_precision: average_precision(&ranks, positives),
                first,
            }
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn judged_by_hand() {
        // Database on the axes and between; queries near them.
        let r = std::f32::consts::FRAC_1_SQRT_2;
        let database = [1.0, 0.0, r, r, 0.0, 1.0];
        let queries = [1.0, 0.0, 0.6, 0.8];
        // The first finds its original at once; the second's order is 1, 2, 0.
        let judge = |top| judge(&database, &queries, 2, &[vec![0], vec![0, 2]], top).unwrap();
        let scores = judge(None);
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
        assert!((judge(Some(2))[1].average_precision - 0.125).abs() < 1e-12);
        assert_eq!(judge(Some(1))[1].average_precision, 0.0);
    }
}
