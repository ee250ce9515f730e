//! Devices by name, and tensors from a device to the host.

#[cfg(feature = "vulkan")]
use std::sync::LazyLock;

#[cfg(feature = "vulkan")]
use burn::backend::{CubeDevice, WgpuBackend, WgpuDevice, WgpuDeviceKind};
#[cfg(any(feature = "cuda", feature = "rocm", feature = "metal"))]
use burn::tensor::DeviceType;
use burn::tensor::{Device, Tensor};

use crate::{Error, Result};

/// All names of devices, for messages.
const NAMES: &str = "cpu, cuda:N, metal, vulkan[:N|:integrated|:virtual|:cpu], rocm:N";

/// Returns the device called `name`:
///
/// | name | is |
/// |---|---|
/// | `cpu` | the processor |
/// | `cuda`, `cuda:N` | NVIDIA GPU number N, from 0 |
/// | `rocm`, `rocm:N` | AMD GPU number N, from 0 |
/// | `metal` | the GPU of a Mac |
/// | `vulkan` | the first adapter found, in the order discrete, integrated, virtual, software |
/// | `vulkan:N` | discrete GPU number N, from 0 |
/// | `vulkan:integrated`, `vulkan:virtual` | the first GPU of that kind |
/// | `vulkan:cpu` | a driver that computes on the processor, such as Mesa's lavapipe |
///
/// All but `cpu` need the build feature of that name. The device is not initialised yet.
///
/// # Errors
/// [`Error::Device`] if the name is unknown, the feature is not part of this build, or the machine has
/// no such device.
pub fn by_name(name: &str) -> Result<Device> {
    let (kind, which) = match name.split_once(':') {
        Some((kind, which)) => (kind, Some(which)),
        None => (name, None),
    };
    let refuse = |reason: String| {
        let name = name.into();
        Err(Error::Device { name, reason })
    };
    let built: &[&str] = &[
        #[cfg(feature = "cuda")]
        "cuda",
        #[cfg(feature = "metal")]
        "metal",
        #[cfg(feature = "rocm")]
        "rocm",
        #[cfg(feature = "vulkan")]
        "vulkan",
    ];
    let is_gpu = ["cuda", "metal", "rocm", "vulkan"].contains(&kind);
    if is_gpu && !built.contains(&kind) {
        return refuse(format!(
            "this program was built without it; it takes a build with the feature {kind}"
        ));
    }
    match (kind, which) {
        ("cpu", None) => Ok(Device::flex()),
        #[cfg(feature = "cuda")]
        ("cuda", which) => numbered(name, which, &Device::enumerate(DeviceType::Cuda)),
        #[cfg(feature = "rocm")]
        ("rocm", which) => numbered(name, which, &Device::enumerate(DeviceType::Rocm)),
        #[cfg(feature = "vulkan")]
        ("vulkan", which) => vulkan(name, which),
        #[cfg(feature = "metal")]
        ("metal", None) => numbered(name, None, &Device::enumerate(DeviceType::Metal)),
        _ => refuse(format!("unknown; one of {NAMES}")),
    }
}

/// Copies the values of a tensor to the host, row-major and as `f32` whatever their type was.
pub fn to_host_f32<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor
        .into_data()
        .convert::<f32>()
        .try_to_vec()
        .expect("converted to f32")
}

/// Returns number `which` of the devices found, or the first.
#[cfg(any(feature = "cuda", feature = "rocm", feature = "metal"))]
fn numbered(name: &str, which: Option<&str>, found: &[Device]) -> Result<Device> {
    let refuse = |reason| {
        let name = name.into();
        Err(Error::Device { name, reason })
    };
    let Ok(index) = which.map_or(Ok(0), str::parse::<usize>) else {
        return refuse("the part after the colon is not a number".to_owned());
    };
    match (found.get(index), found.len()) {
        (Some(device), _) => Ok(device.clone()),
        (None, 0) => refuse("the driver finds no such device on this machine".into()),
        (None, count) => refuse(format!("there are only {count}, counted from 0")),
    }
}

/// Returns the adapters of all Vulkan drivers, the best kind first.
///
/// They are listed before one is opened, because opening a missing one panics.
#[cfg(feature = "vulkan")]
static ADAPTERS: LazyLock<Vec<Device>> = LazyLock::new(|| {
    use WgpuDeviceKind as Kind;
    [
        Kind::DiscreteGpu(0),
        Kind::IntegratedGpu(0),
        Kind::VirtualGpu(0),
        Kind::Other(0),
        Kind::Cpu,
    ]
    .into_iter()
    .flat_map(|kind| CubeDevice::enumerate(adapter(kind).to_id()))
    .map(|id| Device::new(CubeDevice::from_id(id)))
    .collect()
});

#[cfg(feature = "vulkan")]
fn adapter(kind: WgpuDeviceKind) -> CubeDevice {
    CubeDevice::Wgpu(WgpuDevice::new(kind).on(WgpuBackend::Vulkan))
}

#[cfg(feature = "vulkan")]
fn vulkan(name: &str, which: Option<&str>) -> Result<Device> {
    let refuse = |reason| {
        let name = name.into();
        Err(Error::Device { name, reason })
    };
    let kind = match which {
        None => match ADAPTERS.first() {
            Some(device) => return Ok(device.clone()),
            None => return refuse("no driver offers an adapter on this machine".to_owned()),
        },
        Some("integrated") => WgpuDeviceKind::IntegratedGpu(0),
        Some("virtual") => WgpuDeviceKind::VirtualGpu(0),
        Some("cpu") => WgpuDeviceKind::Cpu,
        Some(index) => match index.parse() {
            Ok(index) => WgpuDeviceKind::DiscreteGpu(index),
            Err(_) => {
                return refuse(
                    "the part after the colon must be a number, integrated, virtual or cpu".into(),
                );
            }
        },
    };
    let device = Device::new(adapter(kind));
    if ADAPTERS.contains(&device) {
        Ok(device)
    } else {
        refuse(format!(
            "no driver offers an adapter of this kind and number; {} of any kind",
            ADAPTERS.len()
        ))
    }
}
