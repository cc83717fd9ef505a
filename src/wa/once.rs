//! Requests that make neither a message nor an instance: done once, whoever repeats them.

use std::{sync::Arc, time::SystemTime};

use prost::Message;
use tokio::sync::Mutex;

use super::error::WaError;
use crate::{
    domain::ids::InstanceNumber,
    storage::{RequestMark, Storage, request::once},
};

/// Does something once per request, in its turn and to its end also if its caller leaves: a retry gets the answer of
/// the first. The work hears since when an earlier try has had no answer.
pub(super) async fn in_turn<T, Work>(
    turns: Arc<Mutex<()>>,
    storage: Arc<dyn Storage>,
    instance: InstanceNumber,
    request: Option<RequestMark>,
    work: impl FnOnce(Option<SystemTime>) -> Work + Send + 'static,
) -> Result<T, WaError>
where
    T: Message + Default + 'static,
    Work: Future<Output = Result<T, WaError>> + Send + 'static,
{
    let done = tokio::spawn(async move {
        let _turn = turns.lock().await;
        match request {
            None => work(None).await,
            Some(request) => {
                // What an earlier try did is still not known, whatever is wrong now.
                let is_over = |error: &WaError, begun: Option<SystemTime>| {
                    !error.is_undecided() && begun.is_none()
                };
                let storage = storage.as_ref();
                once(
                    storage,
                    instance,
                    request,
                    work,
                    is_over,
                    WaError::RequestReused,
                )
                .await
            }
        }
    });
    done.await.unwrap_or(Err(WaError::ShuttingDown))
}
