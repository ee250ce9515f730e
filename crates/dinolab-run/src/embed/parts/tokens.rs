//! Parts of patch tokens.

use dinolab_data::Image;
use dinolab_features::BlockFeatures;

use super::{EmbeddedParts, Work};
use crate::embed::EmbedRequest;
use crate::embed::token_views::TokenViews;
use crate::error::Result;
use crate::feature_input::report_skipped;
use crate::feature_set::parts::{Manifest, PartFolder, TokenGrid};
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
        ensure_setting!(
            !request.options.whole,
            "whole",
            "",
            "makes grids of different sizes, and a column has lists of one size; write them to a .safetensors file"
        );
        let preprocess = request.options.preprocess.of(model);
        let views = TokenViews::of(request, model, &preprocess)?;
        let view = |_: usize, image: &Image| views.view(image);
        let tokens = patch_tokens(request);
        let (rows, columns) = views.grid();
        let grid = TokenGrid {
            rows,
            columns,
            width: tokens.dim(&model.backbone),
        };
        let manifest = Manifest {
            patch_tokens: Some(grid),
            ..manifest
        };
        self.fill(folder, &manifest, |images| {
            let all: Vec<usize> = (0..images.len()).collect();
            let mut data = Vec::new();
            let progress = self.env.progress("image", all.len());
            let (used, skipped) = tokens.each(
                &model.backbone,
                images,
                &all,
                (&view, &preprocess),
                views.at_once(request.options.preprocess.batch_size),
                &mut |batch| {
                    ensure!(
                        batch.grid == (rows, columns),
                        "patch tokens: images are of different sizes"
                    );
                    data.extend(batch.data);
                    Ok(())
                },
                &mut |done| progress.set(done, ""),
            )?;
            progress.finish();
            report_skipped(self.env, &skipped, images);
            let (names, labels) = names_and_labels(&used, images);
            Ok(FeatureSet {
                dim: grid.values(),
                data,
                names: Some(names),
                labels,
            })
        })
    }
}
