//! The one HTTP client for every URL that a caller gives: media by URL, link previews, webhooks.
//!
//! Owns what protects our side of it: only http and https, only addresses that the guard permits (judged
//! when they are dialled, at every redirect anew), no credentials in a URL, bounds on redirects, bytes and
//! time. Bodies are streams; nothing is kept. Knows none of the other rooms.

mod connector;
mod guard;
#[cfg(test)]
mod tests;

use std::{error::Error, io, time::Duration};

use bytes::Bytes;
use futures::{Stream, StreamExt as _, stream};
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::Client,
    rt::{TokioExecutor, TokioTimer},
};
use tokio::time::{Instant, timeout_at};
use url::Url;

use connector::ConnectError;
pub use connector::Connector;
pub use guard::{Cidr, Guard};

/// Longest URL.
const URL_BYTES: usize = 4 << 10;
/// Idle connections that are kept for the next request to the same host.
const IDLE_PER_HOST: usize = 4;
const IDLE: Duration = Duration::from_secs(30);
const USER_AGENT: &str = concat!("wagate/", env!("CARGO_PKG_VERSION"));

/// Why a URL gave nothing. The text is fit for the caller: it tells nothing of what lies behind the guard.
#[derive(Debug, thiserror::Error)]
pub enum EgressError {
    /// Not a URL that is called.
    #[error("{0}")]
    Url(&'static str),
    /// The host's name has no address.
    #[error("the host of the URL has no address")]
    Unknown,
    /// The host, of the URL or of a redirect, is where no caller may send us.
    #[error("the host of the URL is at an address that must not be called")]
    Blocked,
    /// No connection, or one that broke.
    #[error("the host of the URL can't be reached")]
    Unreachable(#[source] anyhow::Error),
    /// Its certificate is not trusted.
    #[error("the host of the URL has no certificate that is trusted")]
    Tls(#[source] anyhow::Error),
    /// Another redirect after the last allowed one.
    #[error("the URL redirects too often")]
    Redirects,
    /// An answer other than 200 to a fetch.
    #[error("the URL answered with HTTP status {0}")]
    Status(u16),
    /// More bytes than asked for, announced or sent.
    #[error("the URL has more than {0} bytes")]
    TooLarge(u64),
    /// The body ended early.
    #[error("the URL's content ended before it was complete")]
    Truncated,
    /// It took too long.
    #[error("the URL took too long")]
    Slow,
}

/// How much one exchange may cost.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Most bytes of the body.
    pub bytes: u64,
    /// How long all of it may take.
    pub time: Duration,
    /// How many redirects are followed.
    pub redirects: usize,
}

/// An answer whose body is still to come.
pub struct Fetched {
    /// Where it came from, after all redirects.
    pub url: Url,
    /// What the host says it is.
    pub content_type: Option<String>,
    /// How long the host says it is.
    pub length: Option<u64>,
    body: Incoming,
    bounds: Bounds,
    until: Instant,
}

/// An answer to a request that was sent.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status, whatever it is.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The beginning of the body, within the bounds.
    pub body: Bytes,
}

/// The client; clones share their connections.
#[derive(Clone)]
pub struct Egress {
    client: Client<Connector, Full<Bytes>>,
}

impl Egress {
    /// A client behind this guard.
    pub fn new(guard: Guard) -> Self {
        let client = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(IDLE_PER_HOST)
            .pool_timer(TokioTimer::new())
            .build(Connector::new(guard));
        Self { client }
    }

    /// Gets what a URL leads to, following redirects.
    pub async fn fetch(&self, url: &str, bounds: Bounds) -> Result<Fetched, EgressError> {
        let until = Instant::now() + bounds.time;
        let mut url = parse(url)?;
        for _ in 0..=bounds.redirects {
            let request = request(Method::GET, &url, HeaderMap::new(), Bytes::new())?;
            let response = self.exchange(request, until).await?;
            match response.status() {
                StatusCode::OK => return accept(url, response, bounds, until),
                status if status.is_redirection() => url = target(&url, &response)?,
                status => return Err(EgressError::Status(status.as_u16())),
            }
        }
        Err(EgressError::Redirects)
    }

    /// Sends a body to a URL. Redirects are not followed: they are an answer like any other.
    pub async fn post(
        &self,
        url: &str,
        headers: HeaderMap,
        body: Bytes,
        bounds: Bounds,
    ) -> Result<Answer, EgressError> {
        let until = Instant::now() + bounds.time;
        let request = request(Method::POST, &parse(url)?, headers, body)?;
        let (head, mut body) = self.exchange(request, until).await?.into_parts();
        let most = usize::try_from(bounds.bytes).unwrap_or(usize::MAX);
        let mut kept = Vec::new();
        while kept.len() < most
            && let Some(chunk) = next(&mut body, until).await?
        {
            let room = most - kept.len();
            kept.extend_from_slice(&chunk[..chunk.len().min(room)]);
        }
        Ok(Answer {
            status: head.status,
            headers: head.headers,
            body: kept.into(),
        })
    }

