//! Files left and fetched by the real client library, and by plain HTTP where the library is too kind.

use std::io::Cursor;

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use sha2::{Digest as _, Sha256};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use wacore::{
    download::{Downloadable, MediaType},
    net::{HttpClient, HttpRequest, HttpResponse, StreamingHttpResponse, UploadBody},
    upload::encrypt_media_streaming_with_key,
};
use waproto::whatsapp::message::DocumentMessage;
use whatsapp_rust::{
    http::UreqHttpClient,
    upload::{UploadOptions, UploadResponse},
};

use super::*;

/// The library speaks only HTTPS to media hosts, and would not trust this one's certificate.
struct PlainHttp(UreqHttpClient);

fn plain(mut request: HttpRequest) -> HttpRequest {
    request.url = request.url.replacen("https://", "http://", 1);
    request
}

#[async_trait::async_trait]
impl HttpClient for PlainHttp {
    async fn execute(&self, request: HttpRequest) -> anyhow::Result<HttpResponse> {
        self.0.execute(plain(request)).await
    }
    fn supports_streaming(&self) -> bool {
        true
    }
    fn execute_streaming(&self, request: HttpRequest) -> anyhow::Result<StreamingHttpResponse> {
        self.0.execute_streaming(plain(request))
    }
    fn supports_upload_streaming(&self) -> bool {
        true
    }
    fn execute_upload(
        &self,
        request: HttpRequest,
        body: UploadBody,
        length: u64,
    ) -> anyhow::Result<HttpResponse> {
        self.0.execute_upload(plain(request), body, length)
    }
}

async fn device(sandbox: &Sandbox) -> BotHandle {
    let phone = phone(sandbox, "Media").await;
    let events = Arc::new(Events::default());
    let handle = Bot::builder()
        .with_backend_arc(Gateway::pinning(sandbox.static_key()).await)
        .with_transport_factory(TokioWebSocketTransportFactory::new().with_url(sandbox.ws_url()))
        .with_http_client(PlainHttp(UreqHttpClient::new()))
        .with_version((2, 3000, 1_030_000_000))
        .with_wanted_pre_key_count(30)
        .with_event_handler(Recorder(events.clone()))
        .build()
        .await
        .unwrap()
        .spawn();
    let gateway = Gateway {
        backend: Arc::new(InMemoryBackend::new()),
        events,
        handle,
    };
    sandbox.scan_qr(phone, &gateway.qr().await).await.unwrap();
    gateway.connected().await;
    gateway.handle
}

fn noise(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at * 31 % 251) as u8).collect()
}

fn document(uploaded: &UploadResponse) -> DocumentMessage {
    DocumentMessage {
        direct_path: Some(uploaded.direct_path.clone()),
        media_key: Some(uploaded.media_key.to_vec()),
        file_enc_sha256: Some(uploaded.file_enc_sha256.to_vec()),
        file_sha256: Some(uploaded.file_sha256.to_vec()),
        file_length: Some(uploaded.file_length),
        ..Default::default()
    }
}

