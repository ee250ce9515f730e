//! Retrieval on labelled sets: images with the query's label are relevant.

mod stream;

use dinolab_data::slice::check_length;

use crate::knn::Labelled;
use crate::rows::rows_of;
use crate::similarity::{for_each_query, ranks_in};
use crate::{Error, Result};

/// The scores of a labelled set, means over queries, 0–1.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct LabelledScore {
    /// Mean average precision: the mean over relevant images of the precision at their ranks.
    pub map: f64,
    /// R-precision: precision at `R`, the number of relevant images.
    pub r_precision: f64,
    /// The cut-offs of the next two.
    pub ks: Vec<usize>,
    /// Precision at `k`, or among all images if there are fewer.
    pub precision: Vec<f64>,
    /// Fraction of queries with a relevant image among the first `k`.
    pub recall: Vec<f64>,
    /// Number of scored queries.
    pub queries: usize,
    /// Number of excluded queries, without relevant images.
    pub without_match: usize,
}

impl LabelledScore {
    /// Ranks `database` by cosine similarity for each row of `queries`. Without `queries`, each row of
    /// the database is a query against all others. Ties are in the order of the database.
    ///
    /// # Errors
    /// [`Error::Slice`] for mismatched lengths or values that are not finite,
    /// [`Error::BadSetting`] for a `k` of 0, [`Error::Invalid`] if no query has relevant images.
    pub fn of(database: Labelled<'_>, queries: Option<Labelled<'_>>, ks: &[usize]) -> Result<Self> {
        let rows = rows_of("features", database.features, database.dim)?;
        check_length("labels", rows, database.labels.len())?;
        let asked = queries.unwrap_or(database);
        let count = rows_of("query features", asked.features, asked.dim)?;
        check_length("query labels", count, asked.labels.len())?;
        check_length("query feature width", database.dim, asked.dim)?;
        if ks.contains(&0) {
            return Err(Error::setting("k", "must be at least 1"));
        }
        let of_label = rows_by_label(database.labels);
        let others = rows - usize::from(queries.is_none()).min(rows);

        let scored = for_each_query(
            database.features,
            asked.features,
            database.dim,
            |query, similarities| {
                let mut wanted = of_label
                    .get(asked.labels[query])
                    .cloned()
                    .unwrap_or_default();
                if queries.is_none() {
                    wanted.retain(|&row| row != query);
                    similarities[query] = f32::NEG_INFINITY;
                }
                if wanted.is_empty() {
                    return None;
                }
                let mut ranks = ranks_in(similarities, &wanted);
                ranks.sort_unstable();
                Some(Scored::of(&ranks, others, ks))
            },
        )?;

        Self::mean(&scored, ks)
    }

    /// The mean of the scores of queries that have relevant images.
    fn mean(scored: &[Option<Scored>], ks: &[usize]) -> Result<Self> {
        let mut sum = Scored {
            average_precision: 0.0,
            r_precision: 0.0,
            precision: vec![0.0; ks.len()],
            found: vec![0.0; ks.len()],
        };
        let mut counted = 0;
        for one in scored.iter().flatten() {
            counted += 1;
            sum.average_precision += one.average_precision;
            sum.r_precision += one.r_precision;
            for (sum, one) in sum.precision.iter_mut().zip(&one.precision) {
                *sum += one;
            }
            for (sum, one) in sum.found.iter_mut().zip(&one.found) {
                *sum += one;
            }
        }
        if counted == 0 {
            return Err(Error::invalid(
                "labels",
                "no query has another image of its label",
            ));
        }
        let mean = |sum: f64| sum / f64::from(counted);
        Ok(Self {
            map: mean(sum.average_precision),
            r_precision: mean(sum.r_precision),
            ks: ks.to_vec(),
            precision: sum.precision.into_iter().map(mean).collect(),
            recall: sum.found.into_iter().map(mean).collect(),
            queries: counted as usize,
            without_match: scored.len() - counted as usize,
        })
    }
}

