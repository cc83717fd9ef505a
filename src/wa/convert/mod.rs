//! WhatsApp's types in, ours out, and back.
//!
//! Owns what a message of WhatsApp means in our words. Never looks anything up, stores, or holds a client.

pub mod ids;
pub mod inbound;
pub mod outbound;
pub mod rows;
