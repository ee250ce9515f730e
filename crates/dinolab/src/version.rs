//! What `--version` prints: what a report of a fault should say.

use std::env::consts::{ARCH, OS};

/// Those of these cargo features that are compiled in, each after a comma.
macro_rules! compiled {
    ($($feature:literal)*) => {
        [$(if cfg!(feature = $feature) { concat!(", ", $feature) } else { "" }),*].concat()
    };
}

/// Version, devices and features compiled in, and the processor's instructions in use.
pub fn long() -> String {
    let devices = compiled!("cuda" "cuda-cpp" "fusion" "metal" "rocm" "vulkan");
    let features = compiled!("https" "mpi" "nccl" "parquet" "remote" "view");
    let instructions = dinolab_kernels::instructions();
    let built = format!("devices:  cpu{devices}\nfeatures: standard{features}");
    let version = env!("CARGO_PKG_VERSION");
    format!("{version}\n{built}\nsystem:   {OS} {ARCH}, {instructions}")
}
