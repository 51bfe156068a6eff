//! `make fuzz TARGET=coordinator_config`; what it feeds is in the library.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| muster_fuzz::coordinator_config(data));
