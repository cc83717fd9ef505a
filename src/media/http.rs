//! Serves links: `GET` and `HEAD` of one media, with ranges.
//!
//! Asks for nothing but the link's signature. Whatever is served can't act as a page of this server.

use std::{ops::Range, sync::Arc};

use axum::{
    Router,
    body::Body,
    extract::{Path, RawQuery, State},
    response::{IntoResponse, Response},
    routing::get,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use tokio::net::TcpListener;

use super::{
    Media, MediaError,
    links::{self, LinkError, Links, Part},
    listener::Bounded,
};
use crate::{domain::media::MediaState, lifecycle::Shutdown, storage::media::MediaRow};

/// Most connections at a time; more wait.
const CONNECTIONS: usize = 256;

#[derive(Clone)]
struct Server {
    media: Arc<Media>,
    links: Arc<Links>,
}

/// Serves until the shutdown begins.
pub async fn serve(
    listener: TcpListener,
    media: Arc<Media>,
    links: Arc<Links>,
    shutdown: Shutdown,
) -> std::io::Result<()> {
    let path = format!("{}/{{instance}}/{{id}}", links::ROUTE);
    let routes = Router::new()
        .route(&path, get(show))
        .with_state(Server { media, links });
    let listener = Bounded::new(listener, CONNECTIONS);
    let serving = axum::serve(listener, routes).with_graceful_shutdown({
        let shutdown = shutdown.clone();
        async move { shutdown.begun().await }
    });
    tokio::select! {
        ended = serving.into_future() => ended,
        // Who is in the middle of a file may ask for the rest of it later.
        () = shutdown.begun() => Ok(()),
    }
}

async fn show(
    State(server): State<Server>,
    Path((instance, id)): Path<(String, String)>,
    RawQuery(query): RawQuery,
    method: Method,
    headers: HeaderMap,
) -> Response {
    let query = links::Query::parse(&query.unwrap_or_default());
    let checked = query
        .ok_or(LinkError::Invalid)
        .and_then(|query| server.links.check(&instance, &id, &query));
    let (instance, id, part) = match checked {
        Ok(opened) => opened,
        Err(LinkError::Expired) => return refuse(StatusCode::GONE, "the link has expired\n"),
        Err(LinkError::Invalid) => return refuse(StatusCode::FORBIDDEN, "the link is not valid\n"),
    };
    let row = match server.media.find(instance, id).await {
        Ok(row) => row,
        Err(error) => return explain(&error),
    };
    match part {
        Part::Thumbnail if row.thumbnail.is_empty() => {
            refuse(StatusCode::NOT_FOUND, "the media has no thumbnail\n")
        }
        Part::Thumbnail => {
            let mut response = Response::new(Body::from(row.thumbnail.clone()));
            let headers = response.headers_mut();
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("image/jpeg"));
            harmless(headers);
            response
        }
        Part::Whole => whole(&server.media, &row, &method, &headers).await,
    }
}

