//! The limit of streaming: tonic alone, with bytes that are ready before anybody asks, and for
//! comparison with a message that is cloned and encoded for each subscriber.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    pin::Pin,
    task::{Context, Poll},
    time::SystemTime,
};

use bytes::{Buf as _, BufMut as _, Bytes};
use futures::{Stream, StreamExt as _, stream};
use prost::Message as _;
use serde_json::json;
use tokio::{net::TcpListener, sync::watch};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{
    Request, Response, Status,
    body::Body,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    server::{Grpc, NamedService, ServerStreamingService},
};
use tonic_prost::ProstCodec;
use wagate::proto::v1;

use super::{child, log};

/// Bytes as they are.
#[derive(Clone, Copy, Debug, Default)]
pub struct Verbatim;

impl Codec for Verbatim {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for Verbatim {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        into.put(item);
        Ok(())
    }
}

impl Decoder for Verbatim {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}

type Items<Item> = Pin<Box<dyn Stream<Item = Result<Item, Status>> + Send>>;

/// Streams that wait for the word and then yield the same item again and again.
#[derive(Clone)]
struct Firehose<Item> {
    item: Item,
    go: watch::Receiver<usize>,
}

impl<Item: Clone + Send + Sync + 'static> Firehose<Item> {
    fn stream(&self) -> Items<Item> {
        let (item, mut go) = (self.item.clone(), self.go.clone());
        go.mark_unchanged();
        let begun = async move {
            go.changed().await.ok();
            let count = *go.borrow();
            stream::iter((0..count).map(move |_| Ok(item.clone())))
        };
        stream::once(begun).flatten().boxed()
    }
}

impl<Asked, Item: Clone + Send + Sync + 'static> ServerStreamingService<Asked> for Firehose<Item> {
    type Response = Item;
    type ResponseStream = Items<Item>;
    type Future = Ready<Result<Response<Items<Item>>, Status>>;

    fn call(&mut self, _: Request<Asked>) -> Self::Future {
        ready(Ok(Response::new(self.stream())))
    }
}

#[derive(Clone)]
struct Raw {
    bytes: Firehose<Bytes>,
    typed: Firehose<v1::Event>,
}

impl NamedService for Raw {
    const NAME: &'static str = "figures.Raw";
}

impl tower::Service<http::Request<Body>> for Raw {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let Self { bytes, typed } = self.clone();
        Box::pin(async move {
            Ok(if request.uri().path().ends_with("Typed") {
                let codec = ProstCodec::<v1::Event, v1::SubscribeRequest>::default();
                Grpc::new(codec).server_streaming(typed, request).await
            } else {
                Grpc::new(Verbatim).server_streaming(bytes, request).await
            })
        })
    }
}

pub async fn play() -> anyhow::Result<()> {
    let (word, go) = watch::channel(0);
    let event = log::sealed_event(SystemTime::now());
    let raw = Raw {
        bytes: Firehose {
            item: event.encode_to_vec().into(),
            go: go.clone(),
        },
        typed: Firehose { item: event, go },
    };
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(
        tonic::transport::Server::builder()
            .add_service(raw)
            .serve_with_incoming(TcpListenerStream::new(listener)),
    );
    child::obey(json!({ "address": address.to_string() }), async |command| {
        word.send_replace(child::count(&command, "count")?);
        Ok(json!({}))
    })
    .await
}
