//! Ranking by cosine similarity, for any number of rows, in bounded memory.
//!
//! The division of rows into blocks depends on their number only, so results do not depend on the
//! number of threads. The earlier of two rows of equal similarity ranks first.

use std::cmp::Ordering;

use dinolab_data::slice::{check_finite, check_length};
use rayon::prelude::*;

use crate::Result;
use crate::rows::{products, rows_of, transposed};

/// Similarities per task (16 MiB).
const HELD: usize = 1 << 22;
/// Most queries per task.
pub(crate) const QUERY_BLOCK: usize = 128;
/// Database rows compared at a time.
pub(crate) const ROW_BLOCK: usize = 2048;

/// Calls `visit(query, its similarities to all rows of the database)` for each query and returns
/// the results in order. `visit` may change the similarities.
///
/// # Errors
/// Lengths that are not multiples of `dim`, a `dim` of 0, values that are not finite.
pub(crate) fn for_each_query<R: Send>(
    database: &[f32],
    queries: &[f32],
    dim: usize,
    visit: impl Fn(usize, &mut [f32]) -> R + Sync,
) -> Result<Vec<R>> {
    let rows = rows_of("features", database, dim)?;
    rows_of("query features", queries, dim)?;
    check_finite("features", database)?;
    check_finite("query features", queries)?;
    let block = (HELD / rows.max(1)).clamp(1, QUERY_BLOCK);
    let answers: Vec<Vec<R>> = queries
        .par_chunks(block * dim)
        .enumerate()
        .map_init(
            || (Vec::new(), Vec::new()),
            |(similarities, products_of_block), (number, part)| {
                let count = part.len() / dim;
                let part = transposed(part, dim);
                similarities.resize(count * rows, 0.0);
                for (i, rows_part) in database.chunks(ROW_BLOCK * dim).enumerate() {
                    products_of_block.resize(rows_part.len() / dim * count, 0.0);
                    products(rows_part, &part, dim, products_of_block);
                    for (t, of_queries) in products_of_block.chunks_exact(count).enumerate() {
                        for (q, &value) in of_queries.iter().enumerate() {
                            // Adding 0 makes −0 and 0 equal.
                            similarities[q * rows + i * ROW_BLOCK + t] = value + 0.0;
                        }
                    }
                }
                (0..count)
                    .map(|q| visit(number * block + q, &mut similarities[q * rows..][..rows]))
                    .collect()
            },
        )
        .collect();
    Ok(answers.into_iter().flatten().collect())
}

/// Orders by descending similarity, then by row.
pub(crate) fn order(a: (f32, usize), b: (f32, usize)) -> Ordering {
    b.0.total_cmp(&a.0).then(a.1.cmp(&b.1))
}

/// Returns the ranks, from 0, of the rows `wanted` among all rows, by `similarities`.
pub(crate) fn ranks_in(similarities: &[f32], wanted: &[usize]) -> Vec<usize> {
    let mut sorted: Vec<(f32, usize)> = wanted.iter().map(|&w| (similarities[w], w)).collect();
    sorted.sort_unstable_by(|&a, &b| order(a, b));
    // How many rows come before the first wanted one, between it and the second, ….
    let mut between = vec![0usize; sorted.len() + 1];
    for (row, &similarity) in similarities.iter().enumerate() {
        let place = sorted.partition_point(|&w| order(w, (similarity, row)) == Ordering::Less);
        between[place] += 1;
    }
    let mut before = 0;
    let places: Vec<usize> = between
        .iter()
        .map(|count| {
            before += count;
            before
        })
        .collect();
    wanted
        .iter()
        .map(|&w| {
            let key = (similarities[w], w);
            let at = sorted.partition_point(|&other| order(other, key) == Ordering::Less);
            // The row itself is counted in `between[at]`.
            places[at] - 1
        })
        .collect()
}

/// Returns for each query (`[Q, dim]`) the ranks, from 0, of its `wanted` rows among all rows of
/// `database` (`[N, dim]`).
pub(crate) fn ranks_of(
    database: &[f32],
    queries: &[f32],
    dim: usize,
    wanted: &[Vec<usize>],
) -> Result<Vec<Vec<usize>>> {
    check_length(
        "wanted rows",
        rows_of("queries", queries, dim)?,
        wanted.len(),
    )?;
    for_each_query(database, queries, dim, |query, similarities| {
        ranks_in(similarities, &wanted[query])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_by_hand() {
        let similarities = [0.5, 0.9, 0.5, -1.0, 0.7];
        assert_eq!(ranks_in(&similarities, &[0, 2, 3, 1]), [2, 3, 4, 0]);
        assert_eq!(ranks_in(&similarities, &[]), [] as [usize; 0]);
        assert_eq!(ranks_in(&similarities, &[2, 2]), [3, 3], "named twice");
        // The same value everywhere: in order.
        assert_eq!(ranks_in(&[0.0; 4], &[3, 0]), [3, 0]);
    }

    #[test]
    fn blocks_and_threads_do_not_show() {
        let (n, m, dim) = (ROW_BLOCK + 31, QUERY_BLOCK + 5, 3);
        let value = |i: usize| ((i * 7919 % 1013) as f32 / 500.0) - 1.0;
        let database: Vec<f32> = (0..n * dim).map(value).collect();
        let queries: Vec<f32> = (0..m * dim).map(|i| value(i + 17)).collect();
        let wanted: Vec<Vec<usize>> = (0..m).map(|q| vec![q, n - 1 - q, 5]).collect();
        let found = ranks_of(&database, &queries, dim, &wanted).unwrap();
        let alone = rayon::ThreadPoolBuilder::new()
            .num_threads(1)
            .build()
            .unwrap();
        let again = alone.install(|| ranks_of(&database, &queries, dim, &wanted).unwrap());
        assert_eq!(found, again);
        // A row's similarity to itself is the greatest among rows of equal length only; here
        // the plain definition has to do.
        for q in [0, 1, m - 1] {
            let of = |row: usize| -> f64 {
                (0..dim)
                    .map(|d| f64::from(database[row * dim + d]) * f64::from(queries[q * dim + d]))
                    .sum()
            };
            for (&w, &rank) in wanted[q].iter().zip(&found[q]) {
                let clearly = (0..n).filter(|&row| of(row) > of(w) + 1e-5).count();
                let maybe = (0..n).filter(|&row| of(row) > of(w) - 1e-5).count();
                assert!(clearly <= rank && rank <= maybe, "{clearly} {rank} {maybe}");
            }
        }
    }
}
