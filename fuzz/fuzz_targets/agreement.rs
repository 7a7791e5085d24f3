//! See `alys_fuzz_targets::agreement`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| alys_fuzz_targets::agreement::run(data));
