//! Parts of patch tokens.

use dinolab_data::Image;
use dinolab_features::BlockFeatures;

use super::{EmbeddedParts, PartRows, Work};
use crate::embed::EmbedRequest;
use crate::embed::token_views::TokenViews;
use crate::error::Result;
use crate::feature_input::report_skipped;
use crate::feature_set::parts::{Grid, Manifest, PartFolder, TokenShape};
use crate::feature_set::{FeatureSet, names_and_labels};
use crate::model::Model;
use crate::patch_tokens::PatchTokens;

fn patch_tokens(request: &EmbedRequest<'_>) -> PatchTokens {
    PatchTokens {
        n_last_blocks: request.options.choice.n_last_blocks.unwrap_or(1),
    }
}

/// What is taken of the network.
///
/// # Errors
/// More blocks than it has.
pub(super) fn blocks(request: &EmbedRequest<'_>, model: &Model) -> Result<BlockFeatures> {
    let blocks = patch_tokens(request).blocks();
    blocks.check(&model.backbone)?;
    Ok(blocks)
}

impl Work<'_> {
    /// Writes the patch tokens of this process's parts.
    pub(super) fn tokens(&self, folder: &PartFolder, manifest: Manifest) -> Result<EmbeddedParts> {
        let (request, model) = (self.request, self.model);
        let preprocess = request.options.preprocess.of(model);
        let views = TokenViews::of(request, model, &preprocess)?;
        let view = |_: usize, image: &Image| views.view(image);
        let tokens = patch_tokens(request);
        let shape = TokenShape {
            grid: views.grid(),
            width: tokens.dim(&model.backbone),
        };
        let manifest = Manifest {
            patch_tokens: Some(shape),
            ..manifest
        };
        self.fill(folder, &manifest, |images| {
            let all: Vec<usize> = (0..images.len()).collect();
            let (mut data, mut grids) = (Vec::new(), Vec::new());
            let progress = self.env.progress("image", all.len());
            let (used, skipped) = tokens.each(
                &model.backbone,
                images,
                &all,
                (&view, &preprocess),
                views.at_once(request.options.preprocess.batch_size),
                &mut |batch| {
                    let (rows, columns) = batch.grid;
                    let grid = Grid { rows, columns };
                    match shape.grid {
                        None => grids.extend(batch.indices.iter().map(|_| grid)),
                        Some(same) => {
                            ensure!(grid == same, "patch tokens: images are of different sizes")
                        }
                    }
                    data.extend(batch.data);
                    Ok(())
                },
                &mut |done| progress.set(done, ""),
            )?;
            progress.finish();
            report_skipped(self.env, &skipped, images);
            let (names, labels) = names_and_labels(&used, images);
            let rows = FeatureSet {
                dim: shape.grid.map_or(0, |grid| shape.values(grid)),
                data,
                names: Some(names),
                labels,
            };
            Ok(PartRows { rows, grids })
        })
    }
}
