//! From gradients to new weights: clipping, optimiser and moving average, parameter by parameter.

use std::collections::BTreeMap;

use burn::tensor::{Gradients, Tensor};
use dinolab_nn::ops::{self, Average, ParamUpdate};
use dinolab_nn::optim::{LayerRates, Optimiser, Rates};
use dinolab_nn::{Param, Parameters};

use crate::Result;
use crate::joints::Joints;
use crate::ranks::{Ranks, Summing, TreeSum};

/// Gradients by the parameter's place in the network.
type ByPlace = Vec<Option<Tensor<1>>>;

/// The parameter that learns from masked patches alone, which not every part of a batch has: its gradient waits
/// until all parts have one.
const MASK_TOKEN: &str = "mask_token";

/// Gradients of a network, summed over micro-batches, and over shards and processes by
/// [`GradientSum::reduce`].
pub struct GradientSum {
    /// Of the shard at hand.
    sums: ByPlace,
    /// Of the shards before it.
    shards: TreeSum<ByPlace>,
    /// The place of the [`MASK_TOKEN`].
    mask_token: Option<usize>,
    /// Sums over processes that have begun, with the parameters' places.
    begun: Vec<(Vec<usize>, Summing)>,
}

impl GradientSum {
    /// No gradients yet.
    pub fn new(network: &(impl Parameters + ?Sized)) -> Self {
        let (mut count, mut mask_token) = (0, None);
        network.visit("", &mut |name, _| {
            if name.ends_with(MASK_TOKEN) {
                mask_token = Some(count);
            }
            count += 1;
        });
        Self {
            sums: vec![None; count],
            shards: TreeSum::default(),
            mask_token,
            begun: Vec::new(),
        }
    }

    /// Gives the mask token a gradient of zeros if it has none, where other shards of the batch have one:
    /// [`GradientSum::reduce`] sums the same parameters in all processes.
    pub fn fill_mask_token(&mut self, network: &(impl Parameters + ?Sized)) {
        let mut sums = self.sums.iter_mut();
        network.visit("", &mut |name, param| {
            let sum = sums.next().expect("the same network");
            if name.ends_with(MASK_TOKEN) && param.trainable() && sum.is_none() {
                *sum = Some(param.flat().zeros_like());
            }
        });
    }

    /// What is added from here on is of the batch's next shard.
    pub fn end_shard(&mut self) {
        let next = vec![None; self.sums.len()];
        let shard = std::mem::replace(&mut self.sums, next);
        self.shards.push(shard, added);
    }

    /// Adds the network's gradients of a backward pass that begins with `gradients`. If its graph is in
    /// pieces, which is for the only pass of this process, those of each are summed over processes while
    /// the next is computed.
    ///
    /// # Errors
    /// [`crate::Error::Ranks`].
    pub fn add_pieces(
        &mut self,
        network: &(impl Parameters + ?Sized),
        gradients: Gradients,
        joints: Joints,
        ranks: &Ranks,
    ) -> Result<()> {
        let overlap = joints.in_pieces();
        joints.backward(gradients, |of_piece| {
            self.add(network, of_piece);
            match overlap {
                true => self.begin_sum(ranks),
                false => Ok(()),
            }
        })
    }

    /// Begins to sum over processes what has been added.
    fn begin_sum(&mut self, ranks: &Ranks) -> Result<()> {
        let taken = self.sums.iter_mut().enumerate();
        let taken = taken.filter(|(place, _)| Some(*place) != self.mask_token);
        let taken = taken.filter_map(|(place, sum)| Some((place, sum.take()?)));
        let (places, summands): (Vec<usize>, Vec<_>) = taken.unzip();
        if !places.is_empty() {
            self.begun.push((places, ranks.begin_sum(summands)?));
        }
        Ok(())
    }

    /// Sums over shards and processes, after the last shard has ended.
    ///
    /// # Errors
    /// [`crate::Error::Ranks`].
    pub fn reduce(&mut self, ranks: &Ranks) -> Result<()> {
        let shards = std::mem::take(&mut self.shards).finish(added);
        let sums = shards.expect("a batch has a shard");
        // Which parameters have a gradient follows from the network: the same in all processes.
        let known: Vec<bool> = sums.iter().map(Option::is_some).collect();
        let mut summed = ranks.sum(sums.into_iter().flatten().collect())?.into_iter();
        self.sums = known
            .into_iter()
            .map(|known| known.then(|| summed.next()).flatten())
            .collect();
        for (places, sums) in self.begun.drain(..) {
            for (place, sum) in places.into_iter().zip(sums.wait()?) {
                self.sums[place] = Some(sum);
            }
        }
        Ok(())
    }

    /// Adds gradients that are not to be reduced, since all processes have computed the whole.
    pub fn add_whole(&mut self, whole: Self) {
        let own = std::mem::take(&mut self.sums);
        self.sums = added(own, whole.sums);
    }

    /// Adds the network's gradients of one backward pass.
    pub fn add(&mut self, network: &(impl Parameters + ?Sized), mut gradients: Gradients) {
        let mut sums = self.sums.iter_mut();
        network.visit("", &mut |_, param| {
            let sum = sums.next().expect("the same network");
            if let Some(grad) = param.take_grad(&mut gradients) {
                *sum = Some(match sum.take() {
                    Some(sum) => sum + grad,
                    None => grad,
                });
            }
        });
    }
}

fn added(a: ByPlace, b: ByPlace) -> ByPlace {
    let sum = |(a, b): (Option<Tensor<1>>, Option<Tensor<1>>)| match (a, b) {
        (Some(a), Some(b)) => Some(a + b),
        (a, b) => a.or(b),
    };
    a.into_iter().zip(b).map(sum).collect()
}

