//! What a run measures of its evaluated backbone: k-NN, raw and whitened, attention Jaccard,
//! pictures of attention or activation.

mod shared;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dinolab_data::{Image, Size, Source};
use dinolab_eval::attention::{JaccardSummary, ObjectHeads, REFERENCE_MASS};
use dinolab_eval::knn::{Knn, Labelled, l2_normalise};
use dinolab_eval::whitening::Whitening;
use dinolab_features::{Features, MapKind, Preprocess, attend, embed, whole_patches};
use dinolab_nn::{Backbone, Feature};
use dinolab_train::Ranks;

use crate::environment::Environment;
use crate::error::{Context, Error, Result};
use crate::evaluation::Evaluation;
use crate::pictures;
use crate::settings::Config;
use crate::sources::Sources;
use crate::tensorboard::Projection;

/// Images at most in the bank of k-NN while training; `eval knn` has no limit.
const BANK: usize = 20_000;
/// Maximum number of images evaluated during training.
const EVALUATED: usize = 5_000;
/// Images at most whose attention is compared with masks.
const MASKED: usize = 256;
/// Images that are embedded to estimate how long all take.
const TIMED: usize = 256;
/// Maximum number of images whose features are shown in TensorBoard.
const PROJECTED: usize = 1_000;
/// Batch size for inference.
const BATCH: usize = 64;

/// Evaluates the teacher of a run, always on the same images.
pub struct Evaluator {
    ranks: Ranks,
    bank: Arc<dyn Source>,
    judged: Option<Arc<dyn Source>>,
    shown: Vec<usize>,
    feature: Feature,
    preprocess: Preprocess,
    knn: Knn,
    attention_size: Size,
    /// Whether features are shown in TensorBoard.
    projects: bool,
}

/// `most` indices below `len`, evenly spread.
fn spread(len: usize, most: usize) -> Vec<usize> {
    let count = len.min(most);
    (0..count).map(|i| i * len / count).collect()
}

/// `most` of the images that have a label, evenly spread.
fn spread_labelled(source: &dyn Source, most: usize) -> Vec<usize> {
    let labelled: Vec<usize> = (0..source.len())
        .filter(|&index| source.label(index).is_some())
        .collect();
    let places = spread(labelled.len(), most);
    places.into_iter().map(|place| labelled[place]).collect()
}

impl Evaluator {
    /// An evaluator of `sources` as `config` asks, in one process.
    pub fn new(config: &Config, sources: &Sources) -> Self {
        Self::among(Ranks::default(), config, sources)
    }

    /// That of one of the processes of a run, which make features and attention maps together: the first one
    /// calls [`Evaluator::evaluate`] and the others [`Evaluator::assist`].
    pub fn among(ranks: Ranks, config: &Config, sources: &Sources) -> Self {
        let pictured = sources.val.as_ref().unwrap_or(&sources.train);
        Self {
            ranks,
            shown: spread(pictured.len(), config.attention_images),
            bank: sources.train.clone(),
            judged: sources.val.clone(),
            feature: config.feature,
            preprocess: config.preprocess(),
            knn: Knn {
                k: vec![config.knn_k],
                temperature: config.knn_temp,
            },
            attention_size: config.attention_size,
            projects: config.tensorboard,
        }
    }

    /// All figures of `backbone`, and the picture of its maps at `picture`.
    ///
    /// # Errors
    /// Images of another machine that cannot be fetched; a picture that cannot be written.
    pub fn evaluate(
        &self,
        env: &Environment<'_>,
        backbone: &dyn Backbone,
        picture: &Path,
    ) -> Result<Evaluation> {
        let [knn, knn_whitened] = match self.knn_features(backbone)? {
            Some((judged, features)) => self.knn(env, judged, features)?,
            None => [None, None],
        };
        self.picture(backbone, picture)?;
        let jaccard = match MapKind::of(backbone) {
            MapKind::Attention => self.jaccard(backbone)?,
            MapKind::Activation => None,
        };
        Ok(Evaluation {
            knn,
            knn_whitened,
            jaccard,
        })
    }

    /// What a process that is not the first does for the evaluation of `backbone`.
    ///
    /// # Errors
    /// As [`Evaluator::evaluate`]; a process that was lost.
    pub fn assist(&self, backbone: &dyn Backbone) -> Result<()> {
        self.knn_features(backbone)?;
        if MapKind::of(backbone) == MapKind::Attention {
            self.jaccard(backbone)?;
        }
        if self.projects {
            self.projected(backbone)?;
        }
        Ok(())
    }

