//! What can go wrong with media.

use crate::{
    domain::media::{MediaKind, MediaState},
    egress::EgressError,
    storage::StorageError,
};

/// Why a media could not be taken or given.
#[derive(Debug, thiserror::Error)]
pub enum MediaError {
    /// The instance has no such media.
    #[error("the instance has no such media")]
    NotFound,
    /// Its bytes are not here.
    #[error("the bytes of the media are not here")]
    NotReady(MediaState),
    /// Beyond its end.
    #[error("the media has {size} bytes")]
    Range {
        /// How many there are.
        size: u64,
    },
    /// No bytes at all.
    #[error("the media is empty")]
    Empty,
    /// More bytes than its kind may have.
    #[error("the {} has more than {limit} bytes", .kind.as_str())]
    TooLarge {
        /// Of this kind.
        kind: MediaKind,
        /// The limit.
        limit: u64,
    },
    /// More or fewer bytes than were declared.
    #[error("{declared} bytes were declared and {received} came")]
    SizeMismatch {
        /// As declared.
        declared: u64,
        /// As came, up to the first too many.
        received: u64,
    },
    /// Other bytes than were declared.
    #[error("the bytes have another SHA-256 than was declared")]
    HashMismatch,
    /// The bytes are surely not what they are declared to be.
    #[error("declared as {declared}, but the bytes are {found}")]
    TypeMismatch {
        /// As declared, or as the kind demands.
        declared: String,
        /// As found.
        found: String,
    },
    /// Nothing came for too long.
    #[error("no bytes came for too long")]
    Stalled,
    /// Whoever sent the bytes broke off.
    #[error("the transfer broke off")]
    BrokenOff,
    /// Something else came where bytes were to come.
    #[error("metadata comes first and only once")]
    OutOfTurn,
    /// The URL gave nothing.
    #[error(transparent)]
    Url(#[from] EgressError),
    /// The object store failed.
    #[error("the object store failed: {0}")]
    Blobs(#[source] anyhow::Error),
    /// The database failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
}
