//! Weighted k-nearest-neighbour classification.
//!
//! The `k` training rows most similar to a query (cosine similarity *s*) vote for their label with
//! weight `exp(s / temperature)`; classes are ranked by the sum of their votes. Top-5 accuracy
//! counts the first `min(5, k)` classes; a class without votes is never correct.
//!
//! Ties are broken by number: the earlier of two equally similar training rows is the nearer one,
//! and the lower of two classes with equal votes wins. Results do not depend on the number of
//! threads.

mod search;
mod stream;

use dinolab_data::slice::{check_finite, check_length};
use rayon::prelude::*;

use self::search::search;
pub use self::stream::KnnStream;
use crate::rows::rows_of;
use crate::{Error, Result};

/// Largest accepted deviation of a row's squared norm from 1.
const NORM_TOLERANCE: f64 = 1e-2;

/// Features with their labels.
#[derive(Clone, Copy, Debug)]
pub struct Labelled<'a> {
    /// `[N, dim]`, each row L2-normalised (see [`l2_normalise`]) or all zero.
    pub features: &'a [f32],
    /// Values per row.
    pub dim: usize,
    /// `N` class numbers, counted from 0.
    pub labels: &'a [usize],
}

/// A weighted k-NN classifier. The reference implementation uses k = 10, 20, 100, 200 and
/// temperature 0.07, the default.
#[derive(Clone, Debug, PartialEq)]
pub struct Knn {
    /// Numbers of neighbours, each at least 1, with one [`KnnScore`] per entry. An entry above the
    /// number of training rows uses all of them.
    pub k: Vec<usize>,
    /// Divides the similarity in the exponent of the vote; above 0.
    pub temperature: f64,
}

impl Default for Knn {
    fn default() -> Self {
        Self {
            k: vec![10, 20, 100, 200],
            temperature: 0.07,
        }
    }
}

/// The accuracy for one `k`.
#[derive(Clone, Debug, PartialEq)]
pub struct KnnScore {
    /// Number of neighbours.
    pub k: usize,
    /// Top-1 accuracy in percent (0–100).
    pub top1: f64,
    /// Top-5 accuracy, of the first `min(5, k)` classes, in percent.
    pub top5: f64,
    /// Predicted class of each query.
    pub predicted: Vec<usize>,
}

/// A training row and its similarity to a query.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Neighbour {
    /// Row in the training set.
    pub index: usize,
    /// Cosine similarity, −1 to 1.
    pub similarity: f32,
}

impl Knn {
    /// Classifies each row of `test` by the rows of `train`. Returns one score per entry of `k`,
    /// from a single pass over the similarities.
    ///
    /// # Errors
    /// [`Error::Slice`] for mismatched lengths or values that are not finite,
    /// [`Error::Invalid`] for an empty set or rows that are not normalised,
    /// [`Error::BadSetting`] for `k` or a temperature out of range.
    pub fn evaluate(&self, train: Labelled<'_>, test: Labelled<'_>) -> Result<Vec<KnnScore>> {
        check_set("training features", "training labels", train)?;
        check_set("test features", "test labels", test)?;
        check_length("test feature width", train.dim, test.dim)?;
        self.score(train, test, false)
    }

    /// Classifies each row of a set by all *other* rows, for data without a split.
    ///
    /// # Errors
    /// As [`evaluate`](Self::evaluate), and [`Error::Invalid`] for fewer than two rows.
    pub fn leave_one_out(&self, set: Labelled<'_>) -> Result<Vec<KnnScore>> {
        check_set("features", "labels", set)?;
        if set.labels.len() < 2 {
            return Err(Error::invalid("features", "leaving one out needs two rows"));
        }
        self.score(set, set, true)
    }

    fn score(
        &self,
        train: Labelled<'_>,
        test: Labelled<'_>,
        skip_self: bool,
    ) -> Result<Vec<KnnScore>> {
        let k_max = self.check()?;
        let all = train.labels.iter().chain(test.labels);
        let classes = 1 + all.max().copied().unwrap_or(0);

        let outcomes: Vec<Vec<Outcome>> = search(
            train.features,
            test.features,
            train.dim,
            k_max,
            skip_self,
            || ClassVotes::new(classes),
            |votes, row, near| self.vote(votes, near, train.labels, test.labels[row]),
        );
        Ok(self.scores(&outcomes))
    }

    /// The largest `k`.
    fn check(&self) -> Result<usize> {
        let Some(&k_max) = self.k.iter().max() else {
            return Err(Error::setting("k", "no number of neighbours given"));
        };
        if self.k.contains(&0) {
            return Err(Error::setting("k", "must be at least 1"));
        }
        if self.temperature <= 0.0 || !self.temperature.is_finite() {
            return Err(Error::setting(
                "temperature",
                format!("must be above 0, is {}", self.temperature),
            ));
        }
        Ok(k_max)
    }

    /// The outcome for each `k` of a query with these neighbours.
    fn vote(
        &self,
        votes: &mut ClassVotes,
        neighbours: &[Neighbour],
        labels: &[usize],
        truth: usize,
    ) -> Vec<Outcome> {
        let of = |&k: &usize| {
            let voters = &neighbours[..k.min(neighbours.len())];
            votes.count(voters, labels, self.temperature);
            votes.outcome(k.min(5), truth)
        };
        self.k.iter().map(of).collect()
    }

