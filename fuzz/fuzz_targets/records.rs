//! See `alys_fuzz_targets::decoders::records`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| alys_fuzz_targets::decoders::records::run(data));
