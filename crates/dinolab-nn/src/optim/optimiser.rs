//! Parameter groups and optimiser state over a network's named parameters.

use std::fmt;

use burn::tensor::Tensor;

use super::hidden_matrices;
use crate::ops::{AdamW, Lars, Muon, ParamUpdate, Sgd};

/// Which optimiser.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OptimiserKind {
    /// AdamW, betas 0.9 and 0.999, eps 1e-8.
    #[default]
    AdamW,
    /// SGD with momentum 0.9.
    Sgd,
    /// LARS, eta 0.001, momentum 0.9.
    Lars,
    /// Muon, momentum 0.95, of the matrices of the backbone's hidden layers ([`hidden_matrices`]); AdamW of all else.
    Muon,
}

impl fmt::Display for OptimiserKind {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Self::AdamW => "AdamW",
            Self::Sgd => "SGD",
            Self::Lars => "LARS",
            Self::Muon => "Muon",
        })
    }
}

impl OptimiserKind {
    /// Tensors of state of a parameter: AdamW's moments, or a momentum buffer.
    pub fn slots(self, name: &str, shape: &[usize]) -> usize {
        match self {
            Self::AdamW => 2,
            Self::Sgd | Self::Lars => 1,
            Self::Muon if hidden_matrices(name, shape).is_some() => 1,
            Self::Muon => 2,
        }
    }
}

/// How large a step is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rates {
    /// Learning rate.
    pub lr: f64,
    /// Weight decay, of the parameters that decay.
    pub weight_decay: f64,
}

/// State of one parameter.
#[derive(Clone, Debug)]
pub struct ParamState {
    /// Steps this parameter has taken; a frozen one takes none.
    pub steps: u64,
    /// Moments or momentum buffer, each flat.
    pub slots: Vec<Tensor<1>>,
}

/// An optimiser over parameters known by their place in the network's order.
#[derive(Clone, Debug)]
pub struct Optimiser {
    kind: OptimiserKind,
    /// By place; `None` until the parameter's first update.
    states: Vec<Option<ParamState>>,
}

/// Whether weight decay applies: not to biases, nor to anything of one dimension.
pub fn decays(name: &str, shape: &[usize]) -> bool {
    !(name.ends_with(".bias") || shape.len() == 1)
}

impl Optimiser {
    /// An optimiser for `parameters` parameters; it grows when there are more.
    pub fn new(kind: OptimiserKind, parameters: usize) -> Self {
        Self {
            kind,
            states: vec![None; parameters],
        }
    }

    /// The kind.
    pub fn kind(&self) -> OptimiserKind {
        self.kind
    }

    /// The states, by place; `None` until a parameter's first update.
    pub fn states(&self) -> &[Option<ParamState>] {
        &self.states
    }

    /// Replaces the states, as when a run is resumed.
    pub fn set_states(&mut self, states: Vec<Option<ParamState>>) {
        self.states = states;
    }

    /// Updates parameter number `place`, called `name` and of shape `shape`, with its gradient, in
    /// place. Returns the gradient's norm before clipping, `[1]`.
    pub fn update(
        &mut self,
        place: usize,
        name: &str,
        shape: &[usize],
        param: ParamUpdate,
        grad: Tensor<1>,
        Rates { lr, weight_decay }: Rates,
    ) -> Tensor<1> {
        let decay = if decays(name, shape) {
            weight_decay
        } else {
            0.0
        };
        if self.states.len() <= place {
            self.states.resize(place + 1, None);
        }
        let state = self.states[place].get_or_insert_with(|| ParamState {
            steps: 0,
            slots: (0..self.kind.slots(name, shape))
                .map(|_| param.value.zeros_like())
                .collect(),
        });
        state.steps += 1;
        match (self.kind, state.slots.as_mut_slice()) {
            (OptimiserKind::AdamW | OptimiserKind::Muon, [m, v]) => {
                AdamW::default().update(param, grad, [m, v], state.steps, lr, decay)
            }
            (OptimiserKind::Sgd, [buffer]) => {
                Sgd { momentum: 0.9 }.update(param, grad, buffer, state.steps, lr, decay)
            }
            (OptimiserKind::Lars, [buffer]) => {
                let adapt = shape.len() != 1;
                Lars {
                    eta: 0.001,
                    momentum: 0.9,
                }
                .update(param, grad, buffer, adapt, lr, decay)
            }
            (OptimiserKind::Muon, [buffer]) => {
                let matrices =
                    hidden_matrices(name, shape).expect("as when its slots were counted");
                Muon::default().update(param, grad, buffer, matrices, lr, decay)
            }
            _ => unreachable!("the number of slots is the kind's"),
        }
    }
}
