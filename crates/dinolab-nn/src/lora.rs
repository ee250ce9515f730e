//! Low-rank adaptation (Hu et al., LoRA, arXiv 2106.09685): of a transformer's weights `W₀` only a
//! change of low rank is learned, `W = W₀ + (α / r) · B · A`.
//!
//! Adapted are queries, values and both layers of the MLP of every block; keys, the output of attention,
//! biases, norms and embeddings stay as they are. `B` starts from 0, so that the network starts from `W₀`.
//!
//! `W` is composed once in a forward pass, before it meets any token. An adapted network therefore *is*
//! the merged one, to the bit, and computes with the same operations.

use std::collections::BTreeMap;
use std::ops::Range;

use burn::tensor::{Device, Tensor};

use crate::init::Init;
use crate::param::{Param, Parameters, join, parameters};
use crate::vit::Vit;
use crate::{Error, Result, ops};

/// Sets the generator of `A` apart from that of the network.
const PURPOSE: u64 = 0x6c6f_7261;

/// The size of a change of low rank.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct LoraConfig {
    /// Rank of the change, `r`, from 1 to the smaller side of each adapted weight.
    pub rank: usize,
    /// `α`: the change is multiplied by `α / r`. Above 0.
    pub alpha: f64,
}

/// The learned changes of a backbone.
#[derive(Clone, Debug)]
pub struct Lora {
    scale: f64,
    adapters: Vec<Adapter>,
}

/// The change of one weight `[O, I]`.
#[derive(Clone, Debug)]
struct Adapter {
    /// The layer's name in the backbone: `blocks.0.attn.qkv`.
    layer: String,
    /// `W₀`, `[O, I]`.
    base: Param,
    /// Changes of some of its rows, in their order.
    changes: Vec<Change>,
}

/// `B · A`, of the rows `rows` of a weight.
#[derive(Clone, Debug)]
struct Change {
    rows: Range<usize>,
    part: &'static str,
    factors: Factors,
}

/// `A` `[r, I]` and `B` `[rows, r]`.
#[derive(Clone, Debug)]
struct Factors {
    a: Param,
    b: Param,
}
parameters!(Factors { a, b });

impl Lora {
    /// Changes of 0 of a backbone. `A` is uniform in ±1/√I, drawn for `seed`.
    ///
    /// # Errors
    /// [`Error::BadSetting`] for a rank of 0, one above the smaller side of a weight, or an `α` that is not
    /// above 0.
    pub fn new(vit: &Vit, config: LoraConfig, seed: u64) -> Result<Self> {
        let LoraConfig { rank, alpha } = config;
        if !(alpha > 0.0 && alpha.is_finite()) {
            return Err(bad("lora-alpha", "must be above 0"));
        }
        if rank == 0 {
            return Err(bad("lora-rank", "must be at least 1"));
        }
        let mut init = Init::new(seed ^ PURPOSE);
        let mut adapters = Vec::new();
        for (layer, parts) in layers(vit) {
            let mut base = None;
            vit.visit("", &mut |name, param| {
                if name.strip_suffix(".weight") == Some(&layer) {
                    base = Some((
                        param.to_vec(),
                        param.shape().to_vec(),
                        param.flat().device(),
                    ));
                }
            });
            let (values, shape, device) = base.expect("a layer of the network");
            let of_part = |(part, rows): (&'static str, Range<usize>)| {
                let most = rows.len().min(shape[1]);
                if rank > most {
                    let reason = format!("is above the width {most} of {layer}, is {rank}");
                    return Err(bad("lora-rank", reason));
                }
                Ok(Change {
                    factors: Factors::new([rows.len(), shape[1]], rank, &mut init, &device),
                    rows,
                    part,
                })
            };
            let changes = parts.into_iter().map(of_part).collect::<Result<_>>()?;
            adapters.push(Adapter {
                base: Param::new(values, &shape, false, &device),
                layer,
                changes,
            });
        }
        Ok(Self {
            scale: alpha / rank as f64,
            adapters,
        })
    }

    /// Whether the backbone's parameter `name` is composed of a base and a change.
    pub fn adapts(&self, name: &str) -> bool {
        let layer = name.strip_suffix(".weight");
        layer.is_some_and(|layer| self.adapters.iter().any(|adapter| adapter.layer == layer))
    }

    /// Has a backbone learn these changes from now on, and of its own its mask token alone. Its parameters
    /// keep the values of the whole: `W₀` and the change.
    pub(crate) fn attach(&self, backbone: &mut impl Parameters) {
        backbone.visit_mut("", &mut |name, param| match self.adapts(name) {
            true => param.set_composed(),
            false => param.set_frozen(!learned_beside(name)),
        });
    }

