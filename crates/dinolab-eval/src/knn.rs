//! Weighted k-nearest-neighbour classification.
//!
//! For a query *q* the `k` training rows of greatest cosine similarity *s* vote for their
//! label with weight `exp(s / temperature)`; classes are ranked by the sum of their votes.
//! Top-5 counts the first `min(5, k)` classes; a class without a vote never counts as found.
//!
//! Ties are settled by number: of two equally similar training rows the earlier one counts
//! as nearer, of two equal vote sums the lower class wins. Results do not depend on the
//! number of threads.

use std::cmp::Ordering;

use nalgebra::{DMatrixView, DMatrixViewMut};
use rayon::prelude::*;

use crate::error::{check_finite, check_length};
use crate::{Error, Result};

/// Queries handled by one task.
const QUERY_BLOCK: usize = 128;
/// Training rows compared at a time; a task holds `QUERY_BLOCK × TRAIN_BLOCK` similarities
/// (1 MiB) whatever the size of the sets.
const TRAIN_BLOCK: usize = 2048;
/// How far a row's squared length may be from 1.
const NORM_TOLERANCE: f64 = 1e-2;

/// Features with their labels.
#[derive(Clone, Copy, Debug)]
pub struct Labelled<'a> {
    /// `[N, dim]`, each row of length 1 (see [`l2_normalise`]) or all zero.
    pub features: &'a [f32],
    /// Values per row.
    pub dim: usize,
    /// `N` class numbers, counted from 0.
    pub labels: &'a [usize],
}

/// A weighted k-NN classifier; the reference uses k = 10, 20, 100, 200 and temperature 0.07.
#[derive(Clone, Debug, PartialEq)]
pub struct Knn {
    /// Neighbours that vote, each at least 1; every entry gives one [`KnnScore`]. Entries
    /// above the number of training rows use them all.
    pub k: Vec<usize>,
    /// Divides the similarity in the vote's exponent; above 0.
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

/// How well one `k` did.
#[derive(Clone, Debug, PartialEq)]
pub struct KnnScore {
    /// Neighbours asked for.
    pub k: usize,
    /// Share of queries whose first class is right, in percent (0–100).
    pub top1: f64,
    /// Share of queries whose first `min(5, k)` classes hold the right one, in percent.
    pub top5: f64,
    /// First class of every query.
    pub predicted: Vec<usize>,
}

/// Training row and its similarity to a query.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Neighbour {
    /// Row in the training set.
    pub index: usize,
    /// Cosine similarity, −1 to 1.
    pub similarity: f32,
}

impl Knn {
    /// Classifies every row of `test` by the rows of `train`; one score per entry of `k`,
    /// all from one pass over the similarities.
    ///
    /// # Errors
    /// Mismatched lengths, an empty set, values that are not finite, rows that are not
    /// normalised, no `k` or a `k` of 0, a temperature that is not above 0.
    pub fn evaluate(&self, train: Labelled<'_>, test: Labelled<'_>) -> Result<Vec<KnnScore>> {
        check_set("training features", "training labels", train)?;
        check_set("test features", "test labels", test)?;
        check_length("test feature width", train.dim, test.dim)?;
        self.score(train, test, false)
    }

    /// Classifies every row of one set by all the *other* rows: an estimate for data that
    /// comes without a split. Errors as in [`evaluate`](Self::evaluate); at least two rows.
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
        let all = train.labels.iter().chain(test.labels);
        let classes = 1 + all.max().copied().unwrap_or(0);

        let outcomes: Vec<Vec<Outcome>> = search(
            train.features,
            test.features,
            train.dim,
            k_max,
            skip_self,
            || Ballot::new(classes),
            |ballot, row, neighbours| {
                let truth = test.labels[row];
                self.k
                    .iter()
                    .map(|&k| {
                        let voters = &neighbours[..k.min(neighbours.len())];
                        ballot.count(voters, train.labels, self.temperature);
                        ballot.outcome(k.min(5), truth)
                    })
                    .collect()
            },
        );

        let total = outcomes.len() as f64;
        Ok(self
            .k
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
            .collect())
    }
}

/// The `k` rows of `train` (`[N, dim]`) most similar to each row of `queries` (`[M, dim]`),
/// nearest first; fewer where `N < k`. Similarity is the dot product, which is the cosine
/// when the rows are normalised.
///
/// # Errors
/// Lengths that are no multiple of `dim`, a `dim` of 0, values that are not finite.
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

/// Divides each row of `features` (`[N, dim]`) by its Euclidean length. A row shorter than
/// 1e-12 is divided by 1e-12, so that a row of zeros stays one.
///
/// # Errors
/// A length that is no multiple of `dim`, a `dim` of 0, values that are not finite.
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

/// One query's result for one `k`.
struct Outcome {
    predicted: usize,
    first_right: bool,
    among_first: bool,
}

/// A vote table, reused between queries.
struct Ballot {
    votes: Vec<f64>,
    /// Classes with a vote; after counting, best first.
    standing: Vec<usize>,
    has_vote: Vec<bool>,
}

