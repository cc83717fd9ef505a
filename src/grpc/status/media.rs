//! What is wrong with a media, in the words of the request that has it.
//!
//! UploadMedia and SendMessage take the same bytes by different fields; the reasons are the same.

use tonic::Status;

use super::{RETRY_SOON, Reason, field_invalid, refuse};
use crate::{egress::EgressError, media::MediaError, proto::v1::MediaState};

/// What of a request can be wrong.
#[derive(Clone, Copy)]
enum Part {
    Id,
    Bytes,
    Size,
    Hash,
    Type,
    Url,
}

impl From<MediaError> for Status {
    fn from(error: MediaError) -> Self {
        let name = |part| {
            match part {
                Part::Id => "media_id",
                Part::Bytes => "chunk",
                Part::Size => "metadata.size_bytes",
                Part::Hash => "metadata.sha256",
                Part::Type => "metadata.mime_type",
                Part::Url => "metadata.url",
            }
            .to_owned()
        };
        status(error, name)
    }
}

/// The same of the file of a message. `kind` is the field of its content.
pub(super) fn of_message(kind: &str, error: MediaError) -> Status {
    let name = |part| {
        let field = match part {
            Part::Id => ".media_id",
            Part::Bytes => ".data",
            Part::Size | Part::Hash => "",
            Part::Type => ".mime_type",
            Part::Url => ".url",
        };
        format!("{kind}.source{field}")
    };
    status(error, name)
}

fn status(error: MediaError, name: impl Fn(Part) -> String) -> Status {
    let sentence = error.to_string();
    match error {
        MediaError::NotFound => refuse(Reason::MediaNotFound, sentence)
            .field(name(Part::Id), "must be the id of a media of the instance")
            .into(),
        MediaError::NotReady(state) => {
            let state = MediaState::try_from(state as i32).unwrap_or_default();
            let state = state.as_str_name();
            refuse(Reason::MediaNotReady, sentence)
                .with("state", state.strip_prefix("MEDIA_STATE_").unwrap_or(state))
                .into()
        }
        MediaError::Range { size } => field_invalid(
            "offset",
            format!("and length must stay within the {size} bytes of the media"),
        ),
        MediaError::Empty => refuse(Reason::MediaEmpty, sentence)
            .field(name(Part::Bytes), "must not be empty")
            .into(),
        MediaError::TooLarge { kind, limit } => refuse(Reason::MediaTooLarge, sentence)
            .with("kind", kind.as_str())
            .with("limit", limit)
            .field(name(Part::Size), format!("must be at most {limit}"))
            .into(),
        MediaError::SizeMismatch { declared, received } => {
            refuse(Reason::MediaSizeMismatch, sentence)
                .with("declared", declared)
                .with("received", received)
                .field(name(Part::Size), "must be how many bytes come")
                .into()
        }
        MediaError::HashMismatch => refuse(Reason::MediaHashMismatch, sentence)
            .field(name(Part::Hash), "must be that of the bytes that come")
            .into(),
        MediaError::TypeMismatch { declared, found } => refuse(Reason::MediaTypeMismatch, sentence)
            .field(
                name(Part::Type),
                format!("must fit the bytes, which are {found}"),
            )
            .with("declared", declared)
            .with("found", found)
            .into(),
        MediaError::Stalled | MediaError::BrokenOff => {
            refuse(Reason::TransferStalled, sentence).into()
        }
        MediaError::OutOfTurn => field_invalid("metadata", "must come first and only once"),
        MediaError::Url(error) => url_failed(&error, &name(Part::Url)),
        MediaError::Blobs(cause) => {
            tracing::error!(
                cause = format!("{cause:#}"),
                "the object store can't be used now"
            );
            refuse(
                Reason::StorageUnavailable,
                "the object store can't be used now; try again",
            )
            .retry_after(RETRY_SOON)
            .into()
        }
        MediaError::Storage(error) => error.into(),
    }
}

/// A caller's URL gave nothing.
fn url_failed(error: &EgressError, field: &str) -> Status {
    let sentence = error.to_string();
    let refusal = match error {
        EgressError::Url(_) | EgressError::Blocked => refuse(Reason::UrlRefused, &*sentence),
        EgressError::TooLarge(limit) => {
            refuse(Reason::MediaTooLarge, &*sentence).with("limit", limit)
        }
        EgressError::Status(status) => {
            refuse(Reason::UrlFailed, &*sentence).with("http_status", status)
        }
        EgressError::Unknown
        | EgressError::Unreachable(_)
        | EgressError::Tls(_)
        | EgressError::Redirects
        | EgressError::Truncated
        | EgressError::Slow => refuse(Reason::UrlFailed, &*sentence),
    };
    refusal.field(field, sentence).into()
}