/// Returns the rows of each label.
fn rows_by_label(labels: &[usize]) -> Vec<Vec<usize>> {
    let mut rows = vec![Vec::new(); labels.iter().max().map_or(0, |&most| most + 1)];
    for (row, &label) in labels.iter().enumerate() {
        rows[label].push(row);
    }
    rows
}

struct Scored {
    average_precision: f64,
    r_precision: f64,
    precision: Vec<f64>,
    found: Vec<f64>,
}

impl Scored {
    /// Scores one query; `ranks` ascend, from 0, among `others` images.
    fn of(ranks: &[usize], others: usize, ks: &[usize]) -> Self {
        let hits = |k: usize| ranks.iter().take_while(|&&rank| rank < k).count();
        let precisions = ranks
            .iter()
            .enumerate()
            .map(|(found, &rank)| (found + 1) as f64 / (rank + 1) as f64);
        Self {
            average_precision: precisions.sum::<f64>() / ranks.len() as f64,
            r_precision: hits(ranks.len()) as f64 / ranks.len() as f64,
            precision: ks
                .iter()
                .map(|&k| hits(k) as f64 / k.min(others).max(1) as f64)
                .collect(),
            found: ks
                .iter()
                .map(|&k| f64::from(u8::from(hits(k) > 0)))
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(angles: &[f32]) -> Vec<f32> {
        angles.iter().flat_map(|a| [a.cos(), a.sin()]).collect()
    }

    #[test]
    fn by_hand() {
        // On a circle: 0.0 (a), 0.1 (b), 0.25 (a), 0.45 (b), 3.0 (c, alone).
        let features = unit(&[0.0, 0.1, 0.25, 0.45, 3.0]);
        let set = Labelled {
            features: &features,
            dim: 2,
            labels: &[0, 1, 0, 1, 2],
        };
        let score = LabelledScore::of(set, None, &[1, 3, 9]).unwrap();
        // Row 0: b a b c → a at place 2: 1/2.  Row 1: a a b c → 1/3.
        // Row 2: b(.15) b(.2) a(.25) → 1/3.    Row 3: a(.2) b(.35) → 1/2.
        assert!((score.map - (0.5 + 1.0 / 3.0 + 1.0 / 3.0 + 0.5) / 4.0).abs() < 1e-12);
        assert_eq!(score.r_precision, 0.0);
        assert_eq!(score.recall, [0.0, 1.0, 1.0]);
        assert!((score.precision[1] - 1.0 / 3.0).abs() < 1e-12);
        assert_eq!(score.precision[2], 0.25, "one of the four others");
        assert_eq!((score.queries, score.without_match), (4, 1));

        // Another set asks; its own rows are not left out.
        let queries = unit(&[0.02, 3.1, 1.0]);
        let asked = Labelled {
            features: &queries,
            dim: 2,
            labels: &[0, 2, 7],
        };
        let score = LabelledScore::of(set, Some(asked), &[1]).unwrap();
        assert_eq!((score.queries, score.without_match), (2, 1));
        // a b a: (1 + 2/3) / 2; c first: 1.
        assert!((score.map - ((1.0 + 2.0 / 3.0) / 2.0 + 1.0) / 2.0).abs() < 1e-12);
        assert_eq!(score.precision, [1.0]);
        assert_eq!(score.r_precision, (0.5 + 1.0) / 2.0);
    }

    #[test]
    fn refuses_what_makes_no_sense() {
        let features = unit(&[0.0, 1.0]);
        let set = |labels| Labelled {
            features: &features,
            dim: 2,
            labels,
        };
        assert!(
            LabelledScore::of(set(&[0, 1]), None, &[1]).is_err(),
            "nothing to find"
        );
        assert!(LabelledScore::of(set(&[0, 0]), None, &[0]).is_err());
        assert!(LabelledScore::of(set(&[0]), None, &[1]).is_err());
        assert!(LabelledScore::of(set(&[0, 0]), None, &[1]).is_ok());
    }
}
