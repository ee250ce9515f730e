//! Classification by training rows that are not all in memory.

use dinolab_data::slice::check_length;
use rayon::prelude::*;

use super::search::{QUERY_BLOCK, QueryBlock};
use super::{ClassVotes, Knn, KnnScore, Labelled, Outcome, check_set};
use crate::{Error, Result};

/// Classifies the rows of a set by training rows that come some at a time: scores are those of
/// [`Knn::evaluate`] with all of them. It holds the test rows, the neighbours of each, and the labels
/// of the training rows.
pub struct KnnStream<'a> {
    knn: &'a Knn,
    test: Labelled<'a>,
    blocks: Vec<QueryBlock>,
    /// Of the training rows so far.
    labels: Vec<usize>,
    /// Training rows that may come.
    most: usize,
}

impl<'a> KnnStream<'a> {
    /// Begins with no training rows; at most `most` will come.
    ///
    /// # Errors
    /// As [`Knn::evaluate`], of the test rows.
    pub fn new(knn: &'a Knn, test: Labelled<'a>, most: usize) -> Result<Self> {
        let k = knn.check()?.min(most).max(1);
        check_set("test features", "test labels", test)?;
        let blocks = test.features.par_chunks(QUERY_BLOCK * test.dim).enumerate();
        Ok(Self {
            knn,
            test,
            blocks: blocks
                .map(|(block, rows)| QueryBlock::new(block, rows, test.dim, k))
                .collect(),
            labels: Vec::new(),
            most,
        })
    }

    /// Adds training rows, behind those of before.
    ///
    /// # Errors
    /// As [`Knn::evaluate`], of the training rows; [`Error::Invalid`] for more of them than were to come.
    pub fn add(&mut self, train: Labelled<'_>) -> Result<()> {
        check_set("training features", "training labels", train)?;
        check_length("test feature width", train.dim, self.test.dim)?;
        let first = self.labels.len();
        if first + train.labels.len() > self.most {
            return Err(Error::invalid(
                "training features",
                "more came than were said",
            ));
        }
        self.blocks
            .par_iter_mut()
            .for_each_init(Vec::new, |similarities, block| {
                block.look_at(train.features, first, train.dim, false, similarities);
            });
        self.labels.extend_from_slice(train.labels);
        Ok(())
    }

    /// The scores.
    ///
    /// # Errors
    /// [`Error::Invalid`] without training rows.
    pub fn finish(self) -> Result<Vec<KnnScore>> {
        let Self {
            knn,
            test,
            blocks,
            labels,
            ..
        } = self;
        let all = labels.iter().chain(test.labels);
        let classes = 1 + all.max().copied().unwrap_or(0);
        if labels.is_empty() {
            return Err(Error::invalid("training features", "the set is empty"));
        }
        let outcomes: Vec<Vec<Vec<Outcome>>> = blocks
            .into_par_iter()
            .map_init(
                || ClassVotes::new(classes),
                |votes, block| {
                    let neighbours = block.neighbours();
                    neighbours
                        .map(|(row, near)| knn.vote(votes, &near, &labels, test.labels[row]))
                        .collect()
                },
            )
            .collect();
        let outcomes: Vec<Vec<Outcome>> = outcomes.into_iter().flatten().collect();
        Ok(knn.scores(&outcomes))
    }
}
