//! What the tests share.

pub mod golden;
pub mod joint_embedding;
pub mod threads;

use dinolab_nn::Device;

/// The device that the tests run on: `DINOLAB_TEST_DEVICE`, or the CPU.
pub fn device() -> Device {
    let name = std::env::var("DINOLAB_TEST_DEVICE").unwrap_or_else(|_| "cpu".into());
    dinolab_nn::device::by_name(&name).expect("DINOLAB_TEST_DEVICE names a device")
}
