//! Training on a task with some of its images labelled.

use burn::tensor::{Gradients, Tensor, TensorData};
use dinolab_data::random::{Purpose, Random, epoch_order};
use dinolab_nn::device::to_host_f32;
use dinolab_nn::init::Init;
use dinolab_nn::ops::ParamUpdate;
use dinolab_nn::optim::schedule::WarmupCosine;
use dinolab_nn::optim::{LayerRates, Optimiser, OptimiserKind, Rates};
use dinolab_nn::vit::Linear;
use dinolab_nn::{AnyBackbone, Backbone, Parameters};
use rayon::prelude::*;

use super::fitted::Fitted;
use super::supervised::{Example, Supervised};
use crate::features::batch;
use crate::{Error, Result};
use dinolab_eval::cross_entropy::{Targets, cross_entropy};

/// The settings of training.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct FineTune {
    /// Passes over the labelled images.
    pub epochs: usize,
    /// Images per step; the last step of an epoch may have fewer.
    pub batch_size: usize,
    /// Fraction of the steps in which the learning rate rises from 0, within 0–1.
    pub warmup: f64,
    /// Weight decay of AdamW, except for biases and norms.
    pub weight_decay: f64,
    /// Layer-wise learning rate decay: the rate of each block is that of the block above times this,
    /// above 0 and at most 1.
    pub layer_decay: f64,
}

impl Default for FineTune {
    fn default() -> Self {
        Self {
            epochs: 40,
            batch_size: 32,
            warmup: 0.1,
            weight_decay: 0.05,
            layer_decay: 1.0,
        }
    }
}

impl FineTune {
    /// Returns the number of steps for a number of labelled images.
    pub fn steps(&self, images: usize) -> usize {
        self.epochs * images.div_ceil(self.batch_size.max(1))
    }

    /// Returns the learning rate of step `step` (from 0) of `steps`: linear warm-up from `lr / w` to
    /// `lr` in the first `w` steps, then a cosine schedule to 0.
    pub fn rate(&self, lr: f64, step: usize, steps: usize) -> f64 {
        let warmup = (self.warmup * steps as f64).round() as u64;
        let schedule = WarmupCosine {
            peak: lr,
            end: 0.0,
            warmup,
            steps: steps as u64,
        };
        schedule.from_first(step as u64)
    }

    /// Trains a head on `backbone`, and the backbone itself unless `frozen`, on the training images `labelled` of
    /// a task. `progress` is called with the loss of each step.
    /// Fails as [`TransferConfig::compare`](super::TransferConfig::compare).
    pub(super) fn fit(
        &self,
        task: &dyn Supervised,
        mut backbone: AnyBackbone,
        frozen: bool,
        labelled: &[usize],
        (lr, seed): (f64, u64),
        progress: &mut dyn FnMut(f64),
    ) -> Result<Fitted> {
        self.check(labelled, lr)?;
        let dim = task.head_dim(&backbone);
        let layers = LayerRates::new(&backbone.config(), self.layer_decay, 1.0);
        let plain = backbone.device();
        let recording = plain.clone().autodiff();
        // Different from the initial weights of a backbone of this seed.
        let mut init = Init::new(seed ^ 0x6865_6164);
        let mut head = Linear::new(dim, task.classes(), true, &mut init, &recording);
        if !frozen {
            backbone.to_device(&recording);
        }
        let mut optimiser = Optimiser::new(OptimiserKind::AdamW, 0);
        let steps = self.steps(labelled.len());
        let (mut step, mut last_epoch) = (0, 0.0);
        for epoch in 0..self.epochs {
            last_epoch = 0.0;
            let order = epoch_order(seed, epoch as u64, labelled.len());
            for chunk in order.chunks(self.batch_size) {
                let places: Vec<usize> = chunk.iter().map(|&i| labelled[i]).collect();
                let (images, targets) = examples(task, &backbone, &places, (seed, epoch as u64))?;
                let input = if frozen {
                    Tensor::from_inner(task.head_input(&backbone, images))
                } else {
                    task.training_input(&backbone, Tensor::from_inner(images))
                };
                let [rows, _] = input.dims();
                let logits = head.forward(input.reshape([1, rows, dim]));
                let found = cross_entropy(
                    &to_host_f32(logits.clone().without_autodiff()),
                    task.classes(),
                    Targets::Weights(&targets),
                )?;
                if !found.loss.is_finite() {
                    let loss = found.loss;
                    return Err(Error::Diverged { lr, loss });
                }
                last_epoch += found.loss * chunk.len() as f64 / labelled.len() as f64;
                // A sum whose gradient by the logits is that of the loss.
                let gradient = TensorData::new(found.gradient, [1, rows, task.classes()]);
                let gradient = Tensor::from_inner(Tensor::<3>::from_data(gradient, &plain));
                let mut gradients = (logits * gradient).sum().backward();
                let now = self.rate(lr, step, steps);
                let rates = |name: &str| Rates {
                    lr: now * layers.factor(name),
                    weight_decay: self.weight_decay,
                };
                let mut parts: Vec<(&str, &mut dyn Parameters)> = vec![("head", &mut head)];
                if !frozen {
                    parts.push(("backbone", &mut backbone));
                }
                step_all(&mut optimiser, &mut parts, &mut gradients, &rates);
                step += 1;
                progress(found.loss);
            }
        }
        backbone.to_device(&plain);
        head.to_device(&plain);
        Ok(Fitted {
            backbone,
            head,
            loss: last_epoch,
        })
    }