fn fault(uploads: bool, action: MediaFaultAction) -> MediaFault {
    MediaFault {
        uploads,
        downloads: !uploads,
        action,
        count: Some(1),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_goes_up_and_down_encrypted() {
    let sandbox = sandbox().await;
    let handle = device(&sandbox).await;
    let client = handle.client();
    for length in [0, 10, 300_000] {
        let bytes = noise(length);
        let uploaded = client
            .upload(bytes.clone(), MediaType::Document, UploadOptions::new())
            .await
            .unwrap();
        // whatsmeow appends with `&`, the library with `?`: both must find it.
        assert!(uploaded.direct_path.contains('?'));
        assert!(uploaded.url.starts_with("https://127.0.0.1:"));
        let found = client.download(&document(&uploaded)).await.unwrap();
        assert!(found == bytes, "{length}");
    }
    handle.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_broke_off_goes_on_where_it_was() {
    let sandbox = sandbox().await;
    let handle = device(&sandbox).await;
    let client = handle.client();
    let bytes = noise(6 << 20);
    // Sealed with the same key, it is the same file to the host.
    let upload = async || {
        let mut sealed = Vec::new();
        let plain = Cursor::new(&bytes);
        let info = encrypt_media_streaming_with_key(
            plain,
            &mut sealed,
            MediaType::Video,
            Some(&[7; 32]),
            None,
        );
        let sealed = bytes::Bytes::from(sealed);
        let uploading = client.upload_stream(sealed, info.unwrap(), MediaType::Video);
        uploading.await
    };
    let broken = fault(true, MediaFaultAction::BreakAfter(1 << 20));
    // The question whether there is something to resume is the first transfer.
    sandbox
        .add_media_fault(MediaFault {
            count: Some(2),
            ..broken
        })
        .unwrap();
    upload().await.unwrap_err();
    let uploaded = upload().await.unwrap();
    let found = client
        .download(&document_as_video(&uploaded))
        .await
        .unwrap();
    assert!(found == bytes);
    // What is there need not be sent again.
    sandbox
        .add_media_fault(MediaFault {
            count: None,
            ..fault(true, MediaFaultAction::Slow(1))
        })
        .unwrap();
    let again = upload().await.unwrap();
    assert_eq!(again.direct_path, uploaded.direct_path);
    handle.shutdown().await;
}

fn document_as_video(uploaded: &UploadResponse) -> impl Downloadable + use<> {
    waproto::whatsapp::message::VideoMessage {
        direct_path: Some(uploaded.direct_path.clone()),
        media_key: Some(uploaded.media_key.to_vec()),
        file_enc_sha256: Some(uploaded.file_enc_sha256.to_vec()),
        file_sha256: Some(uploaded.file_sha256.to_vec()),
        file_length: Some(uploaded.file_length),
        ..Default::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_host_fails_on_purpose() {
    let sandbox = sandbox().await;
    let handle = device(&sandbox).await;
    let client = handle.client();
    let upload = || client.upload(noise(1_000), MediaType::Image, UploadOptions::new());
    // Authorisation that ended is renewed once without anybody's help.
    let ended = fault(true, MediaFaultAction::Status(401));
    sandbox.add_media_fault(ended).unwrap();
    let uploaded = upload().await.unwrap();
    let full = fault(true, MediaFaultAction::Status(507));
    sandbox.add_media_fault(full).unwrap();
    let refused = upload().await.unwrap_err();
    assert!(refused.to_string().contains("507"), "{refused:#}");

    let message = document(&uploaded);
    let mut as_image = waproto::whatsapp::message::ImageMessage {
        direct_path: message.direct_path,
        media_key: message.media_key,
        file_enc_sha256: message.file_enc_sha256,
        file_sha256: message.file_sha256,
        file_length: message.file_length,
        ..Default::default()
    };
    assert!(client.download(&as_image).await.unwrap() == noise(1_000));
    as_image.direct_path = Some("/v/bm90aGluZw?ccb=11-4".to_owned());
    client.download(&as_image).await.unwrap_err();
    as_image.direct_path = Some(uploaded.direct_path.clone());
    sandbox.expire_media().unwrap();
    client.download(&as_image).await.unwrap_err();
    let senseless = fault(true, MediaFaultAction::Status(200));
    assert!(sandbox.add_media_fault(senseless).is_err());
    handle.shutdown().await;
}

/// One request of HTTP/1.1; the answer's head and body.
async fn http(sandbox: &Sandbox, head: &str, body: &[u8]) -> (String, Vec<u8>) {
    let mut stream = TcpStream::connect(sandbox.address()).await.unwrap();
    let head = format!(
        "{head}\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(body).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let end = answer
        .windows(4)
        .position(|end| end == b"\r\n\r\n")
        .unwrap();
    let head = String::from_utf8(answer[..end].to_vec()).unwrap();
    (head, answer[end + 4..].to_vec())
}

#[tokio::test]
async fn what_comes_up_must_be_what_its_name_says() {
    let sandbox = sandbox().await;
    let auth = sandbox.network.media.auth().to_owned();
    let bytes = noise(1_000);
    let token = BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(&bytes));
    let status = async |path: String, body: &[u8]| {
        let (head, _) = http(&sandbox, &format!("POST {path} HTTP/1.1"), body).await;
        head[9..12].to_owned()
    };
    let path = format!("/mms/image/{token}");
    assert_eq!(status(path.clone(), &bytes).await, "401");
    assert_eq!(status(format!("{path}?auth=wrong"), &bytes).await, "401");
    let path = format!("{path}?auth={auth}&token={token}");
    assert_eq!(status(format!("{path}&resume=1"), b"").await, "404");
    assert_eq!(status(path.clone(), b"other bytes").await, "400");
    assert_eq!(
        status(format!("{path}&file_offset=10"), &bytes).await,
        "416"
    );
    assert_eq!(
        status(format!("/mms/image/short?auth={auth}"), &bytes).await,
        "400"
    );
    assert_eq!(status(path.clone(), &bytes).await, "200");
    let (head, body) = http(&sandbox, &format!("POST {path}&resume=1 HTTP/1.1"), b"").await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    let answer: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(answer["resume"], "complete");

    let direct = answer["direct_path"].as_str().unwrap();
    let get = async |more: &str| {
        let head = format!("GET {direct}&hash=x HTTP/1.1{more}");
        http(&sandbox, &head, b"").await
    };
    assert_eq!(get("").await.1, bytes);
    let (head, part) = get("\r\nrange: bytes=100-199").await;
    assert!(head.starts_with("HTTP/1.1 206"), "{head}");
    assert!(
        head.to_lowercase()
            .contains("content-range: bytes 100-199/1000"),
        "{head}"
    );
    assert_eq!(part, bytes[100..200]);
    assert_eq!(get("\r\nrange: bytes=990-").await.1, bytes[990..]);
    let (head, _) = get("\r\nrange: bytes=1000-").await;
    assert!(head.starts_with("HTTP/1.1 416"), "{head}");
}

#[tokio::test]
async fn the_same_port_speaks_tls() {
    use tokio_rustls::{
        TlsConnector,
        rustls::{
            ClientConfig, RootCertStore,
            crypto::ring,
            pki_types::{CertificateDer, ServerName, pem::PemObject as _},
        },
    };
    let folder = tempfile::tempdir().unwrap();
    let sandbox = sandbox_in(Some(folder.path())).await;
    let certificate = std::fs::read(folder.path().join("tls-certificate.pem")).unwrap();
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(&certificate).unwrap())
        .unwrap();
    let settings = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(sandbox.address()).await.unwrap();
    let name = ServerName::try_from("127.0.0.1").unwrap();
    let connector = TlsConnector::from(Arc::new(settings));
    let mut stream = connector.connect(name, stream).await.unwrap();
    let head = "GET /v/none HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer).await;
    assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
}
