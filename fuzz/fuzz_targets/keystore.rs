//! See `alys_fuzz_targets::decoders::keystore`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| alys_fuzz_targets::decoders::keystore::run(data));
