//! Ends a stream that would outlive its caller's key, or the server.
//!
//! For streams whose makers know of neither, such as a pairing. It works on the encoded answer, so
//! it fits any service. Subscribe looks after itself: it has more to say at its end.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures::future::BoxFuture;
use http::HeaderMap;
use http_body::{Frame, SizeHint};
use tonic::{Status, body::Body, server::NamedService};

use crate::{
    auth::{Caller, Keys},
    grpc::status::{self, RETRY_SOON, Reason, refuse},
    lifecycle::Shutdown,
};

/// A service one of whose streams is ended from outside.
#[derive(Clone)]
pub struct Ending<S> {
    service: S,
    path: &'static str,
    keys: Keys,
    shutdown: Option<Shutdown>,
}

impl<S> Ending<S> {
    /// Ends the stream of the method at this path once the key of its caller is revoked.
    pub fn when_revoked(service: S, path: &'static str, keys: Keys) -> Self {
        Self {
            service,
            path,
            keys,
            shutdown: None,
        }
    }

    /// Ends it also when the server drains.
    pub fn or_drained(mut self, shutdown: Shutdown) -> Self {
        self.shutdown = Some(shutdown);
        self
    }
}

impl<S: NamedService> NamedService for Ending<S> {
    const NAME: &'static str = S::NAME;
}

impl<S, B> tower::Service<http::Request<Body>> for Ending<S>
where
    S: tower::Service<http::Request<Body>, Response = http::Response<B>, Error = Infallible>,
    S::Future: Send + 'static,
    B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<tower::BoxError>,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.service.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let watched = request.uri().path() == self.path;
        let caller = request.extensions().get::<Caller>().filter(|_| watched);
        let end = caller.map(|caller| {
            Box::pin(end(
                caller.clone(),
                self.keys.clone(),
                self.shutdown.clone(),
            )) as End
        });
        let answer = self.service.call(request);
        Box::pin(async move {
            let response = answer.await?;
            // An answer that is an error has ended already.
            let end = end.filter(|_| !response.headers().contains_key("grpc-status"));
            Ok(match end {
                None => response.map(Body::new),
                Some(end) => response.map(|body| {
                    Body::new(Ended {
                        body: Some(body),
                        end,
                    })
                }),
            })
        })
    }
}

type End = Pin<Box<dyn Future<Output = Status> + Send>>;

/// Waits for what ends the stream early.
async fn end(caller: Caller, keys: Keys, shutdown: Option<Shutdown>) -> Status {
    let drained = async {
        match shutdown {
            Some(shutdown) => shutdown.begun().await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = drained => status::draining(RETRY_SOON),
        revoked = keys.revoked(caller.key()) => match revoked {
            Ok(()) => refuse(
                Reason::CredentialRevoked,
                "the API key was revoked while the stream was open",
            )
            .into(),
            Err(error) => error.into(),
        },
    }
}

/// A stream's answer until it ends by itself or from outside.
struct Ended<B> {
    body: Option<B>,
    end: End,
}

impl<B> http_body::Body for Ended<B>
where
    B: http_body::Body<Data = Bytes> + Unpin,
{
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let Some(body) = self.body.as_mut() else {
            return Poll::Ready(None);
        };
        // What has ended by itself is not ended again.
        if body.is_end_stream() {
            return Poll::Ready(None);
        }
        let Poll::Ready(status) = self.end.as_mut().poll(context) else {
            return self
                .body
                .as_mut()
                .map_or(Poll::Ready(None), |body| Pin::new(body).poll_frame(context));
        };
        // Whoever makes the stream learns of its end.
        self.body = None;
        let mut trailers = HeaderMap::new();
        let told = status.add_header(&mut trailers);
        Poll::Ready(told.is_ok().then(|| Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(B::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        match &self.body {
            Some(body) => body.size_hint(),
            None => SizeHint::with_exact(0),
        }
    }
}
