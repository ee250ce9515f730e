//! The precision of activations and matrix multiplications.

use burn::tensor::{Device, FloatDType, Tensor};

use crate::{Error, Result};

/// The type in which activations and matrix multiplications are computed.
///
/// It is a property of a network ([`Parameters::set_precision`](crate::Parameters::set_precision)) and
/// determines the type of the *weights* of linear layers; the rest follows, as in PyTorch's automatic
/// mixed precision:
///
/// | in `bf16` | always in `f32` |
/// |---|---|
/// | operands and results of linear layers | parameters, their gradients, optimiser, teacher |
/// | queries, keys, values, their products | softmax, layer and batch normalisation, the inside of GELU |
/// | hidden activations of MLP and head | the sum of the residual branches; features |
/// | | bottleneck, prototypes, logits, loss, centre |
///
/// Products in `bf16` are summed in `f32` by the hardware. Logits stay in `f32` because they are divided
/// by temperatures as low as 0.02, which would magnify a rounding to 8 bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// Single precision throughout (24 bits, never TF32).
    #[default]
    F32,
    /// bfloat16: the exponent range of `f32` with 8 bits of precision.
    Bf16,
}

impl Precision {
    /// Returns the element type.
    pub fn dtype(self) -> FloatDType {
        match self {
            Self::F32 => FloatDType::F32,
            Self::Bf16 => FloatDType::BF16,
        }
    }

    /// Checks that `device` can store, convert and compute in it.
    ///
    /// # Errors
    /// [`Error::BadSetting`] if it cannot.
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

/// Converts a tensor to `f32`.
pub(crate) fn single<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    x.cast(FloatDType::F32)
}

/// Converts a tensor to the type of `other`.
pub(crate) fn as_of<const D: usize, const E: usize>(x: Tensor<D>, other: &Tensor<E>) -> Tensor<D> {
    x.cast(FloatDType::from(other.dtype()))
}
