//! Words and rules: ids, session states and their legal moves, cursors, limits.
//!
//! Owns what can be said without asking anybody: every type here can only be built valid.
//! Never does I/O, reads a clock, or names a transport, a database or WhatsApp's library.

pub mod currency;
pub mod cursor;
pub mod event_type;
pub mod ids;
pub mod limits;
pub mod media;
pub mod pace;
pub mod permission;
pub mod recipient;
pub mod session;
pub mod template;
