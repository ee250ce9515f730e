//! AdamW over a backbone and its head.

use burn::tensor::{Gradients, Tensor};
use dinolab_nn::ops::{AdamW, Following};
use dinolab_nn::{Param, Parameters};

/// Moments of parameters, by their place in the order of updates.
pub(super) struct Optimiser {
    step: u64,
    weight_decay: f64,
    states: Vec<State>,
}

struct State {
    moments: [Tensor<1>; 2],
    /// The update lets an average follow the values; here it is the values themselves.
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

    /// One step of all parameters of `parts`, which come in the same order each time.
    /// `rate(name)` is a parameter's learning rate.
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
        // Biases and all that has one dimension do not decay, as in training.
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

/// What the learning rate of a parameter of the backbone is multiplied by: `decay` once for each
/// layer that lies between it and the head. Block `depth − 1` counts one, the embeddings
/// `depth + 1`, the final norm and the head none.
pub fn layer_rate(name: &str, depth: usize, decay: f64) -> f64 {
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
