//! `cargo +nightly fuzz run weights --features libfuzzer`, from the root of the repository.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| dinolab_fuzz::weights::read_and_load(data));
