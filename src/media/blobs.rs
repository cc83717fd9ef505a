//! Bytes in the object store: a local folder, or a bucket that speaks S3.
//!
//! Owns how they lie there: `<instance number>/<media id>`, whole or not at all. Memory of a transfer is a few
//! parts, whatever its size. Knows no rows.

use std::{ops::Range, path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context as _;
use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream::BoxStream};
use http_body_util::BodyExt as _;
use hyper_util::{
    client::legacy::Client,
    rt::{TokioExecutor, TokioTimer},
};
use object_store::{
    ClientOptions, GetOptions, ObjectStore, ObjectStoreExt as _, RetryConfig,
    aws::AmazonS3Builder,
    buffered::BufWriter,
    client::{
        HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpRequestBody,
        HttpResponse, HttpResponseBody, HttpService,
    },
    local::LocalFileSystem,
    path::Path,
};
use tokio::{io::AsyncWriteExt as _, time::timeout};

use crate::{
    domain::ids::{InstanceNumber, MediaId},
    egress::{Connector, Guard},
    private_files,
};

/// Bytes of a part: what S3 takes at least.
const PART: usize = 5 << 20;
/// Parts of one transfer that are on their way while the next is filled.
const PARTS_ON_THEIR_WAY: usize = 1;
/// How long the object store may take to begin an answer.
const ANSWER: Duration = Duration::from_secs(60);
/// Tries of a request that the object store fails: seconds in all, for a caller waits.
const RETRIES: usize = 4;

/// A bucket and the way to it.
#[derive(Clone)]
pub struct Bucket {
    /// Its name.
    pub name: String,
    /// Address of the server, such as `https://s3.example.com`; empty is Amazon's.
    pub endpoint: String,
    /// Its region.
    pub region: String,
    /// Id of the access key.
    pub access_key: String,
    /// The access key.
    pub secret_key: String,
}

/// Where bytes lie.
#[derive(Clone)]
pub enum Place {
    /// In this folder.
    Folder(PathBuf),
    /// In this bucket.
    Bucket(Bucket),
}

/// The object store.
#[derive(Clone)]
pub(super) struct Blobs {
    store: Arc<dyn ObjectStore>,
    folder: Option<PathBuf>,
}

impl Blobs {
    pub(super) fn open(place: Place) -> anyhow::Result<Self> {
        match place {
            Place::Folder(folder) => {
                private_files::create_folder(&folder)
                    .with_context(|| format!("can't use {}", folder.display()))?;
                let store = LocalFileSystem::new_with_prefix(&folder)
                    .with_context(|| format!("can't use {}", folder.display()))?
                    .with_fsync(true);
                Ok(Self {
                    store: Arc::new(store),
                    folder: Some(folder),
                })
            }
            Place::Bucket(bucket) => Ok(Self {
                store: Arc::new(s3(bucket)?),
                folder: None,
            }),
        }
    }

    /// Begins to write. Nothing is there until `Writing::finish`.
    pub(super) fn write(&self, instance: InstanceNumber, id: MediaId) -> Writing {
        let writer = BufWriter::with_capacity(self.store.clone(), path(instance, id), PART)
            .with_max_concurrency(PARTS_ON_THEIR_WAY);
        Writing(Some(writer))
    }

    /// Reads a part of what is there.
    pub(super) async fn read(
        &self,
        instance: InstanceNumber,
        id: MediaId,
        range: Range<u64>,
    ) -> Result<BoxStream<'static, anyhow::Result<Bytes>>, object_store::Error> {
        let options = GetOptions::new().with_range(Some(range));
        let found = self.store.get_opts(&path(instance, id), options).await?;
        Ok(found.into_stream().map_err(anyhow::Error::from).boxed())
    }

    /// Removes what is there, or was left of an attempt. Nothing there is fine.
    pub(super) async fn remove(
        &self,
        instance: InstanceNumber,
        id: MediaId,
    ) -> Result<(), object_store::Error> {
        let path = path(instance, id);
        if let Some(folder) = &self.folder {
            // What a crash leaves of a transfer into a folder.
            let staged = folder.join(format!("{path}#1"));
            let _ = tokio::fs::remove_file(staged).await;
        }
        match self.store.delete(&path).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// Bytes on their way in; nothing once they are there, or can't be.
pub(super) struct Writing(Option<BufWriter>);

impl Writing {
    pub(super) async fn put(&mut self, bytes: Bytes) -> anyhow::Result<()> {
        let writer = self.0.as_mut().context("the transfer is over")?;
        Ok(writer.put(bytes).await?)
    }

    /// After this, and not before, they are there. Where it fails, the store has given them up.
    pub(super) async fn finish(&mut self) -> anyhow::Result<()> {
        let mut writer = self.0.take().context("the transfer is over")?;
        Ok(writer.shutdown().await?)
    }

    pub(super) async fn abort(self) {
        if let Some(mut writer) = self.0
            && let Err(error) = writer.abort().await
        {
            tracing::debug!(%error, "an aborted transfer leaves parts to the object store");
        }
    }
}

fn path(instance: InstanceNumber, id: MediaId) -> Path {
    Path::from(format!("{instance}/{id}"))
}

fn s3(bucket: Bucket) -> anyhow::Result<impl ObjectStore> {
    let mut builder = AmazonS3Builder::new()
        .with_bucket_name(bucket.name)
        .with_region(bucket.region)
        .with_access_key_id(bucket.access_key)
        .with_secret_access_key(bucket.secret_key)
        .with_retry(RetryConfig {
            max_retries: RETRIES,
            retry_timeout: ANSWER,
            ..Default::default()
        })
        .with_http_connector(S3Connector);
    if !bucket.endpoint.is_empty() {
        builder = builder
            .with_allow_http(bucket.endpoint.starts_with("http://"))
            .with_endpoint(bucket.endpoint);
    }
    builder.build().context("the bucket can't be used")
}

/// Makes the object store speak HTTP as everything else here does. The operator named the server, so no
/// guard stands before it.
#[derive(Debug)]
struct S3Connector;

impl HttpConnector for S3Connector {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .build(Connector::new(Guard::trusting()));
        Ok(HttpClient::new(S3Http(client)))
    }
}

struct S3Http(Client<Connector, HttpRequestBody>);

impl std::fmt::Debug for S3Http {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("S3Http")
    }
}

#[async_trait]
impl HttpService for S3Http {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let response = match timeout(ANSWER, self.0.request(request)).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => {
                let kind = match error.is_connect() {
                    true => HttpErrorKind::Connect,
                    false => HttpErrorKind::Interrupted,
                };
                return Err(HttpError::new(kind, error));
            }
            Err(late) => return Err(HttpError::new(HttpErrorKind::Timeout, late)),
        };
        let (head, body) = response.into_parts();
        let body = body.map_err(|error| HttpError::new(HttpErrorKind::Interrupted, error));
        Ok(HttpResponse::from_parts(head, HttpResponseBody::new(body)))
    }
}