/// What becomes of the running statistics of an average's batch normalisation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Statistics {
    /// They are its own: it sees images in training, too.
    Own,
    /// They are those of the averaged network.
    Copied,
}

/// A moving average of a network, or of a part of it.
pub struct Averaged<'a> {
    /// The averaged network.
    pub network: &'a mut dyn Parameters,
    /// Which part of the learned network it averages: empty for all of it, `backbone`.
    pub part: &'a str,
    /// The weight of the average before the step, in 0–1.
    pub momentum: f64,
    /// Its running statistics, if it has some.
    pub statistics: Statistics,
}

/// Moves an average towards the network as it is, outside of its [`update`].
pub fn follow(network: &(impl Parameters + ?Sized), average: Averaged) {
    let Averaged {
        network: averaged,
        part,
        momentum,
        statistics,
    } = average;
    let mut values: BTreeMap<String, Tensor<1>> = BTreeMap::new();
    averaged.visit_mut(part, &mut |name, param| {
        values.insert(name.to_owned(), param.take_flat());
    });
    network.visit("", &mut |name, param| {
        if let Some(value) = values.get_mut(name) {
            follow_one(value, param, momentum, statistics);
        }
    });
    averaged.visit_mut(part, &mut |name, param| {
        param.set_flat(values.remove(name).expect("taken before"));
    });
}

/// Moves the average of a tensor that is not updated; one of a frozen tensor stays to the bit.
fn follow_one(average: &mut Tensor<1>, param: &Param, momentum: f64, statistics: Statistics) {
    match statistics {
        _ if param.is_frozen() => {}
        _ if param.trainable() || param.is_composed() => ops::ema(average, &param.flat(), momentum),
        Statistics::Copied => *average = param.flat(),
        Statistics::Own => {}
    }
}

/// How parameters are updated.
pub struct UpdateRule<'a> {
    /// Learning rate and weight decay.
    pub rates: Rates,
    /// What the learning rate of each parameter is multiplied by; `None` for 1.
    pub layers: Option<LayerRates>,
    /// What the learning rate of the backbone is multiplied by.
    pub backbone: f64,
    /// Largest norm of each parameter's gradient; 0 disables clipping.
    pub clip: f64,
    /// Which parameters stay as they are, by name. Neither their moments nor their step count
    /// change.
    pub frozen: &'a dyn Fn(&str) -> bool,
}

impl UpdateRule<'_> {
    /// No parameter is frozen; all have the same learning rate.
    pub fn of_all(rates: Rates, clip: f64) -> Self {
        Self {
            rates,
            layers: None,
            backbone: 1.0,
            clip,
            frozen: &|_| false,
        }
    }

    /// Learning rate and weight decay of a parameter.
    fn rates_of(&self, name: &str) -> Rates {
        let layer = self
            .layers
            .as_ref()
            .map_or(1.0, |layers| layers.factor(name));
        let part = match name.contains("backbone.") {
            true => self.backbone,
            false => 1.0,
        };
        Rates {
            lr: self.rates.lr * layer * part,
            ..self.rates
        }
    }
}

/// Clips each gradient by its own norm, updates its parameter, and then the average over all that is
/// learned: one pass over each parameter. Returns the norms before clipping, of the parameters that
/// have a gradient.
pub fn update(
    network: &mut (impl Parameters + ?Sized),
    gradients: GradientSum,
    optimiser: &mut Optimiser,
    rule: &UpdateRule,
    mut average: Option<Averaged>,
) -> Vec<f32> {
    let mut averages: BTreeMap<String, Tensor<1>> = BTreeMap::new();
    let momentum = average.as_ref().map_or(1.0, |average| average.momentum);
    let of_average = average.as_ref().map(|average| average.statistics);
    let statistics = of_average.unwrap_or(Statistics::Own);
    if let Some(average) = &mut average {
        average.network.visit_mut(average.part, &mut |name, param| {
            averages.insert(name.to_owned(), param.take_flat());
        });
    }
    let mut norms = Vec::new();
    let mut gradients = gradients.sums.into_iter().enumerate();
    network.visit_mut("", &mut |name, param: &mut Param| {
        let (place, grad) = gradients.next().expect("the same network");
        let average = averages.get_mut(name);
        match grad {
            Some(grad) if !(rule.frozen)(name) => {
                let mut value = param.take_flat();
                let step = ParamUpdate {
                    value: &mut value,
                    average: average.map(|value| Average { value, momentum }),
                    clip: rule.clip,
                };
                let shape = param.shape().to_vec();
                norms.push(optimiser.update(place, name, &shape, step, grad, rule.rates_of(name)));
                param.set_flat(value);
            }
            grad => {
                norms.extend(grad.map(|grad| ops::norm(&grad)));
                if let Some(average) = average.filter(|_| !param.is_composed()) {
                    follow_one(average, param, momentum, statistics);
                }
            }
        }
    });
    network.compose();
    network.visit("", &mut |name, param| {
        let average = averages.get_mut(name).filter(|_| param.is_composed());
        if let Some(average) = average {
            follow_one(average, param, momentum, statistics);
        }
    });
    if let Some(average) = average {
        average.network.visit_mut(average.part, &mut |name, param| {
            param.set_flat(averages.remove(name).expect("taken before"));
        });
    }
    let norms = Tensor::cat(norms, 0).into_data().convert::<f32>();
    norms.try_to_vec().expect("converted to f32")
}
