//! A network that a task has trained.

use burn::tensor::Tensor;
use dinolab_nn::AnyBackbone;
use dinolab_nn::device::to_host_f32;
use dinolab_nn::vit::Linear;

/// A trained network, which records no gradients.
pub(super) struct Fitted {
    /// The backbone.
    pub backbone: AnyBackbone,
    /// The linear head, `[head_dim]` → `[K]`.
    pub head: Linear,
    /// Mean loss over the last epoch's examples, in nats.
    pub loss: f64,
}

impl Fitted {
    /// Computes logits `[rows, K]` of the head's input `[rows, head_dim]`.
    pub fn logits(&self, input: Tensor<2>) -> Vec<f32> {
        let [rows, dim] = input.dims();
        to_host_f32(self.head.forward(input.reshape([1, rows, dim])))
    }
}
