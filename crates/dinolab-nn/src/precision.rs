//! What is computed in how many bits.

use burn::tensor::{Device, FloatDType, Tensor};

use crate::{Error, Result};

/// The numbers that activations and matrix products are computed in.
///
/// A network carries it ([`Parameters::set_precision`](crate::Parameters::set_precision)). It
/// decides what the *matrices* of the linear maps are presented in, and the rest follows, as in
/// PyTorch's automatic mixed precision:
///
/// | in `bf16` | always in `f32` |
/// |---|---|
/// | operands and results of linear maps | parameters, their gradients, optimiser, teacher |
/// | queries, keys, values, their products | softmax, layer and batch normalisation, GELU inside |
/// | hidden activations of MLP and head | the sum of the residual branches; features |
/// | | bottleneck, prototypes, logits, loss, centre |
///
/// Products in `bf16` are summed in `f32` by the hardware. Logits stay in `f32`, since they are
/// divided by temperatures as small as 0.02, which would magnify a rounding to eight bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// Single precision throughout: 24 bits, never fewer.
    #[default]
    F32,
    /// Brain floating point: the range of `f32` with 8 bits of precision.
    Bf16,
}

impl Precision {
    /// The type of a number.
    pub fn dtype(self) -> FloatDType {
        match self {
            Self::F32 => FloatDType::F32,
            Self::Bf16 => FloatDType::BF16,
        }
    }

    /// Whether `device` can store, convert and compute in it.
    ///
    /// # Errors
    /// [`Error::BadSetting`] where it can not.
    pub fn check(self, device: &Device) -> Result<()> {
        if device.supports_dtype(self.dtype()) {
            return Ok(());
        }
        Err(Error::BadSetting {
            field: "precision",
            reason: format!("this device does not compute in {self}; use f32"),
        })
    }
}

impl std::fmt::Display for Precision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
        })
    }
}

impl std::str::FromStr for Precision {
    type Err = String;
    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text {
            "f32" => Ok(Self::F32),
            "bf16" => Ok(Self::Bf16),
            _ => Err("one of f32, bf16".into()),
        }
    }
}

/// The same numbers in `f32`.
pub(crate) fn single<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    x.cast(FloatDType::F32)
}

/// The same numbers as `other` has them.
pub(crate) fn as_of<const D: usize, const E: usize>(x: Tensor<D>, other: &Tensor<E>) -> Tensor<D> {
    x.cast(FloatDType::from(other.dtype()))
}
