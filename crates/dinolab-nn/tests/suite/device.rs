//! Devices by name: what there is not is one error.

use dinolab_nn::device::by_name;

fn refusal(name: &str) -> String {
    let error = by_name(name).map(|_| ()).unwrap_err().to_string();
    assert!(error.starts_with(&format!("device {name}: ")), "{error}");
    error
}

#[test]
fn unknown_names_list_the_known_ones() {
    assert!(by_name("cpu").is_ok());
    for name in ["", "gpu", "cpu:0", "CUDA", "tpu:1", "metal:1:2"] {
        let error = refusal(name);
        assert!(
            error.contains("vulkan") || error.contains("the feature"),
            "{error}"
        );
    }
}

#[test]
fn absent_devices_are_refused_before_they_are_opened() {
    for (name, built) in [
        ("cuda", cfg!(feature = "cuda")),
        ("rocm", cfg!(feature = "rocm")),
        ("metal", cfg!(feature = "metal")),
        ("vulkan", cfg!(feature = "vulkan")),
    ] {
        if !built {
            let error = refusal(name);
            assert!(error.contains(&format!("the feature {name}")), "{error}");
        } else if name != "metal" {
            refusal(&format!("{name}:999"));
            assert!(refusal(&format!("{name}:first")).contains("number"));
        }
    }
}
