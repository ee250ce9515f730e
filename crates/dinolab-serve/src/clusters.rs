//! Groups of similar images: spherical k-means, the same for the same rows.

use dinolab_data::random::{Purpose, Random};
use rayon::prelude::*;

/// Rows that centres are fitted to, at most.
const FITTED: usize = 10_000;
/// Rounds of fitting.
const ROUNDS: usize = 20;

/// Centres and members.
#[derive(Clone, Debug, PartialEq)]
pub struct Clusters {
    /// The cluster of each row; the largest cluster is 0.
    pub of_row: Vec<u16>,
    /// Rows of each cluster, those nearest to its centre first.
    pub members: Vec<Vec<usize>>,
}

/// Groups the rows of `features` (`[N, dim]`, L2-normalised) into at most `k` clusters.
pub fn clusters(features: &[f32], dim: usize, k: usize) -> Clusters {
    let rows = features.len() / dim.max(1);
    let k = k.clamp(1, rows.max(1));
    let sample = crate::sample::sample(rows, FITTED);
    let row = |i: usize| &features[i * dim..][..dim];
    let mut centres = seeds(&sample, &row, k);
    for _ in 0..ROUNDS {
        let nearest: Vec<(usize, f32)> = sample
            .par_iter()
            .map(|&i| nearest(&centres, row(i), dim))
            .collect();
        let mut sums = vec![0.0f32; centres.len()];
        for (&i, &(cluster, _)) in sample.iter().zip(&nearest) {
            let sum = &mut sums[cluster * dim..][..dim];
            sum.iter_mut().zip(row(i)).for_each(|(s, v)| *s += v);
        }
        for (sum, old) in sums.chunks_mut(dim).zip(centres.chunks(dim)) {
            let length = dot(sum, sum).sqrt();
            match length > 1e-6 {
                true => sum.iter_mut().for_each(|v| *v /= length),
                // A cluster that lost its rows stays where it is.
                false => sum.copy_from_slice(old),
            }
        }
        if sums == centres {
            break;
        }
        centres = sums;
    }
    let all: Vec<(usize, f32)> = (0..rows)
        .into_par_iter()
        .map(|i| nearest(&centres, row(i), dim))
        .collect();
    sorted(&all, k)
}

/// Centres to begin with, far from one another (k-means++).
fn seeds<'a>(sample: &[usize], row: &(impl Fn(usize) -> &'a [f32] + Sync), k: usize) -> Vec<f32> {
    let mut random = Random::new(0, 0, 0, Purpose::Validation);
    let mut centres: Vec<f32> = Vec::new();
    let mut far = vec![2.0f32; sample.len()];
    for _ in 0..k {
        let total: f64 = far.iter().map(|&d| f64::from(d)).sum();
        let mut left = random.unit() * total;
        let place = far.iter().position(|&d| {
            left -= f64::from(d);
            left < 0.0
        });
        let Some(&chosen) = sample.get(place.unwrap_or(0)) else {
            break;
        };
        let centre = row(chosen);
        far.par_iter_mut().zip(sample).for_each(|(far, &i)| {
            *far = far.min((1.0 - dot(row(i), centre)).max(0.0));
        });
        centres.extend_from_slice(centre);
    }
    centres
}

fn nearest(centres: &[f32], row: &[f32], dim: usize) -> (usize, f32) {
    let similarities = centres
        .chunks(dim)
        .map(|centre| dot(centre, row))
        .enumerate();
    similarities.fold((0, f32::NEG_INFINITY), |best, next| {
        if next.1 > best.1 { next } else { best }
    })
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Clusters by size, without empty ones.
fn sorted(nearest: &[(usize, f32)], k: usize) -> Clusters {
    let mut members: Vec<Vec<usize>> = vec![Vec::new(); k];
    for (row, &(cluster, _)) in nearest.iter().enumerate() {
        members[cluster].push(row);
    }
    members.retain(|rows| !rows.is_empty());
    members.sort_by_key(|rows| std::cmp::Reverse(rows.len()));
    let mut of_row = vec![0; nearest.len()];
    for (cluster, rows) in members.iter_mut().enumerate() {
        rows.iter().for_each(|&row| of_row[row] = cluster as u16);
        rows.sort_by(|&a, &b| nearest[b].1.total_cmp(&nearest[a].1));
    }
    Clusters { of_row, members }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn separate_groups_are_found() {
        // Three directions, of 50, 30 and 20 rows.
        let centre = |row: usize| match row {
            0..50 => [1.0f32, 0.0, 0.0],
            50..80 => [0.0, 1.0, 0.0],
            _ => [0.0, 0.0, 1.0],
        };
        let mut features: Vec<f32> = (0..100)
            .flat_map(|row| {
                let mut values = centre(row);
                values[(row + 1) % 3] += 0.05 * (row % 7) as f32 / 7.0;
                values
            })
            .collect();
        dinolab_eval::knn::l2_normalise(&mut features, 3).unwrap();
        let found = clusters(&features, 3, 3);
        let sizes: Vec<usize> = found.members.iter().map(Vec::len).collect();
        assert_eq!(sizes, [50, 30, 20]);
        assert!(found.of_row[..50].iter().all(|&c| c == 0));
        assert!(found.of_row[80..].iter().all(|&c| c == 2));
        assert_eq!(found, clusters(&features, 3, 3));
        assert_eq!(clusters(&features[..6], 3, 40).of_row.len(), 2);
        assert!(clusters(&[], 3, 4).members.is_empty());
    }
}
