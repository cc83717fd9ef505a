//! Stories: a real gateway on a real network, told over gRPC.

mod support;

mod command_line;
mod conversation;
mod damage;
mod disk;
mod ending;
mod errors;
mod guards;
mod pairing;
mod subscribe;
