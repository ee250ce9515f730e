//! What a task is to training and evaluation.

use burn::tensor::Tensor;
use dinolab_data::Size;
use dinolab_data::random::Random;
use dinolab_nn::Backbone;

use super::Score;
use super::fitted::Fitted;
use crate::Result;

/// A training example: the input of the network and the targets of its rows.
pub(super) struct Example {
    /// Normalised planes `[3, S, S]`.
    pub planes: Vec<f32>,
    /// `[rows, K]`: the weight of each class in each row.
    pub targets: Vec<f32>,
}

/// A task, as training and evaluation see it.
pub(super) trait Supervised: Sync {
    /// Returns the number of classes, `K`, the outputs of the head per row.
    fn classes(&self) -> usize;

    /// Returns the size of the views in pixels.
    fn size(&self) -> Size;

    /// Returns the group of each training image; a labelled share is drawn evenly from the groups.
    fn groups(&self) -> Vec<usize>;

    /// Returns a random view of training image number `place`, with its targets.
    ///
    /// # Errors
    /// If the image cannot be used.
    fn example(&self, place: usize, random: &mut Random) -> Result<Example>;

    /// Returns the width of the head's input.
    fn head_dim(&self, backbone: &dyn Backbone) -> usize;

    /// Computes the head's input `[B · rows, head_dim]` of images `[B, 3, S, S]`.
    fn head_input(&self, backbone: &dyn Backbone, images: Tensor<4>) -> Tensor<2>;

    /// [`Supervised::head_input`] of a backbone that learns, whose batch normalisation uses the statistics
    /// of the batch.
    fn training_input(&self, backbone: &dyn Backbone, images: Tensor<4>) -> Tensor<2>;

    /// Scores a network on the validation images.
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::Error::Invalid) without usable images.
    fn evaluate(&self, fitted: &Fitted) -> Result<Score>;
}
