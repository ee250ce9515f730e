//! What the tests share.

pub mod files;
pub mod fixtures;
pub mod onnx_runtime;

use dinolab_nn::Device;

/// The device that the tests run on: `DINOLAB_TEST_DEVICE`, or the CPU.
pub fn device() -> Device {
    let name = std::env::var("DINOLAB_TEST_DEVICE").unwrap_or_else(|_| "cpu".into());
    dinolab_nn::device::by_name(&name).expect("DINOLAB_TEST_DEVICE names a device")
}
