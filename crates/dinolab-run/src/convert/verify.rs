//! What was written, read back and compared with the original.

use dinolab_nn::weights::{Weights, deviation};
use serde::Serialize;

use super::{ConvertRequest, Original, load};
use crate::error::{Context, Result};
use crate::weights::{read, read_all};

/// The largest relative error of a file that is kept.
pub(super) const LIMIT: f64 = 1e-4;

/// One comparison.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Check {
    /// Which network.
    pub what: String,
    /// Of the image, in pixels.
    pub height: usize,
    /// Of the image, in pixels.
    pub width: usize,
    /// ‖difference‖ / ‖original‖ over all tokens.
    pub relative_error: f64,
}

/// Compares the tokens of random images.
///
/// Heads and the rule for position embeddings are the original's, since not every format says
/// them; whatever else a format loses shows as a difference.
pub(super) fn check(request: &ConvertRequest<'_>, original: &Original) -> Result<Vec<Check>> {
    let mut checks = Vec::new();
    let weights =
        read(request.output, original.weights.role).context("the output cannot be read back")?;
    compare("backbone", &weights, original, &mut checks)?;
    if request.full {
        let (before, after) = (read_all(request.input)?, read_all(request.output)?);
        for ((role, before), (_, after)) in before.into_iter().zip(after) {
            let differ = before
                .arrays
                .iter()
                .find(|(name, array)| after.arrays.get(*name) != Some(array));
            if let Some((name, _)) = differ {
                bail!("{role} {name} changed in the output");
            }
            ensure!(
                before.centre == after.centre,
                "the centre changed in the output"
            );
        }
    }
    Ok(checks)
}

fn compare(
    what: &str,
    weights: &Weights,
    original: &Original,
    checks: &mut Vec<Check>,
) -> Result<()> {
    let ours = original.vit.config();
    let mut config = weights.vit_config(Some(ours.heads))?;
    config.position_rule = ours.position_rule;
    let (vit, _) = load(weights, &config)?;
    // Of another trained size the original resamples to it, at that size alone.
    let resized = config.side() != ours.side();
    let side = config.side() * config.patch_size;
    for (height, width, relative_error) in deviation(&original.vit, &vit) {
        if resized && (height, width) != (side, side) {
            continue;
        }
        ensure!(
            relative_error <= LIMIT,
            "what was written differs from the original: relative error {relative_error:.1e} on \
             an image of {height} × {width}"
        );
        checks.push(Check {
            what: what.into(),
            height,
            width,
            relative_error,
        });
    }
    Ok(())
}
