//! Linker arguments that extension modules need on macOS; none elsewhere.

fn main() {
    pyo3_build_config::add_extension_module_link_args();
}
