//! Images through the network, a batch at a time, so that Ctrl-C is heard between batches.

use dinolab_data::augment::{Filter, eval};
use dinolab_data::{Image, Size, Source};
use dinolab_features::{FeatureExtractor, Features, View, at_once, attend, whole_patches};
use dinolab_nn::backbone::last_tokens;
use dinolab_nn::{Backbone, Feature, Tensor};
use dinolab_run::visual_input::ResizeTo;
use pyo3::exceptions::PyMemoryError;
use pyo3::prelude::*;

use super::Embedder;
use crate::exceptions::{Exception, plain};
use crate::forked;
use crate::images::Images;

/// Rows of equal length, one per image.
#[derive(Debug, Default)]
pub struct Rows {
    /// Images.
    pub count: usize,
    /// `[N, …]`.
    pub data: Vec<f32>,
}

/// What is made of a batch `[B, C, H, W]`: `[B, width]`.
pub struct Pass<'a> {
    make: Box<dyn Fn(Tensor<4>) -> Tensor<2> + Sync + 'a>,
    /// Values of a row.
    pub width: usize,
}

/// Features, as `dinolab embed` makes them.
pub fn features(embedder: &Embedder) -> Pass<'_> {
    let (blocks, backbone) = (embedder.blocks, &embedder.model.backbone);
    Pass {
        make: Box::new(move |images| blocks.of(backbone, images)),
        width: blocks.dim(backbone),
    }
}

/// Class token, mean patch token and patch tokens of the last blocks, one after the other.
pub fn tokens(embedder: &Embedder) -> Pass<'_> {
    let backbone = &embedder.model.backbone;
    let count = embedder.blocks.n_last_blocks;
    let (height, width) = embedder.grid();
    let patches = height * width;
    let dim = backbone.width() * count;
    Pass {
        make: Box::new(move |images| {
            let batch = images.dims()[0];
            let tokens = last_tokens(backbone, images, count).expect("checked to be there");
            let tokens = Tensor::cat(tokens, 2);
            let class = Feature::Class.of(tokens.clone(), patches);
            let mean = Feature::Patches.of(tokens.clone(), patches);
            let all = tokens.dims()[1];
            let patch_tokens = tokens.narrow(1, all - patches, patches);
            let patch_tokens = patch_tokens.reshape([batch, patches * dim]);
            Tensor::cat(vec![class, mean, patch_tokens], 1)
        }),
        width: (2 + patches) * dim,
    }
}

/// Room for rows of a width, all at once, so that what does not fit in memory is an error at the beginning.
pub fn room(rows: usize, width: usize) -> PyResult<Vec<f32>> {
    let mut room = Vec::new();
    let made = room.try_reserve_exact(rows.saturating_mul(width));
    made.map_err(|_| PyMemoryError::new_err(format!("no memory for {rows} × {width} values")))?;
    Ok(room)
}

/// Passes the source's images `order` through the network. With `all`, an image that cannot be used is an
/// error; else it is left out and listed.
pub fn run(
    py: Python<'_>,
    embedder: &Embedder,
    source: &dyn Source,
    order: &[usize],
    pass: &Pass<'_>,
    all: bool,
) -> PyResult<Features> {
    forked::check(py)?;
    let (model, preprocess) = (&embedder.model, &embedder.preprocess);
    let normaliser = preprocess.normaliser().map_err(|error| plain(py, error))?;
    let centre =
        |_: usize, image: &Image| Ok(eval::features(image, preprocess.resize, preprocess.crop)?);
    let Size { height, width } = embedder.seen();
    let squeezed =
        |_: usize, image: &Image| Ok(eval::resize(image, width, height, Filter::Bicubic)?);
    let view: &View = match embedder.size {
        Some(_) => &squeezed,
        None => &centre,
    };
    let patch = model.backbone.stride();
    let batch_size = at_once(embedder.batch_size, (height, width), patch);
    let mut found = Features {
        dim: pass.width,
        data: room(order.len(), pass.width)?,
        ..Features::default()
    };
    for batch in order.chunks(batch_size) {
        py.check_signals()?;
        let mut add = |rows: dinolab_features::Rows| -> dinolab_features::Result<()> {
            found.data.extend_from_slice(&rows.data);
            Ok(())
        };
        let passed = py.detach(|| {
            FeatureExtractor {
                backbone: &model.backbone,
                view,
                feature: &*pass.make,
                dim: pass.width,
                normaliser: &normaliser,
                batch_size,
            }
            .each(source, batch, &mut add, &mut |_| {})
        });
        let (used, skipped) = passed.map_err(|error| plain(py, error))?;
        if let Some((_, reason)) = skipped.first().filter(|_| all) {
            return Err(Exception::Image.raised(py, reason));
        }
        found.indices.extend(used);
        found.skipped.extend(skipped);
    }
    Ok(found)
}

/// Attention maps of images resized to `size`, and the shape `[heads, h, w]` of each.
pub fn attention(
    embedder: &Embedder,
    py: Python<'_>,
    images: &Images,
    size: ResizeTo,
) -> PyResult<(Rows, Vec<usize>)> {
    forked::check(py)?;
    let backbone = &embedder.model.backbone;
    let patch = backbone.stride();
    let normaliser = embedder.preprocess.normaliser();
    let normaliser = normaliser.map_err(|error| plain(py, error))?;
    let mut rows = Rows::default();
    let mut shape: Option<Vec<usize>> = None;
    for index in 0..images.len() {
        py.check_signals()?;
        let made = py.detach(|| {
            let image = whole_patches(&images.image(index)?, size.square(), patch)?;
            attend(backbone, &image, &normaliser)
        });
        let maps = made.map_err(|error| plain(py, error))?;
        let found = vec![maps.heads, maps.grid.0, maps.grid.1];
        if shape.get_or_insert_with(|| found.clone()) != &found {
            let message =
                "images: they are of different sizes; give `size`, or one image at a time";
            return Err(Exception::Image.raised(py, message));
        }
        rows.data.extend(maps.maps);
        rows.count += 1;
    }
    let (height, width) = size.square().unwrap_or((0, 0));
    let heads = backbone.vit().map_or(0, |vit| vit.config().heads);
    let none = || vec![heads, height / patch, width / patch];
    Ok((rows, shape.unwrap_or_else(none)))
}
