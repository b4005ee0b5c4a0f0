#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pgate::proxy::session::play::run(data));
