//! Compiles the contract with protox: no protoc is needed. Keeps the descriptor set, comments included, for reflection
//! and for the canonical JSON of webhooks.

use std::{env, fs, path::PathBuf};

#[expect(clippy::disallowed_methods, reason = "cargo's own variable")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto/countersign");
    let mut files: Vec<PathBuf> =
        fs::read_dir("proto/countersign/v1")?.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?;
    files.sort();

    let mut compiler = protox::Compiler::new(["proto"])?;
    compiler.include_imports(true).include_source_info(true);
    compiler.open_files(&files)?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("descriptor.bin"), compiler.encode_file_descriptor_set())?;

    let mut config = tonic_prost_build::Config::new();
    config.bytes([".countersign.v1"]);
    // In order, so that the same message is always the same bytes.
    config.btree_map([".countersign.v1"]);
    tonic_prost_build::configure().compile_fds_with_config(compiler.file_descriptor_set(), config)?;
    Ok(())
}
