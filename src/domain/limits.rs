//! The numbers that callers run into. All of them are named in `proto/`.

use std::time::Duration;

/// Longest text of a message, in characters.
pub const TEXT_CHARS: usize = 65_536;
/// Longest `request_id`, `client_id` and display name, in characters.
pub const LABEL_CHARS: usize = 64;
/// How long a `request_id` is remembered.
pub const REQUEST_MEMORY: Duration = Duration::from_secs(24 * 60 * 60);
/// Rows of a page when the caller names no number.
pub const PAGE_DEFAULT: usize = 100;
/// Most rows of a page.
pub const PAGE_MAX: usize = 1_000;
/// Most events of a page or a frame.
pub const EVENTS_MAX: usize = 500;
/// How long SendMessage waits for WhatsApp's confirmation.
pub const SEND_CONFIRMATION: Duration = Duration::from_secs(20);
