#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| konnector_tests::fuzz::path(data));
