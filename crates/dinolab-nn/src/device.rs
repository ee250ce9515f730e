//! Devices by name.

use burn::tensor::Device;

use crate::{Error, Result};

/// The device called `name`: `cpu`, or, where the program was built with the feature of
/// that name, `cuda`, `metal`, `vulkan` or `rocm`, with an index after a colon (`cuda:1`).
///
/// # Errors
/// [`Error::Device`] where the name is unknown or the feature is not part of this build.
pub fn by_name(name: &str) -> Result<Device> {
    let (kind, index) = match name.split_once(':') {
        Some((kind, index)) => {
            let index = index.parse::<usize>().map_err(|_| Error::Device {
                name: name.into(),
                reason: "the part after the colon is not a number".into(),
            })?;
            (kind, index)
        }
        None => (name, 0),
    };
    match (kind, index) {
        ("cpu", 0) => Ok(Device::flex()),
        #[cfg(feature = "cuda")]
        ("cuda", _) => Ok(Device::cuda(index)),
        #[cfg(feature = "rocm")]
        ("rocm", _) => Ok(Device::rocm(index)),
        #[cfg(feature = "vulkan")]
        ("vulkan", _) => Ok(Device::vulkan(burn::tensor::DeviceKind::DiscreteGpu(index))),
        #[cfg(feature = "metal")]
        ("metal", _) => Ok(Device::metal(burn::tensor::DeviceKind::DefaultDevice)),
        ("cuda" | "metal" | "vulkan" | "rocm", _) => Err(Error::Device {
            name: name.into(),
            reason: format!("this program was built without it; build with --features {kind}"),
        }),
        _ => Err(Error::Device {
            name: name.into(),
            reason: "unknown; one of cpu, cuda:N, metal, vulkan:N, rocm:N".into(),
        }),
    }
}
