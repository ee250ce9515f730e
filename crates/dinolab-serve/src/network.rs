//! Networks of a run's checkpoints, and what one sees in an image.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use dinolab_data::augment::eval;
use dinolab_data::{Image, Source};
use dinolab_features::{BlockFeatures, Embedder};
use dinolab_run::run_folder::RunFolder;
use dinolab_run::sources::Sources;
use dinolab_run::{Environment, Model, ModelOptions, pca};
use dinolab_train::checkpoint;
use dinolab_view::{Rgb, encode_png};
use serde::Serialize;

use crate::answer::{Answer, Failure};
use crate::sample::spread;

/// Shorter side of images whose attention is shown, if the run does not say it.
const SIDE: usize = 480;
/// Images of the run whose attention is shown, if the run stores no pictures.
const SHOWN: usize = 8;

/// A network and what it needs to see an image.
pub struct Network {
    embedder: Embedder,
    side: usize,
}

/// A stored checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Stored {
    /// Its file's name.
    pub name: String,
    /// Steps done.
    pub step: u64,
}

/// What a network sees in an image.
#[derive(Clone, Debug, Serialize)]
pub struct Seen {
    /// The image as the network saw it, as a data URI.
    image: String,
    /// Its size, width and height.
    size: (usize, usize),
    /// Rows and columns of patches.
    grid: (usize, usize),
    /// What the maps show, `attention` or `activation`.
    maps: &'static str,
    /// The class token's attention to each patch, head by head; or the one map of activation.
    heads: Vec<Vec<f32>>,
    /// Red, green and blue of each patch, 0–255.
    colours: Vec<u8>,
}

/// An image of the run that is always shown.
#[derive(Clone, Debug, Serialize)]
pub struct FixedImage {
    /// Its number.
    pub number: usize,
    /// Its name.
    pub name: String,
}

/// The networks of a run. The last one that was used is kept.
pub struct Networks {
    run: PathBuf,
    kept: Mutex<Option<(PathBuf, Arc<Network>)>>,
    fixed: OnceLock<Fixed>,
}

/// Images that are always shown, and where they are from.
struct Fixed {
    source: Arc<dyn Source>,
    places: Vec<usize>,
}

impl Networks {
    /// Those of the run in `run`.
    pub fn new(run: &Path) -> Self {
        Self {
            run: run.into(),
            kept: Mutex::new(None),
            fixed: OnceLock::new(),
        }
    }

    /// Checkpoints that are stored at the moment, the earliest first.
    pub fn stored(&self) -> Vec<Stored> {
        let mut found: Vec<Stored> = checkpoint::list(&self.run.join("checkpoints"))
            .into_iter()
            .filter_map(|path| {
                let name = path.file_name()?.to_str()?.to_owned();
                let step = name.strip_prefix("step-")?.strip_suffix(".safetensors")?;
                let step = step.parse().ok()?;
                Some(Stored { name, step })
            })
            .collect();
        found.sort_by_key(|stored| stored.step);
        found
    }

    /// The file of the newest checkpoint.
    pub fn newest(&self) -> Answer<PathBuf> {
        newest(&self.run).ok_or_else(|| {
            Failure::not_yet("The run has no checkpoint yet; the first is written after an epoch.")
        })
    }

    /// The file of checkpoint `name`, which must be one of [`Networks::stored`].
    pub fn file(&self, name: &str) -> Answer<PathBuf> {
        match self.stored().iter().any(|stored| stored.name == name) {
            true => Ok(self.run.join("checkpoints").join(name)),
            false => Err(Failure::missing(
                "This checkpoint is not there any more; the run keeps the newest ones.",
            )),
        }
    }

    /// The network of the checkpoint at `path`.
    pub fn load(&self, path: &Path) -> Answer<Arc<Network>> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        match &*kept {
            Some((of, network)) if of == path => Ok(network.clone()),
            _ => {
                let network = Arc::new(Network::load(path)?);
                *kept = Some((path.into(), network.clone()));
                Ok(network)
            }
        }
    }

    /// The images whose attention is followed over time.
    pub fn fixed_images(&self) -> Answer<Vec<FixedImage>> {
        let fixed = self.fixed()?;
        let places = fixed.places.iter().enumerate();
        Ok(places
            .map(|(number, &place)| FixedImage {
                number,
                name: fixed.source.name(place),
            })
            .collect())
    }

    /// Image `number` of [`Networks::fixed_images`].
    pub fn fixed_image(&self, number: usize) -> Answer<Image> {
        let fixed = self.fixed()?;
        match fixed.places.get(number) {
            Some(&place) => Ok(fixed.source.image(place)?),
            None => Err(Failure::missing("no such image")),
        }
    }

    fn fixed(&self) -> Answer<&Fixed> {
        if let Some(fixed) = self.fixed.get() {
            return Ok(fixed);
        }
        let settings = RunFolder::new(&self.run)
            .settings()?
            .ok_or_else(|| Failure::not_yet("The run has no config.toml."))?;
        let sources = Sources::of(&Environment::default(), &settings)?;
        let source = sources.val.unwrap_or(sources.train);
        // The same that the run draws, where it draws some.
        let count = settings.attention_images.filter(|&count| count > 0);
        let places = spread(source.len(), count.unwrap_or(SHOWN));
        Ok(self.fixed.get_or_init(|| Fixed { source, places }))
    }
}

/// The file of a run's newest checkpoint.
pub fn newest(run: &Path) -> Option<PathBuf> {
    checkpoint::list(&run.join("checkpoints"))
        .into_iter()
        .next()
}

impl Network {
    fn load(path: &Path) -> Answer<Self> {
        let model = Model::load(&Environment::default(), path, &ModelOptions::default())?;
        let side = model.attention_size.map_or(SIDE, |size| size.shortest());
        let features = BlockFeatures::from(model.feature);
        let embedder = Embedder::new(model.backbone, model.preprocess)?.with_features(features)?;
        Ok(Self { embedder, side })
    }

    /// How images become features.
    pub fn embedder(&self) -> &Embedder {
        &self.embedder
    }

    /// Attention or activation, and patch colours of an image.
    pub fn see(&self, image: &Image) -> Answer<Seen> {
        let (width, height) = eval::shortest_side(image.width, image.height, self.side);
        let size = Some((height, width));
        let (kind, attention) = self.embedder.maps(image, size)?;
        let tokens = self.embedder.tokens(image, size)?;
        let picture = encode_png(&Rgb::from_image(&attention.image)?)?;
        let patches = attention.grid.0 * attention.grid.1;
        let colours = pca::colours_of(&tokens)?;
        Ok(Seen {
            image: format!("data:image/png;base64,{}", STANDARD.encode(picture)),
            size: (attention.image.width, attention.image.height),
            grid: attention.grid,
            maps: kind.name(),
            heads: attention
                .maps
                .chunks(patches.max(1))
                .map(|map| map.iter().map(|&value| short(value)).collect())
                .collect(),
            colours: colours.iter().map(|c| (c * 255.0).round() as u8).collect(),
        })
    }
}

/// A value with about four digits, which is what a picture can show.
fn short(value: f32) -> f32 {
    f32::from_bits(value.to_bits() & 0xffff_fc00)
}
