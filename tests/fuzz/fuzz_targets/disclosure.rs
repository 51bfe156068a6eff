//! `make fuzz TARGET=disclosure`; what it feeds is in the library.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| muster_fuzz::disclosure(data));
