//! Features, tokens and attention of images.

mod passes;

use std::path::PathBuf;

use clap::Args;
use dinolab_data::{Size, Source};
use dinolab_features::{BlockFeatures, Preprocess};
use dinolab_nn::{Backbone, check_patches};
use dinolab_run::feature_input::{FeatureChoice, PreprocessOptions, by_name};
use dinolab_run::feature_set::FeatureSet;
use dinolab_run::visual_input::ResizeTo;
use dinolab_run::{Environment, Error, Model, ModelOptions, sources};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::arrays::shaped;
use crate::exceptions::{Exception, exception, plain};
use crate::forked;
use crate::images::{Images, Input, max_pixels};
use crate::messages::{Messages, warn};
use crate::settings::{flags_of, parse};

/// The keyword arguments of an embedder: flags of `dinolab embed`.
#[derive(Clone, Debug, Args)]
struct EmbedderArgs {
    #[arg(long, value_name = "PX", value_parser = dinolab_run::values::size, conflicts_with_all = ["resize", "crop"])]
    size: Option<Size>,
    #[command(flatten)]
    choice: FeatureChoice,
    #[command(flatten)]
    preprocess: PreprocessOptions,
    #[command(flatten)]
    model: ModelOptions,
}

/// A backbone that is ready to use, with how its images are prepared.
#[pyclass(frozen, module = "dinolab._dinolab")]
pub struct Embedder {
    weights: PathBuf,
    model: Model,
    blocks: BlockFeatures,
    preprocess: Preprocess,
    size: Option<Size>,
    batch_size: usize,
    device: String,
}

#[pymethods]
impl Embedder {
    #[new]
    #[pyo3(signature = (weights, **settings))]
    fn new(
        py: Python<'_>,
        weights: PathBuf,
        settings: Option<Bound<'_, PyDict>>,
    ) -> PyResult<Self> {
        let settings = settings.unwrap_or_else(|| PyDict::new(py));
        let args: EmbedderArgs = parse(py, None, &settings)?;
        forked::check(py)?;
        let messages = Messages::default();
        let made = py.detach(|| Self::open(&Environment::new(&messages), weights, args));
        messages.tell(py)?;
        made.map_err(|error| exception(py, error, &flags_of::<EmbedderArgs>(), Exception::Weights))
    }