impl Ballot {
    fn new(classes: usize) -> Self {
        Self {
            votes: vec![0.0; classes],
            standing: Vec::new(),
            has_vote: vec![false; classes],
        }
    }

    /// Only the ratio of weights matters, so the nearest neighbour's weight is taken as 1:
    /// no temperature can overflow.
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

/// Keeps the `k` best of a stream of rows that come in ascending order.
struct Best {
    k: usize,
    kept: Vec<Neighbour>,
}

impl Best {
    fn new(k: usize) -> Self {
        Self {
            k,
            kept: Vec::new(),
        }
    }

    /// Keeps a row that beat the bar; returns the bar for the next one. Rows come in
    /// order, so one that only equals the bar has lost its tie.
    fn keep(&mut self, row: Neighbour, bar: f32) -> f32 {
        self.kept.push(row);
        // Twice the room: a selection then costs O(1) per row kept.
        if self.kept.len() < 2 * self.k {
            return bar;
        }
        self.cut();
        let kept = self.kept.iter().map(|n| n.similarity);
        kept.fold(f32::INFINITY, f32::min)
    }

    fn cut(&mut self) {
        if self.kept.len() > self.k {
            self.kept.select_nth_unstable_by(self.k - 1, nearer);
            self.kept.truncate(self.k);
        }
    }

    fn sorted(mut self) -> Vec<Neighbour> {
        self.cut();
        self.kept.sort_unstable_by(nearer);
        self.kept
    }
}

fn nearer(a: &Neighbour, b: &Neighbour) -> Ordering {
    let by_similarity = b.similarity.total_cmp(&a.similarity);
    by_similarity.then(a.index.cmp(&b.index))
}

/// Calls `visit(state, query row, its neighbours)` for every query and returns the answers
/// in order. The division into blocks is fixed, so the sums are the same on any machine
/// whatever its threads.
fn search<S, R: Send>(
    train: &[f32],
    queries: &[f32],
    dim: usize,
    k: usize,
    skip_self: bool,
    state: impl Fn() -> S + Sync + Send,
    visit: impl Fn(&mut S, usize, &[Neighbour]) -> R + Sync + Send,
) -> Vec<R> {
    let k = k.min(train.len() / dim).max(1);
    let blocks: Vec<Vec<R>> = queries
        .par_chunks(QUERY_BLOCK * dim)
        .enumerate()
        .map_init(
            || (state(), Vec::new()),
            |(state, similarities), (block, rows)| {
                let count = rows.len() / dim;
                let first_query = block * QUERY_BLOCK;
                let rows = transposed(rows, dim);
                let mut best: Vec<Best> = (0..count).map(|_| Best::new(k)).collect();
                let mut bars = vec![f32::NEG_INFINITY; count];
                for (i, part) in train.chunks(TRAIN_BLOCK * dim).enumerate() {
                    similarities.resize(part.len() / dim * count, 0.0);
                    products(part, &rows, dim, similarities);
                    for (t, of_all) in similarities.chunks_exact(count).enumerate() {
                        let index = i * TRAIN_BLOCK + t;
                        for (q, (&similarity, bar)) in of_all.iter().zip(&mut bars).enumerate() {
                            if similarity > *bar && !(skip_self && index == first_query + q) {
                                *bar = best[q].keep(Neighbour { index, similarity }, *bar);
                            }
                        }
                    }
                }
                best.into_iter()
                    .enumerate()
                    .map(|(row, best)| visit(state, first_query + row, &best.sorted()))
                    .collect()
            },
        )
        .collect();
    blocks.into_iter().flatten().collect()
}

/// `[N, dim]` to `[dim, N]`.
pub(crate) fn transposed(rows: &[f32], dim: usize) -> Vec<f32> {
    (0..dim)
        .flat_map(|d| rows[d..].iter().step_by(dim).copied())
        .collect()
}

/// `out[t, q] = train[t] · queries[:, q]` for `train` `[T, dim]` and `queries` `[dim, Q]`.
///
/// The queries come transposed so that every view has unit stride along its columns:
/// nalgebra 0.35's product of small matrices writes out of bounds when it has not
/// (dimforge/nalgebra issue 1616).
pub(crate) fn products(train: &[f32], queries: &[f32], dim: usize, out: &mut [f32]) {
    let (t, q) = (train.len() / dim, queries.len() / dim);
    // In column-major eyes: [Q, T] = [Q, dim] · [dim, T].
    let queries = DMatrixView::from_slice(queries, q, dim);
    let train = DMatrixView::from_slice(train, dim, t);
    DMatrixViewMut::from_slice(out, q, t).gemm(1.0, &queries, &train, 0.0);
}

fn squared_length(row: &[f32]) -> f64 {
    row.iter().map(|&v| f64::from(v) * f64::from(v)).sum()
}

pub(crate) fn rows_of(what: &'static str, values: &[f32], dim: usize) -> Result<usize> {
    if dim == 0 {
        return Err(Error::invalid(what, "rows have no values"));
    }
    check_length(what, values.len() / dim * dim, values.len())?;
    Ok(values.len() / dim)
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
            format!("row {row} is not of length 1; normalise the features first"),
        )),
    }
}

#[cfg(test)]
mod tests;