    /// Of the outcomes of all queries.
    fn scores(&self, outcomes: &[Vec<Outcome>]) -> Vec<KnnScore> {
        let total = outcomes.len() as f64;
        self.k
            .iter()
            .enumerate()
            .map(|(i, &k)| {
                let share = |hit: fn(&Outcome) -> bool| {
                    100.0 * outcomes.iter().filter(|o| hit(&o[i])).count() as f64 / total
                };
                KnnScore {
                    k,
                    top1: share(|o| o.first_right),
                    top5: share(|o| o.among_first),
                    predicted: outcomes.iter().map(|o| o[i].predicted).collect(),
                }
            })
            .collect()
    }
}

/// Returns the `k` rows of `train` (`[N, dim]`) most similar to each row of `queries`
/// (`[M, dim]`), nearest first, or all rows if `N < k`. The similarity is the dot product, the
/// cosine for normalised rows.
///
/// # Errors
/// [`Error::Slice`] for lengths that are not multiples of `dim` or values that are not finite,
/// [`Error::Invalid`] for a `dim` of 0.
pub fn nearest_neighbours(
    train: &[f32],
    queries: &[f32],
    dim: usize,
    k: usize,
) -> Result<Vec<Vec<Neighbour>>> {
    rows_of("training features", train, dim)?;
    rows_of("query features", queries, dim)?;
    check_finite("training features", train)?;
    check_finite("query features", queries)?;
    if k == 0 {
        return Ok(vec![Vec::new(); queries.len() / dim]);
    }
    Ok(search(
        train,
        queries,
        dim,
        k,
        false,
        || (),
        |(), _, neighbours| neighbours.to_vec(),
    ))
}

/// Divides each row of `features` (`[N, dim]`) by its L2 norm, or by 1e-12 if the norm is smaller,
/// so that a row of zeros is unchanged.
///
/// # Errors
/// As [`nearest_neighbours`].
pub fn l2_normalise(features: &mut [f32], dim: usize) -> Result<()> {
    rows_of("features", features, dim)?;
    check_finite("features", features)?;
    features.par_chunks_exact_mut(dim).for_each(|row| {
        let length = squared_length(row).sqrt().max(1e-12);
        for v in row {
            *v = (f64::from(*v) / length) as f32;
        }
    });
    Ok(())
}

/// The result of one query for one `k`.
struct Outcome {
    predicted: usize,
    first_right: bool,
    among_first: bool,
}

/// The votes of a query by class; reused between queries.
struct ClassVotes {
    votes: Vec<f64>,
    /// Classes with a vote, best first after counting.
    standing: Vec<usize>,
    has_vote: Vec<bool>,
}

impl ClassVotes {
    fn new(classes: usize) -> Self {
        Self {
            votes: vec![0.0; classes],
            standing: Vec::new(),
            has_vote: vec![false; classes],
        }
    }

    /// Counts the votes of the neighbours. Only the ratio of weights matters, so the nearest
    /// neighbour has weight 1, which no temperature can overflow.
    fn count(&mut self, voters: &[Neighbour], labels: &[usize], temperature: f64) {
        for class in self.standing.drain(..) {
            self.votes[class] = 0.0;
            self.has_vote[class] = false;
        }
        let nearest = voters.first().map_or(0.0, |n| f64::from(n.similarity));
        for voter in voters {
            let class = labels[voter.index];
            self.votes[class] += ((f64::from(voter.similarity) - nearest) / temperature).exp();
            if !self.has_vote[class] {
                self.has_vote[class] = true;
                self.standing.push(class);
            }
        }
        let votes = &self.votes;
        self.standing
            .sort_unstable_by(|&a, &b| votes[b].total_cmp(&votes[a]).then(a.cmp(&b)));
    }

    fn outcome(&self, first: usize, truth: usize) -> Outcome {
        let predicted = self.standing.first().copied().unwrap_or(0);
        Outcome {
            predicted,
            first_right: predicted == truth,
            among_first: self.standing.iter().take(first).any(|&c| c == truth),
        }
    }
}

fn squared_length(row: &[f32]) -> f64 {
    row.iter().map(|&v| f64::from(v) * f64::from(v)).sum()
}

fn check_set(features: &'static str, labels: &'static str, set: Labelled<'_>) -> Result<()> {
    let rows = rows_of(features, set.features, set.dim)?;
    check_length(labels, rows, set.labels.len())?;
    if rows == 0 {
        return Err(Error::invalid(features, "the set is empty"));
    }
    check_finite(features, set.features)?;
    let odd = set
        .features
        .par_chunks_exact(set.dim)
        .map(squared_length)
        .position_first(|s| s != 0.0 && (s - 1.0).abs() > NORM_TOLERANCE);
    match odd {
        None => Ok(()),
        Some(row) => Err(Error::invalid(
            features,
            format!("row {row} is not L2-normalised"),
        )),
    }
}

#[cfg(test)]
mod tests;