    async fn exchange(
        &self,
        request: Request<Full<Bytes>>,
        until: Instant,
    ) -> Result<Response<Incoming>, EgressError> {
        match timeout_at(until, self.client.request(request)).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(explain(error)),
            Err(_) => Err(EgressError::Slow),
        }
    }
}

impl Fetched {
    /// The body, which ends with an error as soon as it breaks a bound or the connection.
    pub fn into_stream(self) -> impl Stream<Item = Result<Bytes, EgressError>> + Send + Unpin {
        let Self {
            body,
            bounds,
            until,
            ..
        } = self;
        stream::try_unfold((body, bounds.bytes), move |(mut body, left)| async move {
            let Some(chunk) = next(&mut body, until).await? else {
                return Ok(None);
            };
            match left.checked_sub(chunk.len() as u64) {
                Some(left) => Ok(Some((chunk, (body, left)))),
                None => Err(EgressError::TooLarge(bounds.bytes)),
            }
        })
        .boxed()
    }
}

/// A URL that may be called, as far as its text tells.
fn parse(text: &str) -> Result<Url, EgressError> {
    if text.len() > URL_BYTES {
        return Err(EgressError::Url("the URL is longer than 4 KiB"));
    }
    let url = Url::parse(text).map_err(|_| EgressError::Url("not a URL"))?;
    check(url)
}

fn check(mut url: Url) -> Result<Url, EgressError> {
    if !matches!(url.scheme(), "http" | "https") {
        return Err(EgressError::Url("only http and https URLs are called"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(EgressError::Url("a URL must not hold credentials"));
    }
    if url.host_str().is_none_or(str::is_empty) || url.port() == Some(0) {
        return Err(EgressError::Url("the URL names no host"));
    }
    url.set_fragment(None);
    Ok(url)
}

/// Where a redirect leads.
fn target<B>(from: &Url, response: &Response<B>) -> Result<Url, EgressError> {
    let nowhere = EgressError::Status(response.status().as_u16());
    let Some(location) = response.headers().get(header::LOCATION) else {
        return Err(nowhere);
    };
    let location = location.to_str().map_err(|_| nowhere)?;
    let url = from
        .join(location)
        .map_err(|_| EgressError::Url("the URL redirects to what is no URL"))?;
    check(url)
}

fn request(
    method: Method,
    url: &Url,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Request<Full<Bytes>>, EgressError> {
    let mut request = Request::builder()
        .method(method)
        .uri(url.as_str())
        // What is counted is what arrives, so nothing may come packed.
        .header(header::ACCEPT_ENCODING, "identity")
        .header(header::USER_AGENT, USER_AGENT)
        .body(Full::new(body))
        .map_err(|_| EgressError::Url("not a URL that can be called"))?;
    request.headers_mut().extend(headers);
    Ok(request)
}

fn accept(
    url: Url,
    response: Response<Incoming>,
    bounds: Bounds,
    until: Instant,
) -> Result<Fetched, EgressError> {
    let text = |name| response.headers().get(name)?.to_str().ok();
    let length = text(header::CONTENT_LENGTH).and_then(|length| length.parse().ok());
    if length.is_some_and(|length: u64| length > bounds.bytes) {
        return Err(EgressError::TooLarge(bounds.bytes));
    }
    Ok(Fetched {
        url,
        content_type: text(header::CONTENT_TYPE).map(str::to_owned),
        length,
        body: response.into_body(),
        bounds,
        until,
    })
}

/// The next bytes of a body; `None` after the last.
async fn next(body: &mut Incoming, until: Instant) -> Result<Option<Bytes>, EgressError> {
    loop {
        match timeout_at(until, body.frame()).await {
            Err(_) => return Err(EgressError::Slow),
            Ok(None) => return Ok(None),
            Ok(Some(Err(error))) if ended_early(&error) => return Err(EgressError::Truncated),
            Ok(Some(Err(error))) => return Err(EgressError::Unreachable(error.into())),
            // Trailers are skipped.
            Ok(Some(Ok(frame))) => {
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
        }
    }
}

/// Whether a body ended before it was said to.
fn ended_early(error: &hyper::Error) -> bool {
    let cause = error
        .source()
        .and_then(|cause| cause.downcast_ref::<io::Error>());
    let eof = |cause: &io::Error| cause.kind() == io::ErrorKind::UnexpectedEof;
    error.is_incomplete_message() || cause.is_some_and(eof)
}

fn explain(error: hyper_util::client::legacy::Error) -> EgressError {
    let mut cause: Option<&(dyn Error + 'static)> = Some(&error);
    while let Some(known) = cause {
        match known.downcast_ref::<ConnectError>() {
            Some(ConnectError::Unknown(_)) => return EgressError::Unknown,
            Some(ConnectError::Blocked) => return EgressError::Blocked,
            Some(ConnectError::Slow) => return EgressError::Slow,
            Some(ConnectError::Tls(_)) => return EgressError::Tls(error.into()),
            Some(ConnectError::Unreachable(_)) => break,
            None => cause = known.source(),
        }
    }
    EgressError::Unreachable(error.into())
}
