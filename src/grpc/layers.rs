//! What every call passes, outside in: counted for the drain, named by a request id, errors
//! explained, panics caught, the deadline kept, the caller known.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::{body::Body, extract::State, middleware::Next};
use bytes::Bytes;
use futures::FutureExt as _;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::{Frame, SizeHint};
use tokio::{sync::watch, time::Instant};
use tonic::Status;
use tracing::Instrument as _;
use uuid::Uuid;

use crate::{
    auth::Keys,
    grpc::{
        deadline::{self, Deadline},
        status,
    },
};

const REQUEST_ID: &str = "x-request-id";
const HEALTH: &str = "/grpc.health.v1.Health/";
/// Calls under these paths may stay open for ever and carry nothing that a drain must wait for.
const UNCOUNTED: [&str; 2] = [HEALTH, "/grpc.reflection."];

/// Calls whose answer comes after a long request, …
const LONG_REQUESTS: [&str; 1] = ["/wagate.v1.MediaService/UploadMedia"];
/// … and how long they may take. That something arrives all the while is seen to by their service.
const LONG_REQUEST: Duration = Duration::from_secs(6 * 60 * 60);

/// How many calls are in flight.
#[derive(Clone, Default)]
pub(super) struct InFlight(Arc<watch::Sender<usize>>);

impl InFlight {
    /// Waits until there is none.
    pub async fn none(&self) {
        // The sender is held right here, so this can't fail.
        let _ = self.0.subscribe().wait_for(|count| *count == 0).await;
    }

    fn enter(&self) -> Flight {
        self.0.send_modify(|count| *count += 1);
        Flight(self.clone())
    }
}

/// One call in flight.
struct Flight(InFlight);

impl Drop for Flight {
    fn drop(&mut self) {
        self.0.0.send_modify(|count| *count -= 1);
    }
}

/// Counts the call until its answer is sent or given up.
pub(super) async fn count(
    State(in_flight): State<InFlight>,
    request: Request<Body>,
    next: Next,
) -> Response<Body> {
    let path = request.uri().path();
    let counted = !UNCOUNTED.iter().any(|one| path.starts_with(one));
    let flight = counted.then(|| in_flight.enter());
    next.run(request).await.map(|body| {
        Body::new(Answer {
            body: Some(body),
            _flight: flight,
        })
    })
}

/// Names the call: in the answer's headers and in the span of everything that is logged about it.
pub(super) async fn name(mut request: Request<Body>, next: Next) -> Response<Body> {
    let id = request
        .headers()
        .get(REQUEST_ID)
        .filter(|id| is_decent(id.as_bytes()))
        .cloned()
        .unwrap_or_else(|| {
            HeaderValue::try_from(Uuid::now_v7().to_string())
                .unwrap_or(HeaderValue::from_static("unknown"))
        });
    request.headers_mut().insert(REQUEST_ID, id.clone());
    let span = tracing::info_span!(
        "call",
        method = request.uri().path(),
        request_id = id.to_str().unwrap_or_default(),
    );
    let mut response = next.run(request).instrument(span).await;
    response.headers_mut().insert(REQUEST_ID, id);
    response
}

/// A caller's own request id is taken if it can't upset a log.
fn is_decent(id: &[u8]) -> bool {
    let legal = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.".contains(byte);
    !id.is_empty() && id.len() <= 64 && id.iter().all(legal)
}

/// Gives the errors that tonic makes by itself their reason.
pub(super) async fn explain(request: Request<Body>, next: Next) -> Response<Body> {
    let path = request.uri().path().to_owned();
    let mut response = next.run(request).await;
    if response.headers().contains_key("grpc-status-details-bin") {
        return response;
    }
    let explained = Status::from_header_map(response.headers())
        .and_then(|bare| status::explained(&bare, &path));
    if let Some(status) = explained
        && let Err(error) = status.add_header(response.headers_mut())
    {
        tracing::error!(%error, "an error could not be explained");
    }
    response
}

/// Answers a panic instead of breaking the connection.
pub(super) async fn catch_panic(request: Request<Body>, next: Next) -> Response<Body> {
    match AssertUnwindSafe(next.run(request)).catch_unwind().await {
        Ok(response) => response,
        Err(panic) => {
            log_panic(&*panic);
            status::internal().into_http()
        }
    }
}

fn log_panic(panic: &(dyn Any + Send)) {
    let message = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message");
    tracing::error!(message, "a call panicked");
}

/// Keeps the deadline of the caller, or ours, until the answer begins. tonic has one around this,
/// which fires no earlier and then asks this one first.
pub(super) async fn keep_deadline(
    State(most): State<Duration>,
    mut request: Request<Body>,
    next: Next,
) -> Response<Body> {
    let now = Instant::now();
    let requested = deadline::requested(request.headers());
    if let Some(deadline) = requested.and_then(|requested| now.checked_add(requested)) {
        request.extensions_mut().insert(Deadline(deadline));
    }
    let most = match LONG_REQUESTS.contains(&request.uri().path()) {
        true => LONG_REQUEST,
        false => most,
    };
    let limit = requested.map_or(most, |requested| requested.min(most));
    match tokio::time::timeout_at(now + limit, next.run(request)).await {
        Ok(response) => response,
        Err(_) => status::deadline().into_http(),
    }
}

/// Finds out who calls. Only health may be asked without a key.
pub(super) async fn authenticate(
    State(keys): State<Keys>,
    mut request: Request<Body>,
    next: Next,
) -> Response<Body> {
    if !request.uri().path().starts_with(HEALTH) {
        match keys.authenticate(request.headers()).await {
            Ok(caller) => {
                request.extensions_mut().insert(caller);
            }
            Err(error) => return Status::from(error).into_http(),
        }
    }
    next.run(request).await
}

/// The body of an answer: in flight until it is gone, and a panic in it ends it as an error.
struct Answer {
    body: Option<Body>,
    _flight: Option<Flight>,
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let Some(body) = &mut self.body else {
            return Poll::Ready(None);
        };
        let polled = catch_unwind(AssertUnwindSafe(|| Pin::new(body).poll_frame(context)));
        match polled {
            Ok(polled) => polled,
            Err(panic) => {
                log_panic(&*panic);
                // What panicked once is not asked again.
                self.body = None;
                let mut trailers = HeaderMap::new();
                let told = status::internal().add_header(&mut trailers);
                Poll::Ready(told.is_ok().then(|| Ok(Frame::trailers(trailers))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body
            .as_ref()
            .is_none_or(http_body::Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        match &self.body {
            Some(body) => body.size_hint(),
            None => SizeHint::with_exact(0),
        }
    }
}
