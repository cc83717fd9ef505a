//! Stories: a real gateway on a real network, told over gRPC.

mod support;

mod command_line;
mod conversation;
mod errors;
mod hostile;
mod hostile_callers;
mod pairing;
mod subscribe;
