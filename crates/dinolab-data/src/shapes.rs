//! The built-in image set: objects of sixteen classes on textured grounds.
//!
//! Nothing is stored: image `i` is drawn on demand, and depends on `(seed, i)`
//! and the options only. Each image shows one object among small clutter, at times partly
//! covered. The shape determines the class; most objects also have one of eight patterns, each shared
//! by two classes, as animals do. Colours, background and clutter are independent of the class. A set of another seed shows other images of
//! the same classes and serves as validation set.

mod classes;
mod options;
mod outline;
mod render;
mod texture;

pub use classes::CLASSES;
pub use options::ShapesOptions;

use std::sync::LazyLock;

use crate::random::{Purpose, Random};
use crate::{Image, Mask, Result, Source};

static CLASS_NAMES: LazyLock<Vec<String>> = LazyLock::new(|| CLASSES.map(String::from).to_vec());

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
    /// [`Error::BadSetting`](crate::Error::BadSetting) if an option is out of its range.
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
