//! Files of messages, between WhatsApp's media hosts and our media.
//!
//! Owns what WhatsApp needs to find a file and read it, the worker that fetches what messages bring, and the way
//! of our files to WhatsApp. Files pass through a folder of their own on the disk, never as a whole through
//! memory. Never fetches within the door by which messages enter: there only a row is written.

mod fetch;
mod passage;
mod upload;
mod whereabouts;

pub use fetch::{Fetcher, fetch_all};
pub use passage::Passage;
pub(super) use upload::NotLeft;
pub use upload::Uploads;
pub(super) use whereabouts::row_of;
