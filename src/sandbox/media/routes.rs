//! HTTP of the media host, as WhatsApp's clients use it: uploads named by hash that can be resumed, downloads
//! with ranges.

use std::{io, sync::Arc, time::Duration};

use axum::{
    Router,
    body::{Body, BodyDataStream},
    extract::{DefaultBodyLimit, Path, RawQuery, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use bytes::Bytes;
use futures::{StreamExt as _, stream};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tokio::{
    fs::{self, File, OpenOptions},
    io::{AsyncReadExt as _, AsyncSeekExt as _, AsyncWriteExt as _},
    time::{sleep, timeout},
};
use url::form_urlencoded;

use super::{Hash, MediaFaultAction, MediaHost, Transfer};

/// Where files are fetched.
const DOWNLOADS: &str = "/v";

/// Most bytes of a file: what WhatsApp takes, and its encryption's few more.
const MOST_BYTES: u64 = (2 << 30) + (1 << 16);

/// Bytes that are read at once.
const READ: usize = 64 << 10;

/// How long an upload may stand still.
const STALL: Duration = Duration::from_secs(60);

/// The routes; whatever the folder of an upload is called, files of all kinds lie together.
pub fn routes(host: Arc<MediaHost>) -> Router {
    let mut routes = Router::new();
    for folder in ["mms", "product", "pps", "newsletter"] {
        let path = format!("/{folder}/{{kind}}/{{token}}");
        routes = routes.route(&path, post(upload));
    }
    routes
        .route(&format!("{DOWNLOADS}/{{token}}"), get(download))
        .layer(DefaultBodyLimit::disable())
        .with_state(host)
}

async fn upload(
    State(host): State<Arc<MediaHost>>,
    Path((_, token)): Path<(String, String)>,
    RawQuery(query): RawQuery,
    body: Body,
) -> Response {
    let query = query.unwrap_or_default();
    let value = |wanted: &str| {
        let mut pairs = form_urlencoded::parse(query.as_bytes());
        let found = pairs.find(|(name, _)| name == wanted);
        found.map(|(_, value)| value.into_owned())
    };
    let fault = host.fault(Transfer::Upload);
    if let Some(MediaFaultAction::Status(status)) = fault {
        return refuse(status);
    }
    if value("auth").as_deref() != Some(host.auth()) {
        return refuse(401);
    }
    let Some(hash) = Hash::parse(&token) else {
        return refuse(400);
    };
    if value("resume").is_some() {
        return progress(&host, hash).await;
    }
    let offset = match value("file_offset").map(|offset| offset.parse()) {
        None => 0,
        Some(Ok(offset)) => offset,
        Some(Err(_)) => return refuse(400),
    };
    let Some(_claim) = host.claim(hash) else {
        return refuse(409);
    };
    match receive(&host, hash, offset, body.into_data_stream(), fault).await {
        Ok(()) => json_answer(&place(&host, hash)),
        Err(Failure::Status(status)) => refuse(status),
        Err(Failure::Disk(error)) => {
            tracing::warn!(%error, "the sandbox can't store media");
            refuse(507)
        }
    }
}

/// How much of a file is there.
async fn progress(host: &MediaHost, hash: Hash) -> Response {
    if fs::try_exists(host.whole(hash)).await.unwrap_or(false) {
        let mut answer = place(host, hash);
        answer["resume"] = json!("complete");
        return json_answer(&answer);
    }
    match fs::metadata(host.unfinished(hash)).await {
        Ok(known) if known.len() > 0 => json_answer(&json!({ "resume": known.len().to_string() })),
        _ => refuse(404),
    }
}

/// Where a file is fetched. The path has a query of its own: some clients append to it with `&`, some with `?`,
/// and both must find the file.
pub(super) fn path(hash: Hash) -> String {
    format!("{DOWNLOADS}/{}?ccb=11-4&_nc_sid=5e03e0", hash.token())
}

/// What an upload is answered with.
fn place(host: &MediaHost, hash: Hash) -> serde_json::Value {
    let path = path(hash);
    json!({
        "url": format!("https://{}{path}", host.authority()),
        "direct_path": path,
    })
}

enum Failure {
    Status(u16),
    Disk(io::Error),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Disk(error)
    }
}

/// Writes a body after what is there. What a broken upload has brought stays for the next.
async fn receive(
    host: &MediaHost,
    hash: Hash,
    offset: u64,
    mut body: BodyDataStream,
    fault: Option<MediaFaultAction>,
) -> Result<(), Failure> {
    let path = host.unfinished(hash);
    let mut digest = Sha256::new();
    let mut file = if offset == 0 {
        File::create(&path).await?
    } else {
        let known = fs::metadata(&path).await.map_or(0, |known| known.len());
        if known != offset {
            return Err(Failure::Status(416));
        }
        hash_file(&path, &mut digest).await?;
        OpenOptions::new().append(true).open(&path).await?
    };
    let mut written = offset;
    loop {
        let chunk = match timeout(STALL, body.next()).await {
            Ok(Some(Ok(chunk))) => damaged(chunk, fault, written == offset),
            Ok(None) => break,
            Ok(Some(Err(_))) => {
                file.flush().await?;
                return Err(Failure::Status(400));
            }
            Err(_) => return Err(Failure::Status(408)),
        };
        match fault {
            Some(MediaFaultAction::Slow(rate)) => pause(chunk.len(), rate).await,
            Some(MediaFaultAction::BreakAfter(bytes)) if written >= bytes => {
                file.flush().await?;
                return Err(Failure::Status(503));
            }
            _ => {}
        }
        written += chunk.len() as u64;
        if written > MOST_BYTES {
            drop(file);
            fs::remove_file(&path).await?;
            return Err(Failure::Status(413));
        }
        if !host.reserve(chunk.len() as u64) {
            return Err(Failure::Status(507));
        }
        digest.update(&chunk);
        file.write_all(&chunk).await?;
    }
    file.flush().await?;
    drop(file);
    if digest.finalize()[..] != hash.0 {
        fs::remove_file(&path).await?;
        return Err(Failure::Status(400));
    }
    fs::rename(&path, host.whole(hash)).await?;
    Ok(())
}

async fn hash_file(path: &std::path::Path, digest: &mut Sha256) -> io::Result<()> {
    let mut file = File::open(path).await?;
    let mut buffer = vec![0; READ];
    loop {
        match file.read(&mut buffer).await? {
            0 => return Ok(()),
            count => digest.update(&buffer[..count]),
        }
    }
}

async fn download(
    State(host): State<Arc<MediaHost>>,
    Path(token): Path<String>,
    headers: HeaderMap,
) -> Response {
    let fault = host.fault(Transfer::Download);
    if let Some(MediaFaultAction::Status(status)) = fault {
        return refuse(status);
    }
    let Some(hash) = Hash::parse(&token) else {
        return refuse(404);
    };
    match send(&host, hash, &headers, fault).await {
        Ok(response) => response,
        Err(error) if error.kind() == io::ErrorKind::NotFound => refuse(404),
        Err(error) => {
            tracing::warn!(%error, "the sandbox can't read media");
            refuse(500)
        }
    }
}

async fn send(
    host: &MediaHost,
    hash: Hash,
    headers: &HeaderMap,
    fault: Option<MediaFaultAction>,
) -> io::Result<Response> {
    let mut file = File::open(host.whole(hash)).await?;
    let size = file.metadata().await?.len();
    let asked = headers
        .get(header::RANGE)
        .and_then(|range| range.to_str().ok());
    let (status, start, end) = match asked.map(|range| part(range, size)) {
        None => (StatusCode::OK, 0, size),
        Some(Some((start, end))) => (StatusCode::PARTIAL_CONTENT, start, end),
        Some(None) => return Ok(refuse(416)),
    };
    file.seek(io::SeekFrom::Start(start)).await?;
    let body = stream::try_unfold(
        (file, end - start, 0_u64),
        move |(mut file, left, sent)| async move {
            if left == 0 {
                return Ok(None);
            }
            match fault {
                Some(MediaFaultAction::BreakAfter(bytes)) if sent >= bytes => {
                    return Err(io::Error::from(io::ErrorKind::ConnectionReset));
                }
                Some(MediaFaultAction::Slow(rate)) => pause(READ.min(left as usize), rate).await,
                _ => {}
            }
            let mut buffer = vec![0; READ.min(usize::try_from(left).unwrap_or(READ))];
            let count = file.read(&mut buffer).await?;
            if count == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
            }
            buffer.truncate(count);
            let count = count as u64;
            Ok(Some((
                damaged(Bytes::from(buffer), fault, sent == 0),
                (file, left - count, sent + count),
            )))
        },
    );
    let mut response = Response::builder()
        .status(status)
        .header(header::CONTENT_TYPE, "application/octet-stream")
        .header(header::CONTENT_LENGTH, end - start)
        .header(header::ACCEPT_RANGES, "bytes");
    if status == StatusCode::PARTIAL_CONTENT {
        let shown = format!("bytes {start}-{}/{size}", end.saturating_sub(1));
        response = response.header(header::CONTENT_RANGE, shown);
    }
    response
        .body(Body::from_stream(body))
        .map_err(io::Error::other)
}

