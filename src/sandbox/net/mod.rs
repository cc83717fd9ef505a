//! The network's outside: sockets, the Noise handshake, frames.
//!
//! Owns everything between a TCP connection and decoded stanzas, and the bounds on hostile peers.
//! Never decides what a stanza means.

pub mod connection;
pub mod frames;
pub mod incoming;
pub mod listener;
pub mod noise;
