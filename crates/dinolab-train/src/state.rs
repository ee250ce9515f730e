//! A method's state as named tensors.

use std::collections::BTreeMap;
use std::path::PathBuf;

use burn::tensor::{Device, Tensor, TensorData};
use dinolab_nn::Parameters;
use dinolab_nn::optim::{Optimiser, ParamState};
use dinolab_nn::weights::{Array, LoadOptions, Weights, arrays, load};

use crate::{Error, Result};

/// Everything that training changes in a method: tensors by name, and how many steps the optimiser
/// has taken with each parameter.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct State {
    /// The file it was read from, for messages.
    pub path: PathBuf,
    /// Tensors by name.
    pub tensors: BTreeMap<String, Array>,
    /// The optimiser's steps by parameter; absent for one that has taken none.
    pub steps: BTreeMap<String, u64>,
}

impl State {
    /// Adds all parameters of a network, called `prefix.…`.
    pub fn put_network(&mut self, prefix: &str, network: &(impl Parameters + ?Sized)) {
        self.tensors.append(&mut arrays(network, prefix));
    }

    /// Adds a vector.
    pub fn put_vector(&mut self, name: &str, vector: &Tensor<1>) {
        let data = vector.to_data().convert::<f32>();
        let data: Vec<f32> = data.try_to_vec().expect("converted to f32");
        let shape = vec![data.len()];
        self.tensors.insert(name.to_owned(), Array { shape, data });
    }

    /// Adds the optimiser of the learned network `network`: `optimiser.<slot>.<parameter>`.
    pub fn put_optimiser(&mut self, network: &(impl Parameters + ?Sized), optimiser: &Optimiser) {
        for ((name, _), state) in shapes(network).iter().zip(optimiser.states()) {
            let Some(state) = state else { continue };
            self.steps.insert(name.clone(), state.steps);
            for (slot, tensor) in state.slots.iter().enumerate() {
                self.put_vector(&format!("optimiser.{slot}.{name}"), tensor);
            }
        }
    }

    /// Loads the parameters called `prefix.…` into a network.
    ///
    /// # Errors
    /// [`Error::Model`] if they are of another network.
    pub fn load_network(
        &self,
        prefix: &str,
        network: &mut (impl Parameters + ?Sized),
    ) -> Result<()> {
        let own = |name: &String| Some(name.strip_prefix(prefix)?.strip_prefix('.')?.to_owned());
        let weights = Weights {
            path: self.path.clone(),
            arrays: self
                .tensors
                .iter()
                .filter_map(|(name, array)| Some((own(name)?, array.clone())))
                .collect(),
            ..Weights::default()
        };
        load(network, "", &weights, LoadOptions::default())?;
        Ok(())
    }

    /// A vector of `len` values, on `device`.
    ///
    /// # Errors
    /// [`Error::BadCheckpoint`] if it is not there.
    pub fn vector(&self, name: &str, len: usize, device: &Device) -> Result<Tensor<1>> {
        let array = self
            .tensors
            .get(name)
            .filter(|array| array.data.len() == len);
        let array = array.ok_or_else(|| Error::BadCheckpoint {
            path: self.path.clone(),
            reason: format!("has no {name} of {len} values"),
        })?;
        let data = TensorData::new(array.data.clone(), [len]);
        Ok(Tensor::from_data(data, device))
    }

    /// Restores the optimiser of the learned network `network`.
    ///
    /// # Errors
    /// [`Error::BadCheckpoint`] if a tensor is not there.
    pub fn load_optimiser(
        &self,
        network: &(impl Parameters + ?Sized),
        optimiser: &mut Optimiser,
        device: &Device,
    ) -> Result<()> {
        let mut states = Vec::new();
        for (name, shape) in shapes(network) {
            let slots = optimiser.kind().slots(&name, &shape);
            let len = shape.iter().product();
            states.push(match self.steps.get(&name) {
                None => None,
                Some(&steps) => Some(ParamState {
                    steps,
                    slots: (0..slots)
                        .map(|slot| self.vector(&format!("optimiser.{slot}.{name}"), len, device))
                        .collect::<Result<_>>()?,
                }),
            });
        }
        optimiser.set_states(states);
        Ok(())
    }

    /// The first tensor with a value that is not finite.
    pub fn not_finite(&self) -> Option<&String> {
        let finite = |array: &Array| array.data.iter().all(|value| value.is_finite());
        self.tensors
            .iter()
            .find(|(_, array)| !finite(array))
            .map(|(name, _)| name)
    }
}

/// Names and shapes of a network's parameters, in its order.
fn shapes(network: &(impl Parameters + ?Sized)) -> Vec<(String, Vec<usize>)> {
    let mut all = Vec::new();
    network.visit("", &mut |name, param| {
        all.push((name.to_owned(), param.shape().to_vec()))
    });
    all
}

/// Plain data as metadata has it.
pub(crate) fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).expect("plain data")
}