    /// How long [`Evaluator::evaluate`] takes, by that of some of its images.
    ///
    /// # Errors
    /// Images of another machine that cannot be fetched.
    pub fn estimate(&self, backbone: &dyn Backbone) -> Result<Duration> {
        let labelled = |source: &dyn Source, most| spread_labelled(source, most).len();
        let mut embedded = match &self.judged {
            Some(judged) if !self.bank.classes().is_empty() && !judged.classes().is_empty() => {
                labelled(&*self.bank, BANK) + labelled(&**judged, EVALUATED)
            }
            _ => 0,
        };
        if self.projects {
            embedded += self.images().len().min(PROJECTED);
        }
        let mut total = Duration::ZERO;
        if embedded > 0 {
            let (source, silent) = (&*self.bank, &mut |_| {});
            let mut sample = spread_labelled(source, TIMED);
            if sample.is_empty() {
                sample = spread(source.len(), TIMED);
            }
            let mut time = |images: &[usize]| {
                let began = Instant::now();
                let (feature, how) = (self.feature, &self.preprocess);
                embed(backbone, feature, source, images, how, BATCH, silent)?;
                Ok::<_, Error>(began.elapsed())
            };
            // Memory is taken the first time.
            time(&sample[..1])?;
            total += time(&sample)?.mul_f64(embedded as f64 / sample.len() as f64);
        }
        if let Some(&index) = self.shown.first()
            && let Some(image) = usable(self.images().image(index))?
        {
            let side = Some((self.attention_size.height, self.attention_size.width));
            let image = whole_patches(&image, side, backbone.stride())?;
            let began = Instant::now();
            let kind = MapKind::of(backbone);
            kind.maps(backbone, &image, &self.preprocess.normaliser()?)?;
            let masked = match (kind, self.images().mask(index)) {
                (MapKind::Attention, Ok(Some(_))) => self.images().len().min(MASKED),
                _ => 0,
            };
            total += began.elapsed() * (self.shown.len() + masked) as u32;
        }
        Ok(total)
    }

    fn images(&self) -> &Arc<dyn Source> {
        self.judged.as_ref().unwrap_or(&self.bank)
    }

    fn features(
        &self,
        backbone: &dyn Backbone,
        source: &dyn Source,
        images: &[usize],
    ) -> Result<Features> {
        let network = (backbone, self.feature);
        shared::embed(&self.ranks, network, source, images, &self.preprocess)
    }

    /// The images that are judged, with the features of the bank and of them; `None` without labels.
    fn knn_features(
        &self,
        backbone: &dyn Backbone,
    ) -> Result<Option<(&dyn Source, [Features; 2])>> {
        let (Some(judged), bank) = (&self.judged, &self.bank) else {
            return Ok(None);
        };
        if bank.classes().is_empty() || judged.classes().is_empty() {
            return Ok(None);
        }
        let features = |source: &dyn Source, most| {
            self.features(backbone, source, &spread_labelled(source, most))
        };
        let features = [features(&**bank, BANK)?, features(&**judged, EVALUATED)?];
        Ok(Some((&**judged, features)))
    }

    fn jaccard(&self, backbone: &dyn Backbone) -> Result<Option<f64>> {
        let source = self.images();
        let normaliser = self.preprocess.normaliser()?;
        let of_image = |index: usize| {
            // The mask first: most sources have none, and reading an image costs more. One that cannot be
            // read says nothing of the others.
            let Ok(Some(mask)) = source.mask(index) else {
                return Ok(None);
            };
            let Some(image) = usable(source.image(index))? else {
                return Ok(None);
            };
            let side = Some((self.attention_size.height, self.attention_size.width));
            let image = whole_patches(&image, side, backbone.stride())?;
            let maps = attend(backbone, &image, &normaliser)?;
            let size = mask.size();
            let objects =
                ObjectHeads::of_image(&maps.maps, maps.grid, &mask.data, size, REFERENCE_MASS)?;
            let mut summary = JaccardSummary::default();
            // Classes do not matter here.
            summary.add(objects, |_| 0);
            Ok(summary.best_head_of_each())
        };
        let of_images = shared::each(&self.ranks, &spread(source.len(), MASKED), of_image)?;
        let mean = of_images.iter().sum::<f64>() / of_images.len() as f64;
        Ok((!of_images.is_empty()).then_some(100.0 * mean))
    }

