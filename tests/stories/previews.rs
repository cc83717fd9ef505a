//! Link previews: looked for when the caller asks for it, and never a reason for a text not to go.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::StreamExt as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use tonic::Status;
use v1::send_message_request::Content as Asked;
use wagate::proto::v1::{self, message_content::Content};
use waproto::{buffa::Message as _, whatsapp as wa};

use crate::support::{Api, Stage, TestPhone, info, samples::png, violated_field, within};

const ALLOWED: [(&str, &str); 1] = [("egress.allow_networks", "127.0.0.0/8")];

const PAGE: &str = "<html><head><title>of the browser</title>\
    <meta property=\"og:title\" content=\"Tea &amp; cake\">\
    <meta property=\"og:description\" content=\"At five\">\
    <meta property=\"og:image\" content=\"picture.png\"></head><body>";

/// A website that counts who calls.
struct Site {
    url: String,
    called: Arc<AtomicUsize>,
}

impl Site {
    async fn open() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let called = Arc::new(AtomicUsize::new(0));
        let count = called.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(answer(stream));
            }
        });
        Self { url, called }
    }

    fn calls(&self) -> usize {
        self.called.load(Ordering::Relaxed)
    }
}

/// Answers one request, as its path says.
async fn answer(mut stream: TcpStream) {
    let mut head = [0; 4096];
    let length = stream.read(&mut head).await.unwrap_or(0);
    let head = String::from_utf8_lossy(&head[..length]).into_owned();
    let path = head.split(' ').nth(1).unwrap_or_default();
    let (status, more, body) = match path {
        "/page" => (
            "200 OK",
            "content-type: text/html; charset=utf-8",
            PAGE.into(),
        ),
        // More than is read, behind what counts.
        "/large" => {
            let body = format!("{PAGE}{}", "<p>more".repeat(1 << 19));
            ("200 OK", "content-type: text/html", body.into())
        }
        "/moved" => ("302 Found", "location: /page", Vec::new()),
        "/inside" => ("302 Found", "location: http://10.0.0.1/", Vec::new()),
        "/bare" => {
            let body = "<title>Only\n a title</title><meta property=og:image content=/none>";
            ("200 OK", "content-type: text/html", body.into())
        }
        "/late" => {
            let body = format!("<!--{}-->{PAGE}", "x".repeat(600 << 10));
            ("200 OK", "content-type: text/html", body.into())
        }
        "/untitled" => ("200 OK", "content-type: text/html", b"<p>hello".to_vec()),
        "/text" => ("200 OK", "content-type: text/plain", PAGE.into()),
        "/picture.png" => ("200 OK", "content-type: image/png", png()),
        "/slow" => {
            let beginning = "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\n\r\n<title>Slow";
            let _ = stream.write_all(beginning.as_bytes()).await;
            // Until the other side has had enough.
            let _ = stream.read(&mut [0; 1]).await;
            return;
        }
        _ => ("404 Not Found", "content-type: text/html", PAGE.into()),
    };
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\n{more}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n"
    );
    let _ = stream.write_all(head.as_bytes()).await;
    let _ = stream.write_all(&body).await;
}

/// An instance and somebody to write to.
struct Scene {
    stage: Stage,
    api: Api,
    peer: TestPhone,
}

