//! What `--version` prints: what a report of a fault should say.

/// Version, compiled features, devices and the processor's instructions in use.
pub fn long() -> String {
    let compiled = |parts: &[(&'static str, bool)]| {
        let parts: Vec<_> = parts
            .iter()
            .filter(|part| part.1)
            .map(|part| part.0)
            .collect();
        parts.join(", ")
    };
    let features = compiled(&[
        (
            "no optional features",
            cfg!(not(any(
                feature = "fusion",
                feature = "https",
                feature = "mpi",
                feature = "parquet",
                feature = "remote"
            ))),
        ),
        ("fusion", cfg!(feature = "fusion")),
        ("https", cfg!(feature = "https")),
        ("mpi", cfg!(feature = "mpi")),
        ("parquet", cfg!(feature = "parquet")),
        ("remote", cfg!(feature = "remote")),
    ]);
    let devices = compiled(&[
        ("cpu", true),
        ("cuda", cfg!(feature = "cuda")),
        ("cuda (C++)", cfg!(feature = "cuda-cpp")),
        ("metal", cfg!(feature = "metal")),
        ("rocm", cfg!(feature = "rocm")),
        ("vulkan", cfg!(feature = "vulkan")),
    ]);
    let (version, arch, os) = (
        env!("CARGO_PKG_VERSION"),
        std::env::consts::ARCH,
        std::env::consts::OS,
    );
    let instructions = dinolab_kernels::instructions();
    format!(
        "{version}\nfeatures:  {features}\ndevices:   {devices}\nprocessor: {arch}, {instructions}\nsystem:    {os}"
    )
}