/// The first chunk of a transfer as a fault has it.
fn damaged(chunk: Bytes, fault: Option<MediaFaultAction>, first: bool) -> Bytes {
    if fault != Some(MediaFaultAction::Damage) || !first {
        return chunk;
    }
    let mut chunk = Vec::from(chunk);
    if let Some(byte) = chunk.first_mut() {
        *byte ^= 1;
    }
    chunk.into()
}

/// Start and end of `bytes=a-b`, `bytes=a-` or `bytes=-n`.
fn part(range: &str, size: u64) -> Option<(u64, u64)> {
    let (first, last) = range.strip_prefix("bytes=")?.split_once('-')?;
    let (start, end) = match (first, last) {
        ("", count) => (size.saturating_sub(count.parse().ok()?), size),
        (first, "") => (first.parse().ok()?, size),
        (first, last) => {
            let last: u64 = last.parse().ok()?;
            (first.parse().ok()?, last.saturating_add(1).min(size))
        }
    };
    (start < end).then_some((start, end))
}

/// As long as so many bytes take at this rate.
async fn pause(bytes: usize, rate: u32) {
    sleep(Duration::from_secs_f64(
        bytes as f64 / f64::from(rate.max(1)),
    ))
    .await;
}

fn json_answer(value: &serde_json::Value) -> Response {
    let kind = [(header::CONTENT_TYPE, "application/json")];
    (kind, value.to_string()).into_response()
}

fn refuse(status: u16) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (status, format!("{status}\n")).into_response()
}
