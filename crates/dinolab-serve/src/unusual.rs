//! Images that occur twice, and images that are like no other.

use dinolab_eval::duplicates::near_duplicates;
use dinolab_eval::knn::nearest_neighbours;
use serde::Serialize;

use crate::answer::{Answer, Failure};
use crate::sample::sample;

/// Rows that are compared at most, each with all others.
const COMPARED: usize = 10_000;
/// Groups and outliers that are listed.
const LISTED: usize = 40;
/// Images of a group that are listed.
const MEMBERS: usize = 24;

/// An image and its cosine similarity: to the first of its group, or to the nearest other image.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Similar {
    /// Its row.
    pub row: usize,
    /// The similarity.
    pub similarity: f32,
}

/// Near duplicates and outliers.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Unusual {
    /// How many images were compared.
    pub compared: usize,
    /// How many groups of near duplicates there are.
    pub groups: usize,
    /// The largest groups.
    pub duplicates: Vec<Vec<Similar>>,
    /// Those whose nearest other image is least like them, the farthest first.
    pub outliers: Vec<Similar>,
}

/// Compares the rows of `features` (`[N, dim]`, L2-normalised), or an even sample of very many.
pub fn unusual(features: &[f32], dim: usize, threshold: f64) -> Answer<Unusual> {
    if !(threshold > -1.0 && threshold <= 1.0) {
        return Err(Failure::bad("a similarity is above -1 and at most 1"));
    }
    let rows = sample(features.len() / dim.max(1), COMPARED);
    let compared: Vec<f32> = rows
        .iter()
        .flat_map(|&row| &features[row * dim..][..dim])
        .copied()
        .collect();
    let found = near_duplicates(&compared, dim, threshold, &mut |_| {})?;
    let duplicates = found.iter().take(LISTED).map(|group| {
        let members = group.members.iter().zip(&group.similarity).take(MEMBERS);
        let similar = members.map(|(&member, &similarity)| Similar {
            row: rows[member],
            similarity,
        });
        similar.collect()
    });
    let near = nearest_neighbours(&compared, &compared, dim, 2)?;
    let mut outliers: Vec<Similar> = near
        .iter()
        .enumerate()
        .filter_map(|(own, near)| {
            let other = near.iter().find(|other| other.index != own)?;
            Some(Similar {
                row: rows[own],
                similarity: other.similarity,
            })
        })
        .collect();
    outliers.sort_by(|a, b| a.similarity.total_cmp(&b.similarity));
    outliers.truncate(LISTED);
    Ok(Unusual {
        compared: rows.len(),
        groups: found.len(),
        duplicates: duplicates.collect(),
        outliers,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twins_and_strangers() {
        let angles = [0.0f32, 0.001, 0.3, 0.32, 0.34, 2.5];
        let features: Vec<f32> = angles.iter().flat_map(|a| [a.cos(), a.sin()]).collect();
        let found = unusual(&features, 2, 0.9999).unwrap();
        assert_eq!((found.compared, found.groups), (6, 1));
        let rows: Vec<usize> = found.duplicates[0].iter().map(|s| s.row).collect();
        assert_eq!(rows, [0, 1]);
        assert_eq!(found.outliers[0].row, 5);
        assert!(unusual(&features, 2, 2.0).is_err());
        assert_eq!(unusual(&[], 2, 0.9).unwrap(), Unusual::default());
    }
}
