//! Requests that make neither a message nor an instance: done once, whoever repeats them.

use std::{sync::Arc, time::SystemTime};

use prost::Message;

use super::error::WaError;
use crate::{
    domain::ids::InstanceNumber,
    storage::{ClaimOutcome, RequestMark, Storage, StorageError},
};

/// Does something once per request: a retry gets the answer of the first. The work hears since when an earlier try has
/// had no answer.
pub(super) async fn once<T, Work>(
    storage: Arc<dyn Storage>,
    instance: InstanceNumber,
    request: Option<RequestMark>,
    work: impl FnOnce(Option<SystemTime>) -> Work,
) -> Result<T, WaError>
where
    T: Message + Default,
    Work: Future<Output = Result<T, WaError>>,
{
    let Some(request) = request else {
        return work(None).await;
    };
    let begun = match storage.claim_request(instance, request.clone()).await? {
        ClaimOutcome::New => None,
        ClaimOutcome::Unanswered(since) => Some(since),
        ClaimOutcome::Answered(answer) => {
            let known = T::decode(answer);
            return known.map_err(|error| StorageError::Corrupt(error.into()).into());
        }
        ClaimOutcome::Reused(fields) => return Err(WaError::RequestReused(fields)),
    };
    let done = work(begun).await;
    let kept = match &done {
        Ok(answer) => {
            let answer = answer.encode_to_vec().into();
            storage.answer_request(request, answer).await
        }
        // Whoever tries again does it over: it may have been done.
        Err(error) if error.is_undecided() => Ok(()),
        // What an earlier try did is still not known, whatever is wrong now.
        Err(_) if begun.is_some() => Ok(()),
        Err(_) => storage.release_request(request).await,
    };
    if let Err(error) = kept {
        tracing::warn!(%instance, %error, "the answer of a request is not kept");
    }
    done
}
