//! How a run diverges.

/// How a run diverged.
#[derive(Clone, Debug, PartialEq)]
pub enum Divergence {
    /// The loss is not finite.
    Loss(f64),
    /// The norm of a gradient is not finite; the parameter's full name.
    Gradient(String),
    /// A value to be saved is not finite; the tensor's name in the checkpoint.
    Weights(String),
}

impl std::fmt::Display for Divergence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Loss(loss) => write!(f, "the loss is {loss}"),
            Self::Gradient(name) => write!(f, "the gradient of {name} is not finite"),
            Self::Weights(name) => write!(f, "{name} holds values that are not finite"),
        }
    }
}