    /// Top-1 accuracy of weighted k-NN in percent, by features of the bank and of the images that are judged:
    /// of the features, and of the same after whitening fitted to the bank. Features that do not differ
    /// cannot be whitened.
    fn knn(
        &self,
        env: &Environment<'_>,
        judged: &dyn Source,
        features: [Features; 2],
    ) -> Result<[Option<f64>; 2]> {
        let labelled = |source: &dyn Source, made: &mut Features| {
            l2_normalise(&mut made.data, made.dim)?;
            env.skipped(&made.skipped, |index| source.name(index));
            let labels = made.labels(source).context("an image has no label")?;
            Ok::<_, Error>(labels)
        };
        let [mut bank_features, mut judged_features] = features;
        let bank_labels = labelled(&*self.bank, &mut bank_features)?;
        let judged_labels = labelled(judged, &mut judged_features)?;
        // Labels count by class names, which need not be the same set on both sides.
        let judged_labels = translate(&judged_labels, judged.classes(), self.bank.classes())?;
        let dim = bank_features.dim;
        let top1 = |bank: &[f32], judged: &[f32]| {
            let labelled = |features, labels| Labelled {
                features,
                dim,
                labels,
            };
            let scores = self.knn.evaluate(
                labelled(bank, &bank_labels),
                labelled(judged, &judged_labels),
            )?;
            Ok::<_, Error>(scores.first().map(|score| score.top1))
        };
        let raw = top1(&bank_features.data, &judged_features.data)?;
        let whitening = match Whitening::fit_rows(&bank_features.data, dim) {
            Ok(whitening) => whitening,
            // Of a collapsed network; the run is judged by its other figures.
            Err(dinolab_eval::Error::Invalid { .. }) => return Ok([raw, None]),
            Err(error) => return Err(error.into()),
        };
        for rows in [&mut bank_features.data, &mut judged_features.data] {
            whitening.apply(rows)?;
            l2_normalise(rows, dim)?;
        }
        let whitened = top1(&bank_features.data, &judged_features.data)?;
        Ok([raw, whitened])
    }

    fn picture(&self, backbone: &dyn Backbone, path: &Path) -> Result<()> {
        let source = self.images();
        let normaliser = self.preprocess.normaliser()?;
        let mut rows = Vec::new();
        for &index in &self.shown {
            let Some(image) = usable(source.image(index))? else {
                continue;
            };
            let side = Some((self.attention_size.height, self.attention_size.width));
            let image = whole_patches(&image, side, backbone.stride())?;
            rows.push(MapKind::of(backbone).maps(backbone, &image, &normaliser)?);
        }
        pictures::attention_sheet(&rows, path)
    }
}

impl Evaluator {
    fn projected(&self, backbone: &dyn Backbone) -> Result<Features> {
        let source = self.images();
        self.features(backbone, &**source, &spread(source.len(), PROJECTED))
    }

    /// Features of some of the images, with their names and small pictures of them; `None` where no image can
    /// be used.
    ///
    /// # Errors
    /// Images of another machine that cannot be fetched.
    pub(crate) fn projection(&self, backbone: &dyn Backbone) -> Result<Option<Projection>> {
        let source = self.images();
        let made = self.projected(backbone)?;
        let class = |&index: &usize| {
            let class = source.label(index).map(|label| source.classes().get(label));
            class.flatten().cloned().unwrap_or_default()
        };
        let mut pictures = Vec::with_capacity(made.indices.len());
        for &index in &made.indices {
            let image = usable(source.image(index))?;
            pictures.push(image.map_or_else(Projection::no_picture, Projection::picture));
        }
        Ok((!made.indices.is_empty()).then(|| Projection {
            dim: made.dim,
            names: made.indices.iter().map(|&i| source.name(i)).collect(),
            classes: made.indices.iter().map(class).collect(),
            features: made.data,
            pictures,
        }))
    }
}

/// An image where it can be used; an error where it could not be fetched, which says nothing of it.
fn usable(image: dinolab_data::Result<Image>) -> Result<Option<Image>> {
    match image {
        Err(error) if error.is_unreachable() => Err(error.into()),
        image => Ok(image.ok()),
    }
}

/// Labels of one set of class names in terms of another's; a class that is not there gets a
/// label of its own, which no vote can give.
fn translate(labels: &[usize], from: &[String], to: &[String]) -> Result<Vec<usize>> {
    let place = |label: usize| {
        let name = from.get(label)?;
        Some(
            to.iter()
                .position(|other| other == name)
                .unwrap_or(to.len() + label),
        )
    };
    labels
        .iter()
        .map(|&label| place(label).with_context(|| format!("label {label} has no class name")))
        .collect()
}
