//! The Rust face of `proto/`: generated at build time, nothing here is written by hand.

/// `wagate.v1`: the public contract.
pub mod v1 {
    #![allow(missing_docs, clippy::all, rust_2018_idioms)]
    tonic::include_proto!("wagate.v1");
    include!(concat!(env!("OUT_DIR"), "/wagate.v1.serde.rs"));
}

/// `wagate.sandbox.v1`: control of the loopback network.
pub mod sandbox_v1 {
    #![allow(missing_docs, clippy::all, rust_2018_idioms)]
    tonic::include_proto!("wagate.sandbox.v1");
    include!(concat!(env!("OUT_DIR"), "/wagate.sandbox.v1.serde.rs"));
}

/// Every file of the contract with its comments, and the google.rpc error types, for reflection.
pub const DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
