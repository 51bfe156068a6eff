//! Where the built binaries are: in the same target directory, and of the same profile, as the program that asks.

use std::{env, path::PathBuf};

/// The path of `muster`, `muster-agent` or `muster-coordinator`.
///
/// # Panics
/// When it was not built; the message says how to.
pub fn path(name: &str) -> PathBuf {
    let ours = env::current_exe().expect("a running program has a path");
    let beside = ours.parent().expect("a program is in a directory");
    // Tests are in target/PROFILE/deps, benches and other binaries in target/PROFILE.
    let directory = if beside.ends_with("deps") { beside.parent().expect("deps is in a directory") } else { beside };
    let binary = directory.join(name);
    let profile = if directory.ends_with("release") { " --release" } else { "" };
    assert!(binary.exists(), "{} is not there; build it: cargo build --workspace{profile}", binary.display());
    binary
}
