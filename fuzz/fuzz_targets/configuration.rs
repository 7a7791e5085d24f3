//! See `alys_fuzz_targets::decoders::configuration`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| alys_fuzz_targets::decoders::configuration::run(data));
