//! Work of an evaluation that the processes of a run divide: all call it, and all get the whole.

use dinolab_data::Source;
use dinolab_features::{Features, Preprocess, embed_usable};
use dinolab_nn::{Backbone, Feature};
use dinolab_train::Ranks;

use super::BATCH;
use crate::error::Result;

/// What one process has made, but for the values: `dim`, `indices` and `skipped`.
type Listed = (usize, Vec<usize>, Vec<(usize, String)>);

/// [`dinolab_features::embed`] of images `indices`, which ascend; every process embeds some of the batches.
///
/// # Errors
/// As [`dinolab_features::embed`]; a process that was lost.
pub(super) fn embed(
    ranks: &Ranks,
    (backbone, feature): (&dyn Backbone, Feature),
    source: &dyn Source,
    indices: &[usize],
    preprocess: &Preprocess,
) -> Result<Features> {
    let batches = indices.chunks(BATCH).skip(ranks.rank());
    let own = batches.step_by(ranks.size()).collect::<Vec<_>>().concat();
    let silent = &mut |_| {};
    let made = embed_usable(backbone, feature, source, &own, preprocess, BATCH, silent)?;
    if ranks.size() == 1 {
        return Ok(made.of_some()?);
    }
    let gathered = |bytes: &[u8]| {
        let all = ranks.comm().all_gather(bytes);
        all.map_err(dinolab_train::Error::from)
    };
    let listed: Listed = (made.dim, made.indices, made.skipped);
    let listed = gathered(&serde_json::to_vec(&listed)?)?;
    let values: Vec<u8> = made.data.iter().flat_map(|v| v.to_le_bytes()).collect();
    let values = gathered(&values)?;

    let mut rows: Vec<(usize, &[u8])> = Vec::with_capacity(indices.len());
    let mut all = Features::default();
    for (listed, values) in listed.iter().zip(&values) {
        let (dim, indices, skipped): Listed = serde_json::from_slice(listed)?;
        rows.extend(indices.into_iter().zip(values.chunks(4 * dim.max(1))));
        all.dim = dim;
        all.skipped.extend(skipped);
    }
    rows.sort_unstable_by_key(|&(index, _)| index);
    all.skipped.sort_unstable_by_key(|&(index, _)| index);
    all.indices = rows.iter().map(|&(index, _)| index).collect();
    let values = rows.iter().flat_map(|(_, row)| row.as_chunks().0);
    all.data = values.map(|&value| f32::from_le_bytes(value)).collect();
    Ok(all.of_some()?)
}

/// `value` of each of `items`, where there is one, in their order; every process computes some of them.
///
/// # Errors
/// As `value`; a process that was lost.
pub(super) fn each(
    ranks: &Ranks,
    items: &[usize],
    mut value: impl FnMut(usize) -> Result<Option<f64>>,
) -> Result<Vec<f64>> {
    let mut own = Vec::new();
    let places = (0..items.len()).skip(ranks.rank()).step_by(ranks.size());
    for place in places {
        own.extend(value(items[place])?.map(|value| (place, value.to_bits())));
    }
    let all = ranks.comm().all_gather(&serde_json::to_vec(&own)?);
    let mut values: Vec<(usize, u64)> = Vec::with_capacity(items.len());
    for bytes in all.map_err(dinolab_train::Error::from)? {
        values.append(&mut serde_json::from_slice(&bytes)?);
    }
    values.sort_unstable();
    let values = values.into_iter();
    Ok(values.map(|(_, bits)| f64::from_bits(bits)).collect())
}
