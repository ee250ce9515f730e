//! `cargo +nightly fuzz run jpeg --no-default-features --features libfuzzer,images`, from the root
//! of the repository.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| dinolab_fuzz::images::jpeg(data));
