//! Exact nearest neighbours by blocks of dot products.

use std::cmp::Ordering;

use rayon::prelude::*;

use super::Neighbour;
use crate::rows::{products, transposed};

/// Queries per task.
pub(super) const QUERY_BLOCK: usize = 128;
/// Training rows compared at a time; a task holds `QUERY_BLOCK × TRAIN_BLOCK` similarities
/// (1 MiB) whatever the size of the sets.
pub(super) const TRAIN_BLOCK: usize = 2048;

/// The `k` nearest of a stream of rows in ascending order.
struct NearestRows {
    k: usize,
    kept: Vec<Neighbour>,
}

impl NearestRows {
    fn new(k: usize) -> Self {
        Self {
            k,
            kept: Vec::new(),
        }
    }

    /// Keeps a row that is more similar than `bar`; returns the bar for the next row. Rows are in
    /// ascending order, so a row equal to the bar loses the tie.
    fn keep(&mut self, row: Neighbour, bar: f32) -> f32 {
        self.kept.push(row);
        // Selecting from twice as many costs O(1) per row kept.
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

/// Some queries and the rows nearest to them so far.
pub(super) struct QueryBlock {
    /// `[dim, count]`.
    queries: Vec<f32>,
    /// The number of the first query.
    first: usize,
    best: Vec<NearestRows>,
    /// The least similarity of a row that would be kept.
    bars: Vec<f32>,
}

impl QueryBlock {
    /// Block number `block` of the queries, with their `rows` `[count, dim]`.
    pub(super) fn new(block: usize, rows: &[f32], dim: usize, k: usize) -> Self {
        let count = rows.len() / dim;
        Self {
            queries: transposed(rows, dim),
            first: block * QUERY_BLOCK,
            best: (0..count).map(|_| NearestRows::new(k)).collect(),
            bars: vec![f32::NEG_INFINITY; count],
        }
    }

    /// Looks at the training rows `[N, dim]` that follow those of before, from row number `first` on.
    /// `similarities` is room to work in.
    pub(super) fn look_at(
        &mut self,
        train: &[f32],
        first: usize,
        dim: usize,
        skip_self: bool,
        similarities: &mut Vec<f32>,
    ) {
        let count = self.best.len();
        for (i, part) in train.chunks(TRAIN_BLOCK * dim).enumerate() {
            similarities.resize(part.len() / dim * count, 0.0);
            products(part, &self.queries, dim, similarities);
            for (t, of_all) in similarities.chunks_exact(count).enumerate() {
                let index = first + i * TRAIN_BLOCK + t;
                for (q, (&similarity, bar)) in of_all.iter().zip(&mut self.bars).enumerate() {
                    if similarity > *bar && !(skip_self && index == self.first + q) {
                        *bar = self.best[q].keep(Neighbour { index, similarity }, *bar);
                    }
                }
            }
        }
    }

    /// Each query's number and its neighbours, the nearest first.
    pub(super) fn neighbours(self) -> impl Iterator<Item = (usize, Vec<Neighbour>)> {
        let first = self.first;
        let best = self.best.into_iter().enumerate();
        best.map(move |(q, best)| (first + q, best.sorted()))
    }
}

/// Calls `visit(state, query row, its neighbours)` for each query and returns the results in order.
/// The division into blocks is fixed, so results do not depend on the number of threads.
pub(super) fn search<S, R: Send>(
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
            |(state, similarities), (number, rows)| {
                let mut block = QueryBlock::new(number, rows, dim, k);
                block.look_at(train, 0, dim, skip_self, similarities);
                let neighbours = block.neighbours();
                neighbours
                    .map(|(row, near)| visit(state, row, &near))
                    .collect()
            },
        )
        .collect();
    blocks.into_iter().flatten().collect()
}
