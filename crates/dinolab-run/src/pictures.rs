//! Pictures of attention and of activation.

use std::path::Path;

use dinolab_features::AttentionMaps;
use dinolab_view::{AttentionRow, write_png};

use crate::error::Result;

/// One row per image: the image, the mean over heads laid over it, each head's map. Activation is one map,
/// without heads.
///
/// # Errors
/// A file that cannot be written.
pub fn attention_sheet(rows: &[AttentionMaps], path: &Path) -> Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    let means: Vec<Vec<f32>> = rows.iter().map(AttentionMaps::mean).collect();
    let rows: Vec<AttentionRow<'_>> = rows
        .iter()
        .zip(&means)
        .map(|(row, mean)| AttentionRow {
            image: &row.image,
            grid: row.grid,
            heads: &row.maps,
            mean,
        })
        .collect();
    Ok(write_png(path, &dinolab_view::attention_sheet(&rows)?)?)
}
