//! A caller's `request_id`, which makes a retry safe.

use std::time::SystemTime;

use prost::Message;
use sha2::{Digest as _, Sha256};
use tonic::Status;

use super::{access, status};
use crate::{auth::Caller, storage::RequestMark};

/// What to remember of a request; `None` where the caller gave no id. `body` is the request without
/// what may differ between two spellings of the same wish.
pub(super) fn mark(
    caller: &Caller,
    method: &'static str,
    request_id: &str,
    body: &impl Message,
) -> Result<Option<RequestMark>, Status> {
    if request_id.is_empty() {
        return Ok(None);
    }
    access::label("request_id", request_id)?;
    if request_id.trim() != request_id {
        return Err(status::field_invalid(
            "request_id",
            "must not begin or end with a space",
        ));
    }
    Ok(Some(RequestMark {
        api_key: caller.key().clone(),
        method,
        request_id: request_id.to_owned(),
        body_digest: Sha256::digest(body.encode_to_vec()).into(),
        time: SystemTime::now(),
    }))
}