    /// Features of images, float32: `[D]` of one, `[N, D]` of several.
    fn embed<'py>(
        &self,
        py: Python<'py>,
        images: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        match Input::of(images, self.model.pixels())? {
            Input::Given(images) => {
                let width = self.blocks.dim(&self.model.backbone);
                let rows = self.rows(py, &images, &passes::features(self))?;
                rows.array(py, images.single, &[width])
            }
            Input::Set(path) => {
                let (set, skipped) = self.set(py, path.clone())?;
                if let Some((name, reason)) = skipped.first() {
                    let (count, path) = (skipped.len(), path.display());
                    let text = format!(
                        "{count} images of {path} cannot be used and are left out; the first, {name}: {reason}"
                    );
                    warn(py, &text)?;
                }
                let shape = [set.len(), set.dim];
                shaped(py, set.data, &shape)
            }
        }
    }

    /// Features of a set of images, the images' names, their classes if they have some, and the names of
    /// those that cannot be used, with the reasons.
    #[allow(clippy::type_complexity, reason = "a tuple for Python")]
    fn embed_set<'py>(
        &self,
        py: Python<'py>,
        path: PathBuf,
    ) -> PyResult<(
        Bound<'py, PyAny>,
        Vec<String>,
        Option<Vec<Option<String>>>,
        Vec<(String, String)>,
    )> {
        let (set, skipped) = self.set(py, path)?;
        let shape = [set.len(), set.dim];
        let names = set.names.unwrap_or_default();
        Ok((shaped(py, set.data, &shape)?, names, set.labels, skipped))
    }

    /// Class token `[D]`, mean `[D]` of the patch tokens and patch tokens `[h, w, D]` of one image; of several
    /// with `N` in front.
    #[allow(clippy::type_complexity, reason = "a tuple for Python")]
    fn tokens<'py>(
        &self,
        py: Python<'py>,
        images: &Bound<'py, PyAny>,
    ) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyAny>, Bound<'py, PyAny>)> {
        let images = self.given(images)?;
        let rows = self.rows(py, &images, &passes::tokens(self))?;
        let (height, width) = self.grid();
        let dim = self.model.backbone.width() * self.blocks.n_last_blocks;
        let [mut class, mut mean, mut patches] = [(); 3].map(|()| passes::Rows::default());
        let length = (2 + height * width) * dim;
        for row in rows.data.chunks_exact(length) {
            let (first, rest) = row.split_at(dim);
            let (second, rest) = rest.split_at(dim);
            class.data.extend_from_slice(first);
            mean.data.extend_from_slice(second);
            patches.data.extend_from_slice(rest);
        }
        for part in [&mut class, &mut mean, &mut patches] {
            part.count = rows.count;
        }
        Ok((
            class.array(py, images.single, &[dim])?,
            mean.array(py, images.single, &[dim])?,
            patches.array(py, images.single, &[height, width, dim])?,
        ))
    }

    /// Attention of the last block's class token: `[heads, h, w]` of one image, with `N` in front of several.
    /// Images are resized to `size`, a side or `"HEIGHTxWIDTH"`.
    #[pyo3(signature = (images, size = None))]
    fn attention<'py>(
        &self,
        py: Python<'py>,
        images: &Bound<'py, PyAny>,
        size: Option<&str>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let images = self.given(images)?;
        let size = match size {
            Some(text) => text.parse::<ResizeTo>().map_err(|reason| {
                Exception::Setting.raised(py, &format!("size {text}: {reason}"))
            })?,
            None => self.attention_size(),
        };
        let (rows, shape) = passes::attention(self, py, &images, size)?;
        rows.array(py, images.single, &shape)
    }

    /// The weights as given.
    #[getter]
    fn weights(&self) -> PathBuf {
        self.weights.clone()
    }

    /// Width of a feature, `D`.
    #[getter]
    fn width(&self) -> usize {
        self.blocks.dim(&self.model.backbone)
    }

    /// Width of a token.
    #[getter]
    fn token_width(&self) -> usize {
        self.model.backbone.width()
    }

    /// Side of a patch in pixels.
    #[getter]
    fn patch_size(&self) -> usize {
        self.model.backbone.stride()
    }

    /// Number of transformer blocks; `None` for another network.
    #[getter]
    fn depth(&self) -> Option<usize> {
        Some(self.model.backbone.vit().ok()?.config().depth)
    }

    /// Number of attention heads; `None` for a network without attention.
    #[getter]
    fn heads(&self) -> Option<usize> {
        Some(self.model.backbone.vit().ok()?.config().heads)
    }

    /// Number of channels of an image.
    #[getter]
    fn channels(&self) -> usize {
        self.model.backbone.channels()
    }

    /// What a feature is made of: `class`, `patches` or `both`.
    #[getter]
    fn feature(&self) -> &'static str {
        self.blocks.feature.name()
    }

    /// Number of last blocks whose features are concatenated.
    #[getter]
    fn n_last_blocks(&self) -> usize {
        self.blocks.n_last_blocks
    }

    /// Height and width that images are brought to cover.
    #[getter]
    fn resize(&self) -> (usize, usize) {
        let size = self.size.unwrap_or(self.preprocess.resize);
        (size.height, size.width)
    }

    /// Height and width that the network sees.
    #[getter]
    fn crop(&self) -> (usize, usize) {
        let size = self.seen();
        (size.height, size.width)
    }

    /// Rows and columns of patches.
    #[getter(grid)]
    fn grid_of_patches(&self) -> (usize, usize) {
        self.grid()
    }

    /// Channel means of values in 0–1.
    #[getter]
    fn mean(&self) -> Vec<f32> {
        self.preprocess.mean.clone()
    }

    /// Channel standard deviations of values in 0–1.
    #[getter]
    fn std(&self) -> Vec<f32> {
        self.preprocess.std.clone()
    }

    /// How many images go through the network together.
    #[getter]
    fn batch_size(&self) -> usize {
        self.batch_size
    }

    /// Where it computes.
    #[getter]
    fn device(&self) -> &str {
        &self.device
    }
}

