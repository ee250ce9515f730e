//! AdamW over a backbone and its head.

use burn::tensor::{Gradients, Tensor};
use dinolab_nn::ops::{AdamW, Following};
use dinolab_nn::{Param, Parameters};

/// The state of AdamW, by the position of parameters in the order of updates.
pub(super) struct Optimiser {
    step: u64,
    weight_decay: f64,
    states: Vec<State>,
}

struct State {
    moments: [Tensor<1>; 2],
    /// The moving average that the update expects; its momentum is 0 here.
    shadow: Tensor<1>,
}

impl Optimiser {
    pub(super) fn new(weight_decay: f64) -> Self {
        Self {
            step: 0,
            weight_decay,
            states: Vec::new(),
        }
    }

    /// Updates all parameters of `parts`, which must be in the same order each time. `rate(name)`
    /// returns a parameter's learning rate.
    pub(super) fn step(
        &mut self,
        parts: &mut [(&str, &mut dyn Parameters)],
        gradients: &mut Gradients,
        rate: &dyn Fn(&str) -> f64,
    ) {
        self.step += 1;
        let mut place = 0;
        for (prefix, part) in parts {
            part.visit_mut(prefix, &mut |name, param| {
                self.update(place, name, param, gradients, rate(name));
                place += 1;
            });
        }
    }

    fn update(
        &mut self,
        place: usize,
        name: &str,
        param: &mut Param,
        gradients: &mut Gradients,
        lr: f64,
    ) {
        if self.states.len() == place {
            let zeros = param.flat().zeros_like();
            self.states.push(State {
                moments: [zeros.clone(), zeros.clone()],
                shadow: zeros,
            });
        }
        let Some(gradient) = param.take_grad(gradients) else {
            return;
        };
        // No weight decay for biases and one-dimensional parameters, as in pre-training.
        let decays = !(name.ends_with(".bias") || param.shape().len() == 1);
        let mut value = param.take_flat();
        let State { moments, shadow } = &mut self.states[place];
        let [first, second] = moments;
        AdamW::default().update(
            Following {
                value: &mut value,
                teacher: shadow,
                momentum: 0.0,
                clip: 0.0,
            },
            gradient,
            [first, second],
            self.step,
            lr,
            if decays { self.weight_decay } else { 0.0 },
        );
        param.set_flat(value);
    }
}

/// Returns the factor of a backbone parameter's learning rate: `decay` to the power of the number of
/// layers between it and the head. That is 1 for block `depth − 1`, `depth + 1` for the embeddings,
/// and 0 for the final norm and the head.
pub(super) fn layer_rate(name: &str, depth: usize, decay: f64) -> f64 {
    let Some(name) = name.strip_prefix("backbone.") else {
        return 1.0;
    };
    let layers = match name.strip_prefix("blocks.") {
        Some(rest) => {
            let block = rest
                .split('.')
                .next()
                .and_then(|number| number.parse().ok());
            depth.saturating_sub(block.unwrap_or(0))
        }
        None if name.starts_with("norm.") => 0,
        None => depth + 1,
    };
    decay.powi(layers as i32)
}
