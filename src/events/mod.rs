//! The log: append, read after a cursor, wake sleepers, forget.
//!
//! Owns what an event looks like as bytes, where a reader may start, how it learns that events it
//! should have seen are gone, and what retention removes. Every output is such a reader: nothing
//! fans out from memory, so nothing is dropped for being slow.
//! Never knows who listens, filters for one customer, or buffers for a reader.

mod encoding;
mod log;

pub use encoding::{Batch, blanked, compose, system_time, timestamp};
pub use log::{Gap, GapReason, Log, Opening, ReadError, Reader, Retention, Start, Wanted};