impl Embedder {
    fn open(env: &Environment<'_>, weights: PathBuf, args: EmbedderArgs) -> Result<Self, Error> {
        let model = Model::load(env, &weights, &args.model)?;
        let blocks = args.choice.of(&model, 1)?;
        let preprocess = args.preprocess.of(&model);
        let patch = model.backbone.stride();
        let (setting, seen) = match args.size {
            Some(size) => ("size", size),
            None => ("crop", preprocess.crop),
        };
        let refused = |reason: String| Error::BadSetting {
            setting,
            value: seen.to_string(),
            reason,
        };
        check_patches(seen.height, seen.width, patch)
            .map_err(|error| refused(error.to_string()))?;
        if seen.shortest() < patch {
            return Err(refused(format!("is smaller than a patch of {patch}")));
        }
        Ok(Self {
            weights,
            model,
            blocks,
            preprocess,
            size: args.size,
            batch_size: args.preprocess.batch_size.max(1),
            device: args.model.device,
        })
    }

    /// Height and width that the network sees.
    fn seen(&self) -> Size {
        self.size.unwrap_or(self.preprocess.crop)
    }

    fn grid(&self) -> (usize, usize) {
        let (seen, patch) = (self.seen(), self.model.backbone.stride());
        (seen.height / patch, seen.width / patch)
    }

    /// What images of attention maps are resized to: as in the run that made the weights, or 480.
    fn attention_size(&self) -> ResizeTo {
        let of_run = self.model.attention_size.map(ResizeTo::from);
        of_run.unwrap_or(ResizeTo::Side(480))
    }

    /// Images one by one, where a set makes no sense.
    fn given(&self, images: &Bound<'_, PyAny>) -> PyResult<Images> {
        match Input::of(images, self.model.pixels())? {
            Input::Given(images) => Ok(images),
            Input::Set(path) => Err(Exception::Image.raised(
                images.py(),
                &format!(
                    "images: {} is no image file; give images or a list of paths",
                    path.display()
                ),
            )),
        }
    }

    /// What `pass` makes of images, all of which have to be usable.
    fn rows(&self, py: Python<'_>, images: &Images, pass: &passes::Pass) -> PyResult<passes::Rows> {
        drop(passes::room(images.len(), pass.width)?);
        let order: Vec<usize> = (0..images.len()).collect();
        let features = passes::run(py, self, images, &order, pass, true)?;
        Ok(passes::Rows {
            count: features.indices.len(),
            data: features.data,
        })
    }

    /// Features of a set of images in the order of their names, and the images that cannot be used.
    fn set(&self, py: Python<'_>, path: PathBuf) -> PyResult<(FeatureSet, Vec<(String, String)>)> {
        let messages = Messages::default();
        let pixels = self.model.pixels();
        let opened = py
            .detach(|| sources::open_as(&Environment::new(&messages), &path, max_pixels(), pixels));
        messages.tell(py)?;
        let source = opened.map_err(|error| plain(py, error))?;
        let order = by_name(&*source);
        let features = passes::run(py, self, &*source, &order, &passes::features(self), false)?;
        let features = features.of_some().map_err(|error| plain(py, error))?;
        let named = |(index, reason): &(usize, String)| (source.name(*index), reason.clone());
        let skipped: Vec<_> = features.skipped.iter().map(named).collect();
        Ok((FeatureSet::of_source(features, &*source), skipped))
    }
}

impl passes::Rows {
    /// As `[…]` of one image, or `[N, …]`.
    fn array<'py>(
        self,
        py: Python<'py>,
        single: bool,
        shape: &[usize],
    ) -> PyResult<Bound<'py, PyAny>> {
        let first = if single { vec![] } else { vec![self.count] };
        shaped(py, self.data, &[&first, shape].concat())
    }
}
