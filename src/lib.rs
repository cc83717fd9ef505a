//! wagate: a WhatsApp gateway that speaks gRPC.

pub mod app;
pub mod auth;
pub mod cli;
pub mod config;
pub mod crash_points;
pub mod domain;
pub mod egress;
pub mod events;
pub mod grpc;
pub mod lifecycle;
pub mod media;
pub mod preview;
mod private_files;
pub mod proto;
pub mod sandbox;
pub mod storage;
pub mod telemetry;
pub mod wa;
