//! The built-in image set: objects of sixteen classes on textured grounds.
//!
//! Nothing is stored: image `i` is drawn when it is asked for, and depends on `(seed, i)`
//! and the options only. Each image shows one object among small clutter, at times partly
//! covered. Form tells the class; most objects also wear one of eight coats, each shared by
//! two classes, as animals do. Colours, the ground and the clutter say nothing of it. A set of another seed shows other images of
//! the same classes and serves as validation set.

mod outline;
mod render;
mod texture;

use std::sync::LazyLock;

use crate::random::{Purpose, Random};
use crate::{Error, Image, Mask, Result, Source};

/// The object classes, in label order.
pub const CLASSES: [&str; 16] = [
    "arrow", "bolt", "crescent", "cross", "disc", "fish", "flower", "gear", "heart", "key",
    "ladder", "ring", "spiral", "square", "star", "triangle",
];

static CLASS_NAMES: LazyLock<Vec<String>> = LazyLock::new(|| CLASSES.map(String::from).to_vec());

/// How hard the images are.
#[derive(Clone, Debug, PartialEq)]
pub struct ShapesOptions {
    /// Side of the images in pixels, 16–4096.
    pub size: usize,
    /// Least and greatest length of the object's longer side, as shares of the image's side, 0.1–1.
    pub object: (f64, f64),
    /// Greatest tilt of the object to either side, in degrees, 0–180.
    pub rotation: f64,
    /// Mean number of clutter fragments, 0–64.
    pub clutter: f64,
    /// Probability that something covers part of the object, 0–1.
    pub occlusion: f64,
    /// How far the two tones of the object's coat lie apart, 0–1; at 1 one of them is near the
    /// ground's.
    pub texture: f64,
    /// How strongly the ground's texture varies, 0–1.
    pub background: f64,
    /// Probability that the object wears the pattern of its kind rather than any, 0–1.
    pub coat: f64,
    /// Probability that the ground has a regular pattern rather than irregular grain, 0–1.
    pub patterned: f64,
    /// Strength of the colours, 0 (grey) to 1; their hues drift across each image.
    pub colour: f64,
    /// Range of the grounds' mean luminance around middle grey, 0–0.5.
    pub light: f64,
    /// Standard deviation of the pixel noise, in grey levels of 255, 0–64.
    pub noise: f64,
    /// Least difference in mean luminance between object and ground, 0.05–0.45 of the full range.
    pub contrast: f64,
}

impl Default for ShapesOptions {
    fn default() -> Self {
        Self {
            size: 64,
            object: (0.5, 0.9),
            rotation: 20.0,
            clutter: 2.0,
            occlusion: 0.1,
            texture: 1.0,
            background: 0.5,
            coat: 1.0,
            patterned: 0.0,
            colour: 0.25,
            light: 0.04,
            noise: 5.0,
            contrast: 0.25,
        }
    }
}

impl ShapesOptions {
    fn check(&self) -> Result<()> {
        let in_range = |field: &'static str, value: f64, low: f64, high: f64| {
            if (low..=high).contains(&value) {
                return Ok(());
            }
            Err(Error::BadSetting {
                field,
                reason: format!("must lie between {low} and {high}, not {value}"),
            })
        };
        in_range("shapes size", self.size as f64, 16.0, 4096.0)?;
        in_range("shapes object", self.object.0, 0.1, 1.0)?;
        in_range("shapes object", self.object.1, self.object.0, 1.0)?;
        in_range("shapes rotation", self.rotation, 0.0, 180.0)?;
        in_range("shapes clutter", self.clutter, 0.0, 64.0)?;
        in_range("shapes occlusion", self.occlusion, 0.0, 1.0)?;
        in_range("shapes texture", self.texture, 0.0, 1.0)?;
        in_range("shapes background", self.background, 0.0, 1.0)?;
        in_range("shapes coat", self.coat, 0.0, 1.0)?;
        in_range("shapes patterned", self.patterned, 0.0, 1.0)?;
        in_range("shapes colour", self.colour, 0.0, 1.0)?;
        in_range("shapes light", self.light, 0.0, 0.5)?;
        in_range("shapes noise", self.noise, 0.0, 64.0)?;
        in_range("shapes contrast", self.contrast, 0.05, 0.45)
    }
}

/// The built-in set; see the [module](self).
#[derive(Clone, Debug)]
pub struct Shapes {
    seed: u64,
    len: usize,
    options: ShapesOptions,
}

impl Shapes {
    /// `len` images of the default difficulty.
    pub fn new(seed: u64, len: usize) -> Self {
        Self {
            seed,
            len,
            options: ShapesOptions::default(),
        }
    }

    /// `len` images.
    ///
    /// # Errors
    /// [`Error::BadSetting`] where an option is out of its range.
    pub fn with_options(seed: u64, len: usize, options: ShapesOptions) -> Result<Self> {
        options.check()?;
        Ok(Self { seed, len, options })
    }

    /// The options the images are drawn with.
    pub fn options(&self) -> &ShapesOptions {
        &self.options
    }

    /// Draws an image and its object mask: 1 where the object shows (at least half of
    /// the pixel), 0 elsewhere.
    pub fn render(&self, index: usize) -> (Image, Mask) {
        let mut random = Random::new(self.seed, 0, index as u64, Purpose::Shapes);
        render::render(self.class(index), &self.options, &mut random)
    }

    /// Classes come in shuffled blocks, each class once a block: every stretch of the set
    /// is balanced, and an index does not give its class away.
    fn class(&self, index: usize) -> usize {
        assert!(index < self.len, "image {index} of a set of {}", self.len);
        let block = (index / CLASSES.len()) as u64;
        let mut order: [usize; CLASSES.len()] = std::array::from_fn(|class| class);
        // Images have epoch 0 in their keys, so that 1 is free for the order.
        Random::new(self.seed, 1, block, Purpose::Shapes).shuffle(&mut order);
        order[index % CLASSES.len()]
    }
}

impl Source for Shapes {
    fn len(&self) -> usize {
        self.len
    }

    fn name(&self, index: usize) -> String {
        format!("shapes/{}/{index:06}", CLASSES[self.class(index)])
    }

    fn label(&self, index: usize) -> Option<usize> {
        Some(self.class(index))
    }

    fn classes(&self) -> &[String] {
        &CLASS_NAMES
    }

    fn image(&self, index: usize) -> Result<Image> {
        Ok(self.render(index).0)
    }

    fn mask(&self, index: usize) -> Result<Option<Mask>> {
        Ok(Some(self.render(index).1))
    }
}
