//! Turns `proto/` into Rust without protoc: messages and services for tonic, proto3 JSON for the
//! command line, and one descriptor set for reflection.

use std::{env, fs, io, path::Path, path::PathBuf};

/// Where `.proto` files live: the public contract, and Google's error types, which only reflection needs.
const ROOTS: [&str; 2] = ["proto", "src/grpc/reflected"];

/// Well-known types come from `pbjson_types`, which adds their JSON forms.
const WELL_KNOWN: (&str, &str) = (".google.protobuf", "::pbjson_types");

/// The one that `pbjson_types` lacks: a request that has one gets no JSON form.
const FIELD_MASK: (&str, &str) = (".google.protobuf.FieldMask", "::prost_types::FieldMask");
const WITH_FIELD_MASK: [&str; 2] = [
    ".wagate.v1.UpdateInstanceRequest",
    ".wagate.v1.UpdateGroupRequest",
];

/// Messages whose maps keep an order, so that the same request always has the same bytes.
const ORDERED_MAPS: [&str; 2] = [".wagate.v1.QueueRecipient", ".wagate.v1.QueueItem"];

/// What few messages have and would make all of them twice as large in memory: moved, a message is copied.
const BOXED: &str = ".wagate.v1.Message.quoted";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=build.rs");
    let mut files = Vec::new();
    for root in ROOTS {
        // tonic-prost-build does not print this itself.
        println!("cargo:rerun-if-changed={root}");
        collect(Path::new(root), Path::new(root), &mut files)?;
    }
    files.sort();

    let mut compiler = protox::Compiler::new(ROOTS)?;
    compiler
        .include_imports(true)
        .include_source_info(true)
        .open_files(&files)?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let encoded = compiler.encode_file_descriptor_set();
    fs::write(out.join("descriptors.bin"), &encoded)?;

    // tonic-types brings the Rust types of google.rpc.
    let mut ours = compiler.file_descriptor_set();
    ours.file.retain(|file| file.package() != "google.rpc");
    let builder = tonic_prost_build::configure();
    ORDERED_MAPS
        .into_iter()
        .fold(builder, tonic_prost_build::Builder::btree_map)
        .extern_path(FIELD_MASK.0, FIELD_MASK.1)
        .extern_path(WELL_KNOWN.0, WELL_KNOWN.1)
        .compile_well_known_types(true)
        .bytes(".wagate")
        .boxed(BOXED)
        .compile_fds(ours)?;

    pbjson_build::Builder::new()
        .register_descriptors(&encoded)?
        .extern_path(WELL_KNOWN.0, WELL_KNOWN.1)
        .exclude(WITH_FIELD_MASK)
        .btree_map(ORDERED_MAPS)
        .ignore_unknown_fields()
        .build(&[".wagate"])?;
    Ok(())
}

fn collect(root: &Path, folder: &Path, into: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(root, &path, into)?;
        } else if path
            .extension()
            .is_some_and(|extension| extension == "proto")
        {
            into.push(path.strip_prefix(root).expect("found below it").to_owned());
        }
    }
    Ok(())
}
