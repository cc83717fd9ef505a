//! The numbers that callers run into. All of them are named in `proto/`.

use std::time::Duration;

/// Longest text of a message, in characters.
pub const TEXT_CHARS: usize = 65_536;
/// Longest caption, in characters.
pub const CAPTION_CHARS: usize = 1_024;
/// Longest link, in characters.
pub const LINK_CHARS: usize = 2_048;
/// Longest name of a place, a contact or a page, in characters.
pub const NAME_CHARS: usize = 512;
/// Biggest thumbnail, in bytes.
pub const THUMBNAIL_BYTES: usize = 64 << 10;
/// Most steps of a voice note's waveform that is sent.
pub const WAVEFORM_BYTES: usize = 256;
/// Images and videos of an album that is sent.
pub const ALBUM: std::ops::RangeInclusive<u32> = 2..=100;
/// Biggest vCard, in bytes.
pub const VCARD_BYTES: usize = 64 << 10;
/// Most contact cards of a message that is sent.
pub const CARDS: usize = 100;
/// Most phone numbers of a contact card.
pub const CARD_NUMBERS: usize = 20;
/// Longest emoji of a reaction, in bytes.
pub const EMOJI_BYTES: usize = 32;
/// Longest question of a poll and name of an event, in characters.
pub const POLL_NAME_CHARS: usize = 255;
/// Longest option of a poll that is sent, in characters.
pub const POLL_OPTION_CHARS: usize = 100;
/// Options of a poll that is sent.
pub const POLL_OPTIONS: std::ops::RangeInclusive<usize> = 2..=12;
/// Most guests that somebody brings to an event.
pub const EXTRA_GUESTS: u32 = 100;
/// Most entries of a list, a poll or an array that arrives; more are not shown.
pub const LIST_ENTRIES: usize = 256;
/// Longest subject of a group, in characters.
pub const SUBJECT_CHARS: usize = 100;
/// Longest description of a group, in characters.
pub const DESCRIPTION_CHARS: usize = 2_048;
/// Most members of a group.
pub const GROUP_MEMBERS: usize = 1_024;
/// Biggest picture that is taken, in bytes, …
pub const PICTURE_BYTES: usize = 2 << 20;
/// … and in pixels a side.
pub const PICTURE_SIDE: u32 = 4_096;
/// Longest timer of disappearing messages: a year.
pub const EPHEMERAL_SECONDS: u32 = 365 * 24 * 60 * 60;
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
/// Most sends of an instance that wait to leave.
pub const WAITING_SENDS: usize = 10_000;
/// How long one may wait after it is due, if its caller does not say.
pub const WAIT_DEFAULT: Duration = Duration::from_secs(24 * 60 * 60);
/// How far ahead a send may be planned: a year.
pub const SEND_AHEAD: Duration = Duration::from_secs(365 * 24 * 60 * 60);
/// How much later than that it may end.
pub const EXPIRE_AHEAD: Duration = Duration::from_secs(366 * 24 * 60 * 60);
/// Longest delay of a send, in milliseconds.
pub const DELAY_MS: u32 = 600_000;
/// How long SendMessage waits for WhatsApp's confirmation where the call has no deadline.
pub const SEND_CONFIRMATION: Duration = Duration::from_secs(20);
/// How long it waits at most: answers must begin within 90 seconds.
pub const SEND_CONFIRMATION_MAX: Duration = Duration::from_secs(80);
/// Most recipients of a mailing list.
pub const QUEUE_RECIPIENTS: usize = 50_000;
/// Biggest request that creates one, in bytes.
pub const QUEUE_REQUEST_BYTES: usize = 16 << 20;
/// Most mailing lists of an instance that are not done.
pub const QUEUES_OPEN: usize = 100;
/// Mailing lists of an instance that are kept when they are done; the oldest go.
pub const QUEUES_DONE: usize = 100;
/// Most variables of a recipient, …
pub const QUEUE_VARIABLES: usize = 50;
/// … longest name of one, in characters, …
pub const QUEUE_VARIABLE_CHARS: usize = 64;
/// … and bytes of all of them together.
pub const QUEUE_VARIABLES_BYTES: usize = 4_096;
/// Longest pause before a message of a mailing list, in milliseconds.
pub const QUEUE_DELAY_MS: u32 = 300_000;
/// Messages in a minute of a mailing list that names no number, …
pub const QUEUE_RATE: u32 = 20;
/// … and the most that one may name.
pub const QUEUE_RATE_MAX: u32 = 6_000;
/// Recipients that CreateQueue's answer names as wrong.
pub const QUEUE_REJECTED: usize = 1_000;
