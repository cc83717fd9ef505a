//! The log: append, read after a cursor, wake sleepers, forget.
//!
//! Owns what an event looks like as bytes, where a reader may start, how it learns that events it
//! should have seen are gone, and what retention removes. Every output is such a reader: the end of
//! the log is shared in memory, everything else is in the store, so nothing is dropped for being slow.
//! Never knows who listens, filters for one customer, or buffers for a reader.

mod encoding;
mod log;
mod sealed;
mod tail;

pub use encoding::{Told, blanked, compose, compose_told, system_time, timestamp};
pub use log::{Gap, GapReason, Log, Opening, ReadError, Reader, Retention, Start, Wanted};
pub use sealed::{Batch, Page, Run, Sealed};
