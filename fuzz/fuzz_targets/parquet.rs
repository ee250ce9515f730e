//! `cargo +nightly fuzz run parquet --no-default-features --features libfuzzer,parquet`, from the
//! root of the repository.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| dinolab_fuzz::images::parquet(data));
