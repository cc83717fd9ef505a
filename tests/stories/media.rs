//! Files in and out: of any size with little memory, checked, and gone without a trace when something is wrong.

pub mod fetching;
mod large;
mod sending;

use std::{path::Path, time::Duration};

use futures::{Stream, StreamExt as _, stream};
use sha2::{Digest as _, Sha256};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use tonic::{Code, Status};
use wagate::{
    proto::v1::{
        self, MediaKind, MediaState, UploadMediaMetadata, UploadMediaRequest,
        download_media_response, upload_media_request::Part,
    },
    sandbox::{Document, MediaFault, MediaFaultAction},
};

use crate::support::{
    Api, Stage, Watcher, info,
    samples::{noise, png},
    violated_field, within,
};

const CHUNK: usize = 256 << 10;

pub fn metadata(told: UploadMediaMetadata) -> UploadMediaRequest {
    UploadMediaRequest {
        part: Some(Part::Metadata(told)),
    }
}

pub fn chunk(bytes: &[u8]) -> UploadMediaRequest {
    UploadMediaRequest {
        part: Some(Part::Chunk(bytes.to_vec().into())),
    }
}

pub fn document(instance: &str) -> UploadMediaMetadata {
    UploadMediaMetadata {
        instance: instance.to_owned(),
        kind: MediaKind::Document.into(),
        ..Default::default()
    }
}

pub async fn upload(
    api: &Api,
    told: UploadMediaMetadata,
    bytes: &[u8],
) -> Result<v1::Media, Status> {
    let parts: Vec<_> = [metadata(told)]
        .into_iter()
        .chain(bytes.chunks(CHUNK).map(chunk))
        .collect();
    send(api, stream::iter(parts)).await
}

pub async fn send(
    api: &Api,
    parts: impl Stream<Item = UploadMediaRequest> + Send + 'static,
) -> Result<v1::Media, Status> {
    let response = within("an upload", api.media().upload_media(parts)).await?;
    Ok(response.into_inner().media.unwrap())
}

pub async fn download(
    api: &Api,
    media: &v1::Media,
    offset: u64,
    length: u64,
) -> Result<Vec<u8>, Status> {
    let request = v1::DownloadMediaRequest {
        instance: media.instance_id.clone(),
        media_id: media.id.clone(),
        offset,
        length,
    };
    let mut parts = api.media().download_media(request).await?.into_inner();
    let mut bytes = Vec::new();
    let mut first = true;
    while let Some(response) = within("a chunk", parts.message()).await? {
        match response.part.unwrap() {
            download_media_response::Part::Media(shown) => {
                assert!(first);
                assert_eq!(shown.id, media.id);
            }
            download_media_response::Part::Chunk(chunk) => {
                assert!(!first && chunk.len() <= CHUNK);
                bytes.extend_from_slice(&chunk);
            }
        }
        first = false;
    }
    Ok(bytes)
}

