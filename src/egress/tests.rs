//! The client against a server of our own on loopback, which only a guard that allows it can reach.

use std::net::SocketAddr;

use futures::TryStreamExt as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use super::*;

const BOUNDS: Bounds = Bounds {
    bytes: 1_000,
    time: Duration::from_secs(20),
    redirects: 3,
};

fn allowing() -> Egress {
    Egress::new(Guard::new(vec!["127.0.0.0/8".parse().unwrap()]))
}

/// Answers every connection with what the function makes of the path, then closes it.
async fn server(answer: fn(&str, SocketAddr) -> String) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.windows(4).any(|end| end == b"\r\n\r\n") {
                    if stream.read_buf(&mut head).await.unwrap_or(0) == 0 {
                        return;
                    }
                }
                let head = String::from_utf8(head).unwrap();
                let path = head.split(' ').nth(1).unwrap();
                let _ = stream.write_all(answer(path, address).as_bytes()).await;
                if path == "/silent" {
                    let _ = stream.read_buf(&mut Vec::new()).await;
                }
            });
        }
    });
    address
}

async fn whole(egress: &Egress, url: &str) -> Result<Vec<u8>, EgressError> {
    let body = egress.fetch(url, BOUNDS).await?.into_stream();
    let chunks: Vec<Bytes> = body.try_collect().await?;
    Ok(chunks.concat())
}

fn pages(path: &str, _: SocketAddr) -> String {
    let ok = |length: usize, body: &str| {
        format!(
            "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: {length}\r\n\r\n{body}"
        )
    };
    let to = |location: &str| {
        format!("HTTP/1.1 302 Found\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n")
    };
    match path {
        "/good" => ok(5, "hello"),
        "/announced" => ok(5_000, "hello"),
        "/short" => ok(50, "hello"),
        "/endless" => format!("HTTP/1.1 200 OK\r\n\r\n{}", "x".repeat(5_000)),
        "/there" => to("/good"),
        "/round" => to("/round"),
        "/inside" => to("http://10.0.0.1/secret"),
        "/file" => to("file:///etc/passwd"),
        "/silent" => String::new(),
        _ => "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n".to_owned(),
    }
}

#[tokio::test]
async fn what_is_public_is_fetched_within_the_bounds() {
    let address = server(pages).await;
    let egress = allowing();
    let url = |path: &str| format!("http://{address}{path}");
    assert_eq!(whole(&egress, &url("/good")).await.unwrap(), b"hello");
    assert_eq!(whole(&egress, &url("/there")).await.unwrap(), b"hello");
    let fetched = egress.fetch(&url("/good"), BOUNDS).await.unwrap();
    assert_eq!(fetched.content_type.as_deref(), Some("text/plain"));
    assert_eq!(fetched.length, Some(5));

    let fails = async |path: &str| whole(&egress, &url(path)).await.unwrap_err();
    assert!(matches!(
        fails("/announced").await,
        EgressError::TooLarge(1_000)
    ));
    assert!(matches!(
        fails("/endless").await,
        EgressError::TooLarge(1_000)
    ));
    assert!(matches!(fails("/short").await, EgressError::Truncated));
    assert!(matches!(fails("/round").await, EgressError::Redirects));
    assert!(matches!(fails("/inside").await, EgressError::Blocked));
    assert!(matches!(fails("/file").await, EgressError::Url(_)));
    assert!(matches!(fails("/none").await, EgressError::Status(404)));

    let hasty = Bounds {
        time: Duration::from_millis(50),
        ..BOUNDS
    };
    let silent = egress.fetch(&url("/silent"), hasty).await;
    assert!(matches!(silent.err(), Some(EgressError::Slow)));
}

#[tokio::test]
async fn nobody_is_sent_inside() {
    let address = server(pages).await;
    let port = address.port();
    let egress = Egress::new(Guard::default());
    // Every spelling of loopback, and a name for it.
    for host in [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "0",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
        "localhost",
        "169.254.169.254",
        "[fd00:ec2::254]",
    ] {
        let error = whole(&egress, &format!("http://{host}:{port}/good")).await;
        let error = error.unwrap_err();
        assert!(
            // A machine without IPv6 may not even know the name.
            matches!(error, EgressError::Blocked | EgressError::Unknown),
            "{host}: {error:?}"
        );
    }
    for url in [
        "file:///etc/passwd",
        "ftp://example.com/",
        "gopher://example.com/",
        "data:text/plain,x",
        "http://user:secret@example.com/",
        "http://",
        "no url",
        "",
    ] {
        let error = whole(&egress, url).await.unwrap_err();
        assert!(matches!(error, EgressError::Url(_)), "{url}: {error:?}");
    }
}

#[tokio::test]
async fn a_post_takes_any_answer_and_follows_nobody() {
    let address = server(pages).await;
    let post = async |path: &str| {
        let url = format!("http://{address}{path}");
        let body = Bytes::from_static(b"{}");
        allowing().post(&url, HeaderMap::new(), body, BOUNDS).await
    };
    let answer = post("/good").await.unwrap();
    assert_eq!(
        (answer.status.as_u16(), &answer.body[..]),
        (200, &b"hello"[..])
    );
    assert_eq!(post("/there").await.unwrap().status.as_u16(), 302);
    assert_eq!(post("/endless").await.unwrap().body.len(), 1_000);
}
