//! Generates `proto/src/generated` from the `.proto` files, without protoc.
//!
//! Run by hand after a `.proto` file changed: `cargo run -p keystead-codegen`. With `--check` nothing is written and the
//! command fails when the checked-in files are not what the `.proto` files give. It never runs as part of a build.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use prost_types::{DescriptorProto, FileDescriptorSet};

const SOURCES: [&str; 8] = [
    "etcd/auth.proto",
    "etcd/election.proto",
    "etcd/health.proto",
    "etcd/kv.proto",
    "etcd/lock.proto",
    "etcd/rpc.proto",
    "internal/command.proto",
    "internal/peer.proto",
];

fn main() -> Result<()> {
    let proto = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let checked_in = proto.join("src/generated");
    let fresh = generate(&proto)?;
    match std::env::args().nth(1).as_deref() {
        None => write(&checked_in, &fresh),
        Some("--check") => check(&checked_in, &fresh),
        Some(other) => bail!("unknown argument {other}; the only one is --check"),
    }
}

/// File name -> content of everything that the `.proto` files give.
fn generate(proto: &Path) -> Result<BTreeMap<String, String>> {
    let mut descriptors = protox::compile(SOURCES, [proto])?;
    name_for_rust(&mut descriptors);
    let out = tempfile::tempdir()?;
    tonic_prost_build::configure()
        .bytes(".")
        .build_transport(false)
        .out_dir(out.path())
        .compile_fds(descriptors)?;
    read(out.path())
}

/// The names of fields are not on the wire. etcd's `peerURLs` would become `peer_ur_ls` in Rust.
fn name_for_rust(descriptors: &mut FileDescriptorSet) {
    fn rename(message: &mut DescriptorProto) {
        for field in &mut message.field {
            if let Some(name) = &mut field.name {
                *name = name.replace("URLs", "_urls");
            }
        }
        message.nested_type.iter_mut().for_each(rename);
    }
    for file in &mut descriptors.file {
        file.message_type.iter_mut().for_each(rename);
    }
}

fn read(dir: &Path) -> Result<BTreeMap<String, String>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(dir).with_context(|| format!("list {}", dir.display()))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        files.insert(name, fs::read_to_string(entry.path())?);
    }
    Ok(files)
}

fn write(checked_in: &Path, fresh: &BTreeMap<String, String>) -> Result<()> {
    fs::create_dir_all(checked_in)?;
    for stale in read(checked_in)?
        .keys()
        .filter(|name| !fresh.contains_key(*name))
    {
        fs::remove_file(checked_in.join(stale))?;
    }
    for (name, content) in fresh {
        fs::write(checked_in.join(name), content)?;
    }
    Ok(())
}

fn check(checked_in: &Path, fresh: &BTreeMap<String, String>) -> Result<()> {
    if read(checked_in)? == *fresh {
        return Ok(());
    }
    bail!(
        "proto/src/generated is stale: run `cargo run -p keystead-codegen` and check the result in"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checked_in_files_are_what_the_proto_files_give() -> Result<()> {
        let proto = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        check(&proto.join("src/generated"), &generate(&proto)?)
    }

    #[test]
    fn a_changed_or_left_over_file_is_stale() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let fresh = BTreeMap::from([("a.rs".to_owned(), "mod a;".to_owned())]);
        write(dir.path(), &fresh)?;
        check(dir.path(), &fresh)?;
        fs::write(dir.path().join("b.rs"), "")?;
        assert!(check(dir.path(), &fresh).is_err());
        write(dir.path(), &fresh)?;
        check(dir.path(), &fresh)
    }
}
