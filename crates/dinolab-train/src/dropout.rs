//! Stochastic depth, patch dropout, masks and moved coordinates, whose draws do not depend on how a batch is split.

use std::ops::Range;

use burn::tensor::Tensor;
use dinolab_data::random::{Purpose, Random};
use dinolab_nn::position::{CoordinateChange, Rope};
use dinolab_nn::vit::DropPath;

use crate::joints::Joints;

/// What is dropped of a network being trained, and how often.
#[derive(Clone, Debug)]
pub struct Dropout {
    seed: u64,
    /// Rate of stochastic depth of each block.
    blocks: Vec<f64>,
    /// Share of the patches of global views.
    patches: f64,
    /// Rotary positions, whose coordinates are moved.
    rope: Option<Rope>,
}

/// The draws of one step: keep factors of every view of every image, and the patches that are kept.
pub struct Dropped {
    /// `[block][branch][view · image]`; empty without stochastic depth.
    factors: Vec<[Vec<f32>; 2]>,
    seed: u64,
    step: u64,
    images: Range<usize>,
    patches: f64,
    /// Rows of masked patches of the global views.
    masked: Vec<usize>,
    rope: Option<Rope>,
    joints: Joints,
}

/// The rate of each block: from 0 for the first to `rate` for the last, in equal steps.
pub fn rates(rate: f64, depth: usize) -> Vec<f64> {
    (0..depth)
        .map(|i| rate * i as f64 / (depth - 1).max(1) as f64)
        .collect()
}

/// One view of one image.
pub(crate) fn key(view: usize, image: usize) -> u64 {
    (view as u64) << 32 | image as u64
}

impl Dropout {
    /// Of a network of `depth` blocks: stochastic depth with the rate `drop_path` at the last one, and
    /// the share `patches` of the patches of global views.
    pub fn new(seed: u64, depth: usize, drop_path: f64, patches: f64) -> Self {
        let blocks = match drop_path > 0.0 {
            true => rates(drop_path, depth),
            false => Vec::new(),
        };
        Self {
            seed,
            blocks,
            patches,
            rope: None,
        }
    }

    /// The same for a network with rotary positions, whose coordinates are moved as `rope` says.
    pub fn with_rope(self, rope: Option<Rope>) -> Self {
        Self { rope, ..self }
    }

    /// Draws for `views` views of images number `images` of the batch of a step. The same
    /// image of the same view gets the same draws however the batch is split into micro-batches.
    pub fn draw(&self, step: u64, views: usize, images: Range<usize>) -> Dropped {
        let samples = views * images.len();
        let empty = || [(); 2].map(|()| Vec::with_capacity(samples));
        let mut factors: Vec<[Vec<f32>; 2]> = self.blocks.iter().map(|_| empty()).collect();
        let drawn = if factors.is_empty() { 0 } else { views };
        for view in 0..drawn {
            for image in images.clone() {
                let sample = key(view, image);
                let mut random = Random::new(self.seed, step, sample, Purpose::DropPath);
                for (block, rate) in factors.iter_mut().zip(&self.blocks) {
                    for branch in block {
                        let keep = 1.0 - rate;
                        let kept = random.uniform(0.0, 1.0) < keep;
                        branch.push(if kept { (1.0 / keep) as f32 } else { 0.0 });
                    }
                }
            }
        }
        Dropped {
            factors,
            seed: self.seed,
            step,
            images,
            patches: self.patches,
            masked: Vec::new(),
            rope: self.rope,
            joints: Joints::default(),
        }
    }
}

impl Dropped {
    /// The same with masked patches: their rows among those of all global views.
    pub fn with_masks(self, masked: Vec<usize>) -> Self {
        Self { masked, ..self }
    }

    /// The same with a graph that is recorded in pieces.
    pub fn with_joints(self, joints: Joints) -> Self {
        Self { joints, ..self }
    }

    /// The joints between the pieces that were recorded.
    pub fn into_joints(self) -> Joints {
        self.joints
    }
}

impl DropPath for Dropped {
    fn factors(&self, block: usize, branch: usize) -> Option<Vec<f32>> {
        let factors = &self.factors.get(block)?[branch];
        // A block of rate 0 keeps everything: no multiplication by ones.
        factors.iter().any(|&f| f != 1.0).then(|| factors.clone())
    }

    /// Local views have no masks.
    fn masked_patches(&self, size: usize) -> &[usize] {
        match size {
            0 => &self.masked,
            _ => &[],
        }
    }

    fn joint(&self, block: usize, tokens: Tensor<2>) -> Tensor<2> {
        self.joints.before_block(block, tokens)
    }

    /// One change for all images of a size, as DINOv3 draws it.
    fn coordinates(&self, size: usize) -> Option<CoordinateChange> {
        let mut random = Random::new(self.seed, self.step, size as u64, Purpose::Coordinates);
        self.rope?.change(|| random.unit())
    }

    /// Local views, the second size, keep all: they have few patches as it is.
    fn kept_patches(&self, size: usize, images: usize, patches: usize) -> Option<Vec<usize>> {
        let kept = ((1.0 - self.patches) * patches as f64).round().max(1.0) as usize;
        if size > 0 || kept >= patches {
            return None;
        }
        let batch = self.images.len();
        let mut places = Vec::with_capacity(images * kept);
        for row in 0..images {
            let sample = key(row / batch, self.images.start + row % batch);
            let mut random = Random::new(self.seed, self.step, sample, Purpose::PatchDropout);
            let mut order: Vec<usize> = (0..patches).collect();
            random.shuffle(&mut order);
            order.truncate(kept);
            order.sort_unstable();
            places.append(&mut order);
        }
        Some(places)
    }
}