    fn check(&self, labelled: &[usize], lr: f64) -> Result<()> {
        let refuse = |field, reason: String| Err(Error::setting(field, reason));
        if self.epochs == 0 || self.batch_size == 0 {
            let field = if self.epochs == 0 {
                "epochs"
            } else {
                "batch-size"
            };
            return refuse(field, "must be at least 1".into());
        }
        if labelled.is_empty() {
            return Err(Error::invalid("training images", "must not be empty"));
        }
        if !(lr > 0.0 && lr.is_finite()) {
            return refuse("lr", format!("must be above 0, is {lr}"));
        }
        if !(0.0..1.0).contains(&self.warmup) {
            return refuse(
                "warmup",
                format!("must be at least 0 and below 1, is {}", self.warmup),
            );
        }
        if !(self.weight_decay >= 0.0 && self.weight_decay.is_finite()) {
            return refuse(
                "weight-decay",
                format!("must be at least 0, is {}", self.weight_decay),
            );
        }
        if !(self.layer_decay > 0.0 && self.layer_decay <= 1.0) {
            let reason = format!("must be above 0 and at most 1, is {}", self.layer_decay);
            return refuse("layer-decay", reason);
        }
        Ok(())
    }
}

/// One step of all parameters of `parts`, which come in the same order each time.
fn step_all(
    optimiser: &mut Optimiser,
    parts: &mut [(&str, &mut dyn Parameters)],
    gradients: &mut Gradients,
    rates: &dyn Fn(&str) -> Rates,
) {
    let mut place = 0;
    for (prefix, part) in parts {
        part.visit_mut(prefix, &mut |name, param| {
            if let Some(gradient) = param.take_grad(gradients) {
                let shape = param.shape().to_vec();
                let mut value = param.take_flat();
                let update = ParamUpdate {
                    value: &mut value,
                    average: None,
                    clip: 0.0,
                };
                optimiser.update(place, name, &shape, update, gradient, rates(name));
                param.set_flat(value);
            }
            place += 1;
        });
    }
}

/// Returns a batch of random views and the targets of their rows, without autodiff.
fn examples(
    task: &dyn Supervised,
    backbone: &dyn Backbone,
    places: &[usize],
    (seed, epoch): (u64, u64),
) -> Result<(Tensor<4>, Vec<f32>)> {
    let made: Vec<Example> = places
        .par_iter()
        .map(|&place| {
            let mut random = Random::new(seed, epoch, place as u64, Purpose::Crops);
            task.example(place, &mut random)
        })
        .collect::<Result<_>>()?;
    let (planes, targets): (Vec<_>, Vec<_>) =
        made.into_iter().map(|e| (e.planes, e.targets)).unzip();
    let images = batch(backbone, &planes, task.size().height, task.size().width);
    Ok((images, targets.concat()))
}
