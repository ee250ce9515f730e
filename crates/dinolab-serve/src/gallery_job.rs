//! A gallery that is made in the background once the page asks for it.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dinolab_data::source::{RemoteOptions, SourceOptions};
use dinolab_data::{Pixels, Source};
use dinolab_features::BlockFeatures;
use dinolab_run::feature_set::FeatureSet;
use dinolab_run::run_folder::RunFolder;
use dinolab_run::sources::{self, Sources};
use dinolab_run::{Environment, Model, ModelOptions, Settings};
use serde::Serialize;

use crate::answer::{Answer, Failure};
use crate::gallery::{Gallery, GalleryFacts};
use crate::network::newest;
use crate::sample::sample;

/// Images that are embedded for a map, at most; a file of features may have more.
const EMBEDDED: usize = 4_000;
/// Batch size for inference.
const BATCH: usize = 32;

/// Where features and images come from.
#[derive(Clone, Debug)]
pub struct GallerySource {
    /// The run.
    pub run: PathBuf,
    /// Features that were saved.
    pub features: Option<PathBuf>,
    /// Images, in place of the run's.
    pub images: Option<PathBuf>,
    /// How images at other machines are read.
    pub remote: RemoteOptions,
}

enum Stage {
    Idle,
    Working { done: usize, total: usize },
    Ready(Arc<Gallery>),
    Failed(String),
}

/// How far it is.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum Progress {
    /// Nobody asked for it yet.
    Idle,
    /// Images are embedded.
    Working {
        /// How many are done.
        done: usize,
        /// Of how many; 0 if that is not known yet.
        total: usize,
    },
    /// It can be shown.
    Ready {
        /// What it holds.
        #[serde(flatten)]
        facts: GalleryFacts,
        /// How often it was made, so that pictures of another one are not taken for its own.
        version: usize,
        /// Whether the run has a newer checkpoint.
        outdated: bool,
    },
    /// It cannot be made.
    Failed {
        /// Why.
        reason: String,
    },
}

/// A gallery, or how far it is.
pub struct GalleryJob {
    from: GallerySource,
    stage: Mutex<(Stage, usize)>,
}

impl GalleryJob {
    /// One that nobody asked for yet.
    pub fn new(from: GallerySource) -> Self {
        Self {
            from,
            stage: Mutex::new((Stage::Idle, 0)),
        }
    }

    /// How far it is.
    pub fn progress(&self) -> Progress {
        let stage = self.stage();
        match &stage.0 {
            Stage::Idle => Progress::Idle,
            Stage::Working { done, total } => Progress::Working {
                done: *done,
                total: *total,
            },
            Stage::Ready(gallery) => Progress::Ready {
                facts: gallery.facts(),
                version: stage.1,
                outdated: gallery
                    .checkpoint
                    .as_ref()
                    .is_some_and(|used| newest(&self.from.run).is_some_and(|now| now != *used)),
            },
            Stage::Failed(reason) => Progress::Failed {
                reason: reason.clone(),
            },
        }
    }

    /// The gallery, once it is made.
    pub fn ready(&self) -> Answer<Arc<Gallery>> {
        match &self.stage().0 {
            Stage::Ready(gallery) => Ok(gallery.clone()),
            _ => Err(Failure::not_yet("The map is not ready yet.")),
        }
    }

    /// Makes it anew, unless it is being made.
    pub fn start(self: &Arc<Self>) -> Answer<()> {
        let mut stage = self.stage();
        if matches!(stage.0, Stage::Working { .. }) {
            return Ok(());
        }
        stage.0 = Stage::Working { done: 0, total: 0 };
        let job = self.clone();
        let work = move || {
            // A panic is a failure of this gallery only.
            let caught = std::panic::AssertUnwindSafe(|| job.make());
            let made = std::panic::catch_unwind(caught);
            let mut stage = job.stage();
            stage.1 += 1;
            stage.0 = match made {
                Ok(Ok(gallery)) => Stage::Ready(Arc::new(gallery)),
                Ok(Err(failure)) => Stage::Failed(failure.to_string()),
                Err(_) => Stage::Failed("The features could not be made.".into()),
            };
        };
        std::thread::Builder::new()
            .name("gallery".into())
            .spawn(work)?;
        Ok(())
    }

    fn stage(&self) -> MutexGuard<'_, (Stage, usize)> {
        self.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn make(&self) -> Answer<Gallery> {
        match &self.from.features {
            Some(path) => {
                let set = FeatureSet::load(path, &self.from.remote)?;
                // The map can be drawn without pictures.
                let source = self.all_images().ok();
                Gallery::new(set, source, None, None)
            }
            None => self.embed(),
        }
    }

    fn environment(&self) -> Environment<'static> {
        Environment {
            remote: self.from.remote.clone(),
            ..Environment::default()
        }
    }

    fn settings(&self) -> Answer<Settings> {
        let settings = RunFolder::new(&self.from.run).settings()?;
        settings.ok_or_else(|| Failure::not_yet("The run has no config.toml."))
    }

    fn open(&self, path: &std::path::Path, pixels: Pixels) -> Answer<Arc<dyn Source>> {
        let most = SourceOptions::default().max_pixels;
        Ok(sources::open_as(&self.environment(), path, most, pixels)?)
    }

    /// All images that the run is trained on, or those that were given.
    fn all_images(&self) -> Answer<Arc<dyn Source>> {
        if let Some(images) = &self.from.images {
            return self.open(images, Pixels::Rgb);
        }
        let settings = self.settings()?;
        match &settings.images {
            Some(images) if !images.as_os_str().is_empty() => self.open(images, settings.pixels()),
            _ => Ok(Sources::of(&self.environment(), &settings)?.train),
        }
    }

    fn embed(&self) -> Answer<Gallery> {
        let checkpoint = newest(&self.from.run).ok_or_else(|| {
            Failure::not_yet("The run has no checkpoint yet; the first is written after an epoch.")
        })?;
        let env = self.environment();
        let model = Model::load(&env, &checkpoint, &ModelOptions::default())?;
        let source = match &self.from.images {
            Some(images) => self.open(images, model.pixels())?,
            None => self.all_images()?,
        };
        let chosen = sample(source.len(), EMBEDDED);
        let total = chosen.len();
        let features = BlockFeatures::from(model.feature)
            .embed_usable(
                &model.backbone,
                &*source,
                &chosen,
                &model.preprocess,
                BATCH,
                &mut |done| self.stage().0 = Stage::Working { done, total },
            )?
            .of_some()?;
        let places = features.indices.clone();
        let set = FeatureSet::of_source(features, &*source);
        Gallery::new(set, Some(source), Some(places), Some(checkpoint))
    }
}
