//! Stories: a real gateway on a real network, told over gRPC.

mod support;

mod command_line;
mod conversation;
mod ending;
mod errors;
mod foreign;
mod pairing;
mod subscribe;