    /// Freezes a backbone and its changes, if there are some, or lets learn again what learned before.
    pub(crate) fn freeze(lora: &mut Option<Self>, backbone: &mut impl Parameters, frozen: bool) {
        backbone.visit_mut("", &mut |name, param| {
            let stays = lora
                .as_ref()
                .is_some_and(|lora| !lora.adapts(name) && !learned_beside(name));
            param.set_frozen(frozen || stays);
        });
        lora.visit_mut("", &mut |_, param| param.set_frozen(frozen));
    }

    /// A backbone with the graph of the weights that are composed.
    pub(crate) fn recorded<B: Parameters + Clone>(&self, backbone: &B) -> B {
        let (mut backbone, mut composed) = (backbone.clone(), self.composed());
        backbone.visit_mut("", &mut |name, param| {
            if let Some(value) = composed.remove(name) {
                param.set_recorded(value);
            }
        });
        backbone
    }

    /// Gives a backbone the values of the weights that are composed.
    pub(crate) fn compose(&self, backbone: &mut impl Parameters) {
        let mut composed = self.composed();
        backbone.visit_mut("", &mut |name, param| {
            if let Some(value) = composed.remove(name) {
                param.set_flat(value.without_autodiff());
            }
        });
    }

    /// Takes the backbone's weights for the base.
    pub(crate) fn rebase(&mut self, backbone: &impl Parameters) {
        let mut values = BTreeMap::new();
        backbone.visit("", &mut |name, param| {
            values.insert(name.to_owned(), param.flat());
        });
        for Adapter { layer, base, .. } in &mut self.adapters {
            let value = values.remove(&format!("{layer}.weight"));
            base.set_flat(value.expect("a layer of the network"));
        }
    }

    /// The composed weights, flat, by their names in the backbone; with a graph where the factors have one.
    fn composed(&self) -> BTreeMap<String, Tensor<1>> {
        let of = |adapter: &Adapter| {
            let name = format!("{}.weight", adapter.layer);
            (name, adapter.composed(self.scale))
        };
        self.adapters.iter().map(of).collect()
    }
}

impl Adapter {
    fn composed(&self, scale: f64) -> Tensor<1> {
        let base = self.base.get::<2>();
        let mut parts = Vec::new();
        let mut row = 0;
        for Change { rows, factors, .. } in &self.changes {
            if rows.start > row {
                parts.push(base.clone().narrow(0, row, rows.start - row));
            }
            let change = ops::matmul(factors.b.get::<2>(), factors.a.get::<2>()) * scale;
            parts.push(base.clone().narrow(0, rows.start, rows.len()) + change);
            row = rows.end;
        }
        let len = self.base.len();
        Tensor::cat(parts, 0).reshape([len])
    }
}

impl Factors {
    fn new([rows, inputs]: [usize; 2], rank: usize, init: &mut Init, device: &Device) -> Self {
        let a = init.uniform_fan_in(rank * inputs, inputs);
        Self {
            a: Param::new(a, &[rank, inputs], true, device),
            b: Param::new(vec![0.0; rows * rank], &[rows, rank], true, device),
        }
    }
}

/// Rows of a weight that are changed together, with their name.
type Parts = Vec<(&'static str, Range<usize>)>;

/// The adapted layers of a transformer, by name, and which of their rows are changed together.
fn layers(vit: &Vit) -> Vec<(String, Parts)> {
    let d = vit.config().width;
    let mut all = Vec::new();
    for (i, block) in vit.blocks.iter().enumerate() {
        let qkv = vec![("queries", 0..d), ("values", 2 * d..3 * d)];
        all.push((format!("blocks.{i}.attn.qkv"), qkv));
        for (name, layer) in [("fc1", &block.mlp.fc1), ("fc2", &block.mlp.fc2)] {
            let rows = layer.weight.shape()[0];
            all.push((format!("blocks.{i}.mlp.{name}"), vec![("all", 0..rows)]));
        }
    }
    all
}

/// Whether a backbone learns a parameter of its own beside changes of others: the mask token, which
/// weights may not have.
fn learned_beside(name: &str) -> bool {
    name == "mask_token"
}

fn bad(field: &'static str, reason: impl Into<String>) -> Error {
    let reason = reason.into();
    Error::BadSetting { field, reason }
}

impl Parameters for Lora {
    fn visit(&self, prefix: &str, f: &mut dyn FnMut(&str, &Param)) {
        for adapter in &self.adapters {
            let prefix = join(prefix, &adapter.layer);
            adapter.base.visit(&join(&prefix, "base"), f);
            for change in &adapter.changes {
                change.factors.visit(&join(&prefix, change.part), f);
            }
        }
    }

    fn visit_mut(&mut self, prefix: &str, f: &mut dyn FnMut(&str, &mut Param)) {
        for adapter in &mut self.adapters {
            let prefix = join(prefix, &adapter.layer);
            adapter.base.visit_mut(&join(&prefix, "base"), f);
            for change in &mut adapter.changes {
                change.factors.visit_mut(&join(&prefix, change.part), f);
            }
        }
    }
}
