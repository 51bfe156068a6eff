//! Compiles the .proto files in Rust (protox), so that a build needs no protoc.

use std::{env, fs, path::PathBuf};

use prost::Message as _;

/// Messages with a secret in them, or with a document that has some.
const SECRETIVE: [&str; 6] =
    ["Login", "Desired", "Disclosure", "CreateTokenResponse", "CreateUserResponse", "GetCredentialsResponse"];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files =
        ["types", "trash", "tasks", "agent_link", "enrolment", "trust", "hosts", "operations", "rebuild", "admin"]
            .map(|name| format!("muster/v1/{name}.proto"));
    for file in &files {
        println!("cargo:rerun-if-changed={file}");
    }
    let descriptors = protox::compile(&files, ["."])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("muster.binpb"), descriptors.encode_to_vec())?;
    // What holds a secret is never printed; `secret.rs` has the other half.
    let secretive = SECRETIVE.map(|message| format!("muster.v1.{message}"));
    tonic_prost_build::configure().skip_debug(secretive).compile_fds(descriptors)?;
    Ok(())
}
