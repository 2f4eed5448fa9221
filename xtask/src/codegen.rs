//! From crates/proto/proto to crates/proto/src/generated, with nothing to install.
//!
//! ```text
//! *.proto ── protox ──► descriptors ─┬─ prost-build ──► package.rs        structs, binary form
//!                                    └─ pbjson-build ─► package.json.rs   their JSON form
//! ```
//!
//! # Not here
//!
//! Services: the server routes by `proto::method`, and needs no code of its own per method.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{fs, io};

use anyhow::{Context, bail};
use prost_types::FileDescriptorSet;

mod json;

/// The packages the JSON gateway speaks.
const JSON_PACKAGES: &[&str] =
    &[".etcdserverpb", ".mvccpb", ".authpb", ".v3lockpb", ".v3electionpb"];

/// Of those, what is said among members and never to a client.
const NOT_JSON: &[&str] = &[
    ".etcdserverpb.EmptyResponse",
    ".etcdserverpb.InternalAuthenticateRequest",
    ".etcdserverpb.InternalRaftRequest",
    ".etcdserverpb.Metadata",
    ".etcdserverpb.Request",
    ".etcdserverpb.RequestHeader",
];

/// Packages that are not ours, or hold nothing but extensions.
const SKIPPED_PACKAGES: &[&str] = &["google.protobuf", "versionpb"];

/// What snake case makes of `peerURLs` and `clientURLs`, and what anyone would write.
const FIELD_NAMES: &[(&str, &str)] =
    &[("peer_ur_ls", "peer_urls"), ("client_ur_ls", "client_urls")];

const MARK: &str = "// Written by `cargo xtask codegen`; change the .proto files instead.\n\n";

/// A generated file's name, and what belongs in it.
type Files = BTreeMap<String, String>;

#[expect(clippy::print_stderr, reason = "a chore talks to whoever started it")]
pub(crate) fn run(arguments: &[String]) -> anyhow::Result<ExitCode> {
    let check = match arguments {
        [] => false,
        [flag] if flag == "--check" => true,
        _ => bail!("the only flag is --check"),
    };
    let crate_folder = crate::root().join("crates/proto");
    let expected = generate(&crate_folder.join("proto"))?;
    let folder = crate_folder.join("src/generated");
    let stale = stale(&folder, &expected)?;
    if !check {
        for name in &stale {
            write(&folder.join(name), expected.get(name).map(String::as_str))?;
        }
    }
    let verb = if check { "stale:" } else { "wrote" };
    for name in &stale {
        eprintln!("{verb} {}", folder.join(name).display());
    }
    Ok(if check && !stale.is_empty() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn generate(proto_folder: &Path) -> anyhow::Result<Files> {
    let mut sources = Vec::new();
    collect(proto_folder, &mut sources).context("reading the .proto files")?;
    sources.sort();
    let mut descriptors = protox::compile(sources, [proto_folder])?;
    descriptors.file.retain(|file| !SKIPPED_PACKAGES.contains(&file.package()));

    let mut files = messages(&descriptors)?;
    files.append(&mut json(&descriptors)?);
    for text in files.values_mut() {
        for (odd, plain) in FIELD_NAMES {
            *text = text.replace(odd, plain);
        }
        text.insert_str(0, MARK);
    }
    Ok(files)
}

fn messages(descriptors: &FileDescriptorSet) -> anyhow::Result<Files> {
    let mut config = prost_build::Config::new();
    config.bytes(["."]);
    let requests = descriptors.file.iter().cloned();
    let requests = requests
        .map(|file| (prost_build::Module::from_protobuf_package_name(file.package()), file));
    let modules = config.generate(requests.collect())?;
    Ok(modules.into_iter().map(|(m, text)| (m.to_file_name_or(""), text)).collect())
}

fn json(descriptors: &FileDescriptorSet) -> anyhow::Result<Files> {
    let mut builder = pbjson_build::Builder::new();
    builder.preserve_proto_field_names().ignore_unknown_fields().exclude(NOT_JSON.iter().copied());
    for file in &descriptors.file {
        builder.register_file_descriptor(file.clone());
    }
    let written = builder.generate(JSON_PACKAGES, |_| Ok(Vec::new()))?;
    let mut files = Files::new();
    for (package, text) in written {
        files.insert(format!("{package}.json.rs"), json::as_protojson(&String::from_utf8(text)?));
    }
    Ok(files)
}

fn collect(folder: &Path, sources: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, sources)?;
        } else if path.extension().is_some_and(|e| e == "proto") {
            sources.push(path);
        }
    }
    Ok(())
}

/// The files that differ from what is expected, and those that nothing writes any more.
fn stale(folder: &Path, expected: &Files) -> anyhow::Result<Vec<String>> {
    fs::create_dir_all(folder)?;
    let mut stale = Vec::new();
    for (name, text) in expected {
        if fs::read_to_string(folder.join(name)).ok().as_ref() != Some(text) {
            stale.push(name.clone());
        }
    }
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if !expected.contains_key(&name) {
            stale.push(name);
        }
    }
    Ok(stale)
}

fn write(path: &Path, text: Option<&str>) -> anyhow::Result<()> {
    let done = match text {
        Some(text) => fs::write(path, text),
        None => fs::remove_file(path),
    };
    done.with_context(|| path.display().to_string())
}