fn files(folder: &Path) -> usize {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return 0;
    };
    entries
        .map(|entry| entry.unwrap().path())
        .map(|path| if path.is_dir() { files(&path) } else { 1 })
        .sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_goes_in_and_comes_out() {
    let stage = Stage::new().await;
    let api = stage.api().await;
    let instance = api.create("one").await;
    let bytes = png();
    let told = UploadMediaMetadata {
        instance: "one".to_owned(),
        file_name: "holiday.png".to_owned(),
        size_bytes: bytes.len() as u64,
        sha256: Sha256::digest(&bytes).to_vec().into(),
        ..Default::default()
    };
    let media = upload(&api, told.clone(), &bytes).await.unwrap();
    assert_eq!(media.instance_id, instance.id);
    assert_eq!(
        (media.kind(), media.state()),
        (MediaKind::Image, MediaState::Ready)
    );
    assert_eq!(
        (&*media.mime_type, &*media.file_name),
        ("image/png", "holiday.png")
    );
    assert_eq!((media.width, media.height), (300, 200));
    assert_eq!(
        (media.size_bytes, &media.sha256),
        (told.size_bytes, &told.sha256)
    );
    assert!(media.thumbnail.starts_with(b"\xff\xd8\xff"));
    assert!(media.expire_time.is_some() && media.url.is_empty());
    assert_eq!(download(&api, &media, 0, 0).await.unwrap(), bytes);
    assert_eq!(download(&api, &media, 10, 20).await.unwrap(), bytes[10..30]);
    let size = media.size_bytes;
    assert_eq!(download(&api, &media, size, 0).await.unwrap(), b"");
    for (offset, length) in [
        (0, size + 1),
        (size + 1, 0),
        (u64::MAX, 0),
        (0, u64::MAX),
        (u64::MAX, u64::MAX),
    ] {
        let refused = download(&api, &media, offset, length).await.unwrap_err();
        assert_eq!(info(&refused), "FIELD_INVALID", "{offset} {length}");
    }

    // Another instance has not got it.
    api.create("two").await;
    for (name, id, reason) in [
        ("two", &*media.id, "MEDIA_NOT_FOUND"),
        (
            "one",
            "0197a1b2-0000-4000-8000-000000000000",
            "MEDIA_NOT_FOUND",
        ),
        ("one", "no id", "FIELD_INVALID"),
    ] {
        let request = v1::GetMediaRequest {
            instance: name.to_owned(),
            media_id: id.to_owned(),
        };
        let refused = api.media().get_media(request).await.unwrap_err();
        assert_eq!(info(&refused), reason, "{name} {id}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_refused_and_leaves_nothing() {
    let stage = Stage::with(&[
        ("media.document_limit", "1MiB"),
        ("media.stall_timeout", "300ms"),
    ])
    .await;
    let api = stage.api().await;
    api.create("one").await;
    let bytes = noise(300_000);
    let told = |change: fn(&mut UploadMediaMetadata)| {
        let mut told = document("one");
        change(&mut told);
        told
    };
    let too_many = noise((1 << 20) + 1);
    for (told, bytes, reason, field) in [
        (
            told(|told| told.size_bytes = 299_999),
            &bytes[..],
            "MEDIA_SIZE_MISMATCH",
            "metadata.size_bytes",
        ),
        (
            told(|told| told.size_bytes = 300_001),
            &bytes,
            "MEDIA_SIZE_MISMATCH",
            "metadata.size_bytes",
        ),
        (
            told(|told| told.size_bytes = 2 << 20),
            &bytes,
            "MEDIA_TOO_LARGE",
            "metadata.size_bytes",
        ),
        (
            told(|_| {}),
            &too_many,
            "MEDIA_TOO_LARGE",
            "metadata.size_bytes",
        ),
        (
            told(|told| told.sha256 = vec![0; 32].into()),
            &bytes,
            "MEDIA_HASH_MISMATCH",
            "metadata.sha256",
        ),
        (
            told(|told| told.sha256 = vec![0; 31].into()),
            &bytes,
            "FIELD_INVALID",
            "metadata.sha256",
        ),
        (
            told(|told| told.mime_type = "nonsense".to_owned()),
            &bytes,
            "FIELD_INVALID",
            "metadata.mime_type",
        ),
        (
            told(|told| told.file_name = "../../etc/passwd".to_owned()),
            &bytes,
            "FIELD_INVALID",
            "metadata.file_name",
        ),
        (
            told(|told| told.kind = 99),
            &bytes,
            "FIELD_INVALID",
            "metadata.kind",
        ),
        (
            told(|told| told.kind = MediaKind::Image.into()),
            &bytes,
            "MEDIA_TYPE_MISMATCH",
            "metadata.mime_type",
        ),
        (
            told(|told| told.instance.clear()),
            &bytes,
            "FIELD_INVALID",
            "metadata.instance",
        ),
        (
            told(|told| told.instance = "none".to_owned()),
            &bytes,
            "INSTANCE_NOT_FOUND",
            "metadata.instance",
        ),
        (told(|_| {}), b"", "MEDIA_EMPTY", "chunk"),
    ] {
        let refused = upload(&api, told, bytes).await.unwrap_err();
        assert_eq!(
            (&*info(&refused), &*violated_field(&refused)),
            (reason, field),
            "{refused:?}"
        );
    }
    let refused = send(&api, stream::iter([chunk(&bytes)])).await.unwrap_err();
    assert_eq!(violated_field(&refused), "metadata");
    let twice = [
        metadata(document("one")),
        chunk(&bytes),
        metadata(document("one")),
    ];
    let refused = send(&api, stream::iter(twice)).await.unwrap_err();
    assert_eq!(violated_field(&refused), "metadata");
    let still = stream::iter([metadata(document("one")), chunk(&bytes)]).chain(stream::pending());
    let refused = send(&api, still).await.unwrap_err();
    assert_eq!(
        (refused.code(), info(&refused)),
        (Code::Aborted, "TRANSFER_STALLED".into())
    );

    // A caller that goes away in the middle.
    let parts = stream::iter([metadata(document("one")), chunk(&bytes)]).chain(stream::pending());
    let mut client = api.media();
    let upload = tokio::spawn(async move { client.upload_media(parts).await });
    let folder = stage.data_dir().join("media");
    tokio::task::yield_now().await;
    upload.abort();
    within("the traces to vanish", async {
        while files(&folder) > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn permissions_are_asked_for() {
    let stage = Stage::new().await;
    let api = stage.api().await;
    api.create("one").await;
    let media = upload(&api, document("one"), b"bytes").await.unwrap();
    let with = async |permission: &str| {
        let request = v1::CreateApiKeyRequest {
            display_name: permission.to_owned(),
            permissions: vec![permission.to_owned()],
            ..Default::default()
        };
        let created = api.keys().create_api_key(request).await.unwrap();
        Api::connect(stage.address(), Some(&created.into_inner().secret)).await
    };
    let (reader, writer) = (with("media:read").await, with("media:write").await);
    assert_eq!(download(&reader, &media, 0, 0).await.unwrap(), b"bytes");
    let refused = upload(&reader, document("one"), b"bytes")
        .await
        .unwrap_err();
    assert_eq!(info(&refused), "PERMISSION_DENIED");
    upload(&writer, document("one"), b"bytes").await.unwrap();
    let refused = download(&writer, &media, 0, 0).await.unwrap_err();
    assert_eq!(info(&refused), "PERMISSION_DENIED");
}

/// Serves one file, or nonsense, to everybody.
async fn website(body: Vec<u8>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = [0; 4096];
            let length = stream.read(&mut head).await.unwrap_or(0);
            let path = String::from_utf8_lossy(&head[..length]).into_owned();
            let announced = match path.starts_with("GET /lie") {
                true => body.len() + 10,
                false => body.len(),
            };
            let head = match path.starts_with("GET /none") {
                true => "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n".to_owned(),
                false => format!(
                    "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: {announced}\r\n\r\n"
                ),
            };
            let _ = stream.write_all(head.as_bytes()).await;
            let _ = stream.write_all(&body).await;
        }
    });
    format!("http://{address}")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_url_is_fetched_unless_it_leads_inside() {
    let site = website(png()).await;
    let by_url = |path: &str| UploadMediaMetadata {
        instance: "one".to_owned(),
        url: format!("{site}{path}"),
        ..Default::default()
    };
    let stage = Stage::with(&[("egress.allow_networks", "127.0.0.0/8")]).await;
    let api = stage.api().await;
    api.create("one").await;
    let media = upload(&api, by_url("/a.png"), b"").await.unwrap();
    assert_eq!(
        (media.kind(), &*media.mime_type),
        (MediaKind::Image, "image/png")
    );
    assert_eq!(download(&api, &media, 0, 0).await.unwrap(), png());
    for (path, reason) in [("/none", "URL_FAILED"), ("/lie", "URL_FAILED")] {
        let refused = upload(&api, by_url(path), b"").await.unwrap_err();
        assert_eq!(
            (&*info(&refused), &*violated_field(&refused)),
            (reason, "metadata.url"),
            "{refused:?}"
        );
    }
    let refused = upload(&api, by_url("/a.png"), b"and bytes")
        .await
        .unwrap_err();
    assert_eq!(violated_field(&refused), "metadata.url");

    let guarded = Stage::new().await;
    let api = guarded.api().await;
    api.create("one").await;
    for url in [
        format!("{site}/a.png"),
        site.replace("127.0.0.1", "localhost"),
        site.replace("127.0.0.1", "2130706433"),
        "http://169.254.169.254/latest/meta-data".to_owned(),
        "file:///etc/passwd".to_owned(),
    ] {
        let told = UploadMediaMetadata {
            url: url.clone(),
            ..by_url("")
        };
        let refused = upload(&api, told, b"").await.unwrap_err();
        assert_eq!(info(&refused), "URL_REFUSED", "{url}");
    }
}

/// One request; the answer's head and body.
async fn get(url: &str, more: &str) -> (String, Vec<u8>) {
    let rest = url.strip_prefix("http://").unwrap();
    let (authority, path) = rest.split_once('/').unwrap();
    let mut stream = TcpStream::connect(authority).await.unwrap();
    let request = format!("GET /{path} HTTP/1.1\r\nhost: x\r\nconnection: close{more}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    within("an answer", stream.read_to_end(&mut answer))
        .await
        .unwrap();
    let end = answer
        .windows(4)
        .position(|end| end == b"\r\n\r\n")
        .unwrap();
    let head = String::from_utf8(answer[..end].to_vec())
        .unwrap()
        .to_lowercase();
    (head, answer[end + 4..].to_vec())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_upload_is_the_first_one() {
    let mut stage = Stage::new().await;
    let api = stage.api().await;
    api.create("one").await;
    let (bytes, others) = (png(), b"other bytes".to_vec());
    let told = |bytes: &[u8]| UploadMediaMetadata {
        sha256: Sha256::digest(bytes).to_vec().into(),
        request_id: "upload-1".to_owned(),
        ..document("one")
    };
    // One that breaks off is none.
    let short = upload(&api, told(&bytes), &bytes[..100]).await;
    assert_eq!(info(&short.unwrap_err()), "MEDIA_HASH_MISMATCH");
    let first = upload(&api, told(&bytes), &bytes).await.unwrap();
    stage.restart_gateway().await;
    let api = stage.api().await;
    let again = upload(&api, told(&bytes), &[]).await.unwrap();
    assert_eq!(again, first);
    assert_eq!(download(&api, &again, 0, 0).await.unwrap(), bytes);
    let refused = upload(&api, told(&others), &others).await.unwrap_err();
    assert_eq!(info(&refused), "REQUEST_ID_REUSED");
    assert!(refused.message().contains("sha256"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_opens_a_media_without_a_key() {
    let mut stage = Stage::with(&[("media.link_listen", "127.0.0.1:0")]).await;
    let api = stage.api().await;
    api.create("one").await;
    let bytes = png();
    let told = UploadMediaMetadata {
        kind: MediaKind::Unspecified.into(),
        file_name: "naïve name.png".to_owned(),
        ..document("one")
    };
    let media = upload(&api, told, &bytes).await.unwrap();
    assert!(media.url_expire_time.is_some());
    let (head, body) = get(&media.url, "").await;
    assert!(head.starts_with("http/1.1 200"), "{head}");
    assert_eq!(body, bytes);
    for line in [
        "content-type: image/png",
        "content-disposition: inline; filename*=utf-8''na%c3%afve%20name.png",
        "x-content-type-options: nosniff",
        "accept-ranges: bytes",
        "content-security-policy: default-src 'none'; sandbox",
    ] {
        assert!(head.contains(line), "{line}: {head}");
    }
    let (head, body) = get(&media.url, "\r\nrange: bytes=8-15").await;
    assert!(head.starts_with("http/1.1 206"), "{head}");
    assert!(
        head.contains(&format!("content-range: bytes 8-15/{}", bytes.len())),
        "{head}"
    );
    assert_eq!(body, bytes[8..16]);
    let (head, _) = get(&media.url, "\r\nrange: bytes=99999999-").await;
    assert!(head.starts_with("http/1.1 416"), "{head}");
    let (head, body) = get(&media.thumbnail_url, "").await;
    assert!(head.contains("content-type: image/jpeg"), "{head}");
    assert_eq!(body, media.thumbnail);

    let forged = media.url.replace("part=whole", "part=thumbnail");
    let other = media
        .url
        .replace(&media.id, "0197a1b2-0000-4000-8000-000000000000");
    let bare = media.url.split_once('?').unwrap().0.to_owned();
    for url in [forged, other, bare] {
        let (head, _) = get(&url, "").await;
        assert!(head.starts_with("http/1.1 403"), "{url}: {head}");
    }
    // It holds over a restart, but for the port, which is another one here.
    let port = |url: &str| url.split('/').nth(2).unwrap().to_owned();
    stage.restart_gateway().await;
    let api = stage.api().await;
    let request = v1::GetMediaRequest {
        instance: "one".to_owned(),
        media_id: media.id.clone(),
    };
    let again = api.media().get_media(request).await.unwrap();
    let again = again.into_inner().media.unwrap();
    let moved = media.url.replace(&port(&media.url), &port(&again.url));
    assert_eq!(get(&moved, "").await.1, bytes);
}