impl Scene {
    async fn with(settings: &[(&'static str, &str)]) -> Self {
        let stage = Stage::with(settings).await;
        let api = stage.api().await;
        stage.open_instance(&api, "one").await;
        let peer = stage.phone("Peer").await;
        Self { stage, api, peer }
    }

    fn asking(&self, text: &str) -> v1::SendMessageRequest {
        v1::SendMessageRequest {
            instance: "one".to_owned(),
            recipient: self.peer.number.to_string(),
            content: Some(Asked::Text(v1::TextContent {
                text: text.to_owned(),
                ..Default::default()
            })),
            fetch_link_preview: true,
            ..Default::default()
        }
    }

    async fn send(&self, request: v1::SendMessageRequest) -> Result<v1::Message, Status> {
        let sent = within("SendMessage", self.api.messages().send_message(request)).await?;
        Ok(sent.into_inner().message.unwrap())
    }

    /// The message as the peer's phone has it.
    async fn seen(&self, id: &str) -> wa::Message {
        let inbox = self.stage.network.inbox(self.peer.number, 0).unwrap();
        let mut inbox = Box::pin(inbox.filter(|one| std::future::ready(one.id == id)));
        let found = within("a message in the inbox", inbox.next()).await;
        wa::Message::decode_from_slice(&found.unwrap().message).unwrap()
    }
}

fn preview(message: &v1::Message) -> Option<v1::LinkPreview> {
    let content = message.content.as_ref().unwrap().content.as_ref().unwrap();
    match content {
        Content::Text(text) => text.link_preview.clone(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_goes_with_what_its_link_says_of_itself() {
    let site = Site::open().await;
    let scene = Scene::with(&ALLOWED).await;
    for (path, title, description, has_picture) in [
        ("/page", "Tea & cake", "At five", true),
        ("/large", "Tea & cake", "At five", true),
        ("/moved", "Tea & cake", "At five", true),
        ("/bare", "Only a title", "", false),
    ] {
        let url = format!("{}{path}", site.url);
        let text = format!("look: {url}, not https://example.com");
        let sent = scene.send(scene.asking(&text)).await.unwrap();
        let shown = preview(&sent).expect(path);
        assert_eq!(
            (&*shown.url, &*shown.title, &*shown.description),
            (&*url, title, description),
            "{path}"
        );
        assert_eq!(
            shown.thumbnail.starts_with(b"\xff\xd8\xff"),
            has_picture,
            "{path}"
        );
        let seen = scene.seen(&sent.id).await;
        let seen = seen.extended_text_message.as_option().expect(path);
        assert_eq!(seen.text.as_deref(), Some(&*text));
        assert_eq!(seen.matched_text.as_deref(), Some(&*url));
        assert_eq!(seen.title.as_deref(), Some(title));
        assert_eq!(seen.description.as_deref().unwrap_or_default(), description);
        let picture = seen.jpeg_thumbnail.as_deref().unwrap_or_default();
        assert_eq!(picture, &shown.thumbnail[..], "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_whose_link_says_nothing_goes_without() {
    let site = Site::open().await;
    let scene = Scene::with(&ALLOWED).await;
    for path in [
        "/none",
        "/untitled",
        "/text",
        "/late",
        "/inside",
        "/slow",
        "/picture.png",
    ] {
        let text = format!("look: {}{path}", site.url);
        let sent = scene.send(scene.asking(&text)).await.unwrap();
        assert!(sent.status() >= v1::MessageStatus::Sent, "{path}");
        assert_eq!(preview(&sent), None, "{path}");
        let seen = scene.seen(&sent.id).await;
        assert_eq!(seen.conversation.as_deref(), Some(&*text), "{path}");
    }
    // A call with little time is in time.
    let text = format!("now: {}/slow", site.url);
    let mut request = tonic::Request::new(scene.asking(&text));
    request.set_timeout(Duration::from_secs(4));
    let sent = scene.api.messages().send_message(request).await.unwrap();
    assert_eq!(preview(&sent.into_inner().message.unwrap()), None);
    let sent = scene.send(scene.asking("nothing to look at")).await;
    assert_eq!(preview(&sent.unwrap()), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_called_without_need() {
    let site = Site::open().await;
    let scene = Scene::with(&ALLOWED).await;
    let url = format!("{}/page", site.url);

    let unasked = v1::SendMessageRequest {
        fetch_link_preview: false,
        ..scene.asking(&url)
    };
    assert_eq!(preview(&scene.send(unasked).await.unwrap()), None);
    let given = v1::LinkPreview {
        url: url.clone(),
        title: "Mine".to_owned(),
        ..Default::default()
    };
    let mut request = scene.asking(&url);
    request.content = Some(Asked::Text(v1::TextContent {
        text: url.clone(),
        link_preview: Some(given.clone()),
    }));
    assert_eq!(preview(&scene.send(request).await.unwrap()), Some(given));
    let nobody = v1::SendMessageRequest {
        recipient: "15550009876".to_owned(),
        ..scene.asking(&url)
    };
    let refused = scene.send(nobody).await.unwrap_err();
    assert_eq!(info(&refused), "RECIPIENT_NOT_ON_WHATSAPP");
    let place = v1::SendMessageRequest {
        content: Some(Asked::Location(v1::LocationContent::default())),
        ..scene.asking(&url)
    };
    let refused = scene.send(place).await.unwrap_err();
    assert_eq!(
        (&*info(&refused), &*violated_field(&refused)),
        ("FIELD_INVALID", "fetch_link_preview")
    );
    assert_eq!(site.calls(), 0);

    // The page and its picture; a retry looks at neither.
    let once = v1::SendMessageRequest {
        request_id: "once".to_owned(),
        ..scene.asking(&url)
    };
    let sent = scene.send(once.clone()).await.unwrap();
    let calls = site.calls();
    assert_eq!(calls, 2);
    let again = scene.send(once).await.unwrap();
    assert_eq!((&again.id, preview(&again)), (&sent.id, preview(&sent)));
    assert_eq!(site.calls(), calls);

    // Nobody is sent to where no caller may send us.
    let guarded = Scene::with(&[]).await;
    let sent = guarded.send(guarded.asking(&url)).await.unwrap();
    assert_eq!(preview(&sent), None);
    assert_eq!(site.calls(), calls);
}
