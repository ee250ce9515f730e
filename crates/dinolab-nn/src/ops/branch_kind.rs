//! The residual branches that there are.

/// What a branch does between its two linear layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Branch {
    /// Self-attention with this many heads; the first layer gives queries, keys and values.
    Attention(usize),
    /// The same, with only class tokens as result: the last block needs no others.
    ClassAttention(usize),
    /// The exact GELU.
    Mlp,
    /// SwiGLU: `silu(a) · b` of the two halves of the first layer's outputs.
    GatedMlp,
}
