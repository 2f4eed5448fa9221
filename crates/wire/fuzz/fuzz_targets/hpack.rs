//! libFuzzer's way into [`wire_fuzz::hpack`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| wire_fuzz::hpack::run(data));
