//! Image classification.

use burn::tensor::Tensor;
use dinolab_data::augment::ChannelNormaliser;
use dinolab_data::augment::eval;
use dinolab_data::random::Random;
use dinolab_data::{Image, Size, Source};
use dinolab_nn::Backbone;

use super::Score;
use super::fitted::Fitted;
use super::supervised::{Example, Supervised};
use crate::block_features::BlockFeatures;
use crate::features::{FeatureExtractor, Preprocess, planes};
use crate::random_view::RandomView;
use crate::{Error, Result};
use dinolab_eval::linear::accuracy;

/// Classification of a labelled source, with the features of a linear classifier as the head's input.
pub(super) struct Classification<'a> {
    train: &'a dyn Source,
    val: &'a dyn Source,
    /// Labels of the validation images as indices of training classes.
    val_labels: Vec<usize>,
    groups: Vec<usize>,
    blocks: BlockFeatures,
    view: RandomView,
    preprocess: Preprocess,
    normaliser: ChannelNormaliser,
    batch_size: usize,
}

impl<'a> Classification<'a> {
    /// As [`Task::classification`](super::Task::classification).
    pub fn new(
        train: &'a dyn Source,
        val: &'a dyn Source,
        blocks: BlockFeatures,
        view: RandomView,
        preprocess: &Preprocess,
        batch_size: usize,
    ) -> Result<Self> {
        view.check()?;
        let labels = |what, source: &dyn Source| {
            (0..source.len())
                .map(|index| source.label(index))
                .collect::<Option<Vec<usize>>>()
                .filter(|labels| !labels.is_empty())
                .ok_or_else(|| Error::invalid(what, "an image has no label"))
        };
        let groups = labels("training images", train)?;
        let val_labels = labels("validation images", val)?;
        let (of_train, of_val) = (train.classes(), val.classes());
        let known = |label: usize| of_train.iter().position(|name| *name == of_val[label]);
        Ok(Self {
            val_labels: val_labels
                .into_iter()
                .map(|label| known(label).unwrap_or(of_train.len()))
                .collect(),
            train,
            val,
            groups,
            blocks,
            view,
            preprocess: preprocess.clone(),
            normaliser: preprocess.normaliser()?,
            batch_size: batch_size.max(1),
        })
    }

    fn centre(&self, image: &Image) -> Result<Image> {
        let Preprocess { resize, crop, .. } = self.preprocess;
        Ok(eval::features(image, resize, crop)?)
    }
}

impl Supervised for Classification<'_> {
    fn classes(&self) -> usize {
        self.train.classes().len()
    }

    fn size(&self) -> Size {
        self.view.size
    }

    fn groups(&self) -> Vec<usize> {
        self.groups.clone()
    }

    fn example(&self, place: usize, random: &mut Random) -> Result<Example> {
        let image = self.train.image(place)?;
        let mut targets = vec![0.0; self.classes()];
        targets[self.groups[place]] = 1.0;
        Ok(Example {
            planes: planes(&self.view.draw(&image, random)?, &self.normaliser)?,
            targets,
        })
    }

    fn head_dim(&self, backbone: &dyn Backbone) -> usize {
        self.blocks.dim(backbone)
    }

    fn head_input(&self, backbone: &dyn Backbone, images: Tensor<4>) -> Tensor<2> {
        self.blocks.of(backbone, images)
    }

    fn training_input(&self, backbone: &dyn Backbone, images: Tensor<4>) -> Tensor<2> {
        self.blocks.training(backbone, images)
    }

    fn evaluate(&self, fitted: &Fitted) -> Result<Score> {
        let logits = FeatureExtractor {
            backbone: &fitted.backbone,
            view: &|_, image| self.centre(image),
            feature: &|images| {
                let input = self.head_input(&fitted.backbone, images);
                let [rows, dim] = input.dims();
                let logits = fitted.head.forward(input.reshape([1, rows, dim]));
                logits.reshape([rows, self.classes()])
            },
            dim: self.classes(),
            normaliser: &self.normaliser,
            batch_size: self.batch_size,
        }
        .run(
            self.val,
            &(0..self.val.len()).collect::<Vec<_>>(),
            &mut |_| {},
        )?;
        let labels: Vec<usize> = logits.indices.iter().map(|&i| self.val_labels[i]).collect();
        let found = accuracy(&logits.data, self.classes(), &labels)?;
        Ok(Score {
            value: found.top1,
            second: found.top5,
        })
    }
}