async fn whole(media: &Media, row: &MediaRow, method: &Method, asked: &HeaderMap) -> Response {
    if row.state != MediaState::Ready {
        return explain(&MediaError::NotReady(row.state));
    }
    let etag = format!("\"{}\"", hex::encode(&row.sha256));
    let known = asked.get(header::IF_NONE_MATCH);
    let range = match wanted(asked, &etag, row.size) {
        Ok(range) => range,
        Err(()) => {
            let mut response = refuse(StatusCode::RANGE_NOT_SATISFIABLE, "");
            put(
                &mut response,
                header::CONTENT_RANGE,
                &format!("bytes */{}", row.size),
            );
            return response;
        }
    };
    let (status, part) = match &range {
        _ if known.is_some_and(|known| known.as_bytes() == etag.as_bytes()) => {
            (StatusCode::NOT_MODIFIED, 0..0)
        }
        Some(part) => (StatusCode::PARTIAL_CONTENT, part.clone()),
        None => (StatusCode::OK, 0..row.size),
    };
    let length = part.end - part.start;
    let body = if method == Method::HEAD || length == 0 {
        Body::empty()
    } else {
        match media.read(row, part.clone()).await {
            Ok(bytes) => Body::from_stream(bytes),
            Err(error) => return explain(&error),
        }
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    put(&mut response, header::ETAG, &etag);
    put(&mut response, header::ACCEPT_RANGES, "bytes");
    harmless(response.headers_mut());
    if status == StatusCode::NOT_MODIFIED {
        return response;
    }
    put(&mut response, header::CONTENT_TYPE, &row.mime_type);
    put(&mut response, header::CONTENT_LENGTH, &length.to_string());
    put(
        &mut response,
        header::CONTENT_DISPOSITION,
        &disposition(row),
    );
    if status == StatusCode::PARTIAL_CONTENT {
        let shown = format!("bytes {}-{}/{}", part.start, part.end - 1, row.size);
        put(&mut response, header::CONTENT_RANGE, &shown);
    }
    response
}

/// The range that is asked for; `None` is all. An error where it lies beyond the end.
fn wanted(asked: &HeaderMap, etag: &str, size: u64) -> Result<Option<Range<u64>>, ()> {
    // A part of another version than the one at hand is worth nothing.
    let other = asked.get(header::IF_RANGE);
    if other.is_some_and(|other| other.as_bytes() != etag.as_bytes()) {
        return Ok(None);
    }
    let text = asked.get(header::RANGE).and_then(|text| text.to_str().ok());
    let Some(spec) = text.and_then(|text| text.strip_prefix("bytes=")) else {
        return Ok(None);
    };
    // Several ranges at once, and what is no range, are answered with all, as HTTP allows.
    let Some((first, last)) = spec.split_once('-').filter(|_| !spec.contains(',')) else {
        return Ok(None);
    };
    let number = |text: &str| text.trim().parse::<u64>();
    let range = match (first.trim(), last.trim()) {
        ("", last) => match number(last) {
            Ok(0) => return Err(()),
            Ok(count) => size.saturating_sub(count)..size,
            Err(_) => return Ok(None),
        },
        (first, "") => match number(first) {
            Ok(first) => first..size,
            Err(_) => return Ok(None),
        },
        (first, last) => match (number(first), number(last)) {
            (Ok(first), Ok(last)) if first <= last => first..last.saturating_add(1).min(size),
            _ => return Ok(None),
        },
    };
    match range.start < size {
        true => Ok(Some(range)),
        false => Err(()),
    }
}

/// A browser shows pictures, films and sound; it saves all else.
fn disposition(row: &MediaRow) -> String {
    let family = row.mime_type.split('/').next().unwrap_or_default();
    let shown = matches!(family, "image" | "video" | "audio") && !row.mime_type.contains("svg");
    let kind = if shown { "inline" } else { "attachment" };
    if row.file_name.is_empty() {
        return kind.to_owned();
    }
    let mut name = String::new();
    for byte in row.file_name.bytes() {
        match byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            true => name.push(byte.into()),
            false => name.push_str(&format!("%{byte:02X}")),
        }
    }
    format!("{kind}; filename*=UTF-8''{name}")
}

/// Whatever it is, it is no page of ours.
fn harmless(headers: &mut HeaderMap) {
    let fixed = HeaderValue::from_static;
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, fixed("nosniff"));
    headers.insert(
        header::CONTENT_SECURITY_POLICY,
        fixed("default-src 'none'; sandbox"),
    );
    headers.insert(header::CACHE_CONTROL, fixed("private, max-age=3600"));
    headers.insert(header::REFERRER_POLICY, fixed("no-referrer"));
}

fn put(response: &mut Response, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}

fn refuse(status: StatusCode, text: &'static str) -> Response {
    (status, text).into_response()
}

fn explain(error: &MediaError) -> Response {
    match error {
        MediaError::NotFound => refuse(StatusCode::NOT_FOUND, "there is no such media\n"),
        MediaError::NotReady(MediaState::Gone) => refuse(StatusCode::GONE, "the media is gone\n"),
        MediaError::NotReady(_) => {
            let mut response = refuse(
                StatusCode::SERVICE_UNAVAILABLE,
                "the media is not here yet\n",
            );
            put(&mut response, header::RETRY_AFTER, "10");
            response
        }
        error => {
            tracing::error!(%error, "a media can't be served");
            refuse(StatusCode::INTERNAL_SERVER_ERROR, "a fault of the server\n")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read() {
        let range = |text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::RANGE, HeaderValue::from_static(text));
            wanted(&headers, "\"e\"", 100)
        };
        assert_eq!(range("bytes=0-9"), Ok(Some(0..10)));
        assert_eq!(range("bytes=90-"), Ok(Some(90..100)));
        assert_eq!(range("bytes=-10"), Ok(Some(90..100)));
        assert_eq!(range("bytes=-1000"), Ok(Some(0..100)));
        assert_eq!(range("bytes=90-1000"), Ok(Some(90..100)));
        assert_eq!(range("bytes=0-18446744073709551615"), Ok(Some(0..100)));
        for beyond in ["bytes=100-", "bytes=-0", "bytes=500-600"] {
            assert_eq!(range(beyond), Err(()), "{beyond}");
        }
        for all in [
            "",
            "bytes=",
            "items=0-9",
            "bytes=9-0",
            "bytes=0-1,3-4",
            "bytes=a-b",
        ] {
            assert_eq!(range(all), Ok(None), "{all}");
        }
        let mut headers = HeaderMap::new();
        headers.insert(header::RANGE, HeaderValue::from_static("bytes=0-9"));
        headers.insert(header::IF_RANGE, HeaderValue::from_static("\"other\""));
        assert_eq!(wanted(&headers, "\"e\"", 100), Ok(None));
    }
}
