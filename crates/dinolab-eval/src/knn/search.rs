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
            |(state, similarities), (block, rows)| {
                let count = rows.len() / dim;
                let first_query = block * QUERY_BLOCK;
                let rows = transposed(rows, dim);
                let mut best: Vec<NearestRows> = (0..count).map(|_| NearestRows::new(k)).collect();
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
