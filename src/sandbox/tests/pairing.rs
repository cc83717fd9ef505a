//! Pairing by QR, by code, by the route for other projects' tests, and what is refused.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_device_pairs_by_qr_and_is_open_in_under_two_seconds() {
    let sandbox = sandbox().await;
    let number = phone(&sandbox, "Ada").await;
    let gateway = Gateway::fresh(&sandbox, None).await;
    let qr = gateway.qr().await;
    let started = Instant::now();
    let device = sandbox.scan_qr(number, &qr).await.unwrap();
    gateway.connected().await;
    assert!(
        started.elapsed() < Duration::from_secs(2),
        "took {:?}",
        started.elapsed()
    );

    assert_eq!(device, number.device(1));
    let client = gateway.client();
    assert_eq!(
        client.pn().unwrap().to_string(),
        format!("{number}:1@s.whatsapp.net")
    );
    let info = sandbox.phone(number).unwrap();
    assert_eq!(client.lid().unwrap().to_non_ad(), info.lid.jid());
    assert!(info.companions[0].connected);
    gateway.stop().await;
    sandbox.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_pairs_by_code() {
    let sandbox = sandbox().await;
    let number = phone(&sandbox, "Ada").await;
    let gateway = Gateway::fresh(&sandbox, Some(number)).await;
    let pick = |event: &Event| match event {
        Event::PairingCode(code) => Some(code.code.clone()),
        _ => None,
    };
    let code = gateway.events.next("a pairing code", pick).await;
    let device = sandbox.enter_code(number, &code).await.unwrap();
    gateway.connected().await;
    assert_eq!(device, number.device(1));
    gateway.stop().await;
    sandbox.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn codes_and_qr_texts_that_fit_nothing_are_refused() {
    let sandbox = sandbox().await;
    let number = phone(&sandbox, "Ada").await;
    let nobody = Number::from(15_550_009_999);
    assert!(matches!(
        sandbox.scan_qr(number, "hello").await,
        Err(SandboxError::Invalid { field: "qr", .. })
    ));
    assert!(matches!(
        sandbox.enter_code(number, "ABCD1234").await,
        Err(SandboxError::NothingToPair { field: "code" })
    ));
    assert!(matches!(
        sandbox.enter_code(number, "0").await,
        Err(SandboxError::Invalid { field: "code", .. })
    ));
    let gateway = Gateway::fresh(&sandbox, None).await;
    let qr = gateway.qr().await;
    assert!(matches!(
        sandbox.scan_qr(nobody, &qr).await,
        Err(SandboxError::NoSuchPhone(number)) if number == nobody
    ));
    // A forged reference, and a right one with foreign keys.
    let (reference, keys) = qr.split_once(',').unwrap();
    let forged = format!("2@forged,{keys}");
    assert!(matches!(
        sandbox.scan_qr(number, &forged).await,
        Err(SandboxError::NothingToPair { field: "qr" })
    ));
    let key = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    let foreign = format!("{reference},{key},{key},{key}");
    assert!(matches!(
        sandbox.scan_qr(number, &foreign).await,
        Err(SandboxError::NothingToPair { field: "qr" })
    ));
    gateway.stop().await;
    sandbox.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_secret_is_refused_by_the_device() {
    let sandbox = sandbox().await;
    let number = phone(&sandbox, "Ada").await;
    let gateway = Gateway::fresh(&sandbox, None).await;
    let qr = gateway.qr().await;
    let mut parts: Vec<&str> = qr.split(',').collect();
    parts[3] = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    let refusal = sandbox.scan_qr(number, &parts.join(",")).await.unwrap_err();
    assert!(matches!(refusal, SandboxError::Refused(_)), "{refusal}");
    assert!(sandbox.phone(number).unwrap().companions.is_empty());
    gateway.stop().await;
    sandbox.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_scan_route_makes_a_dormant_account() {
    let sandbox = sandbox().await;
    let gateway = Gateway::fresh(&sandbox, None).await;
    let qr = gateway.qr().await;
    let answer = post_scan(&sandbox, &qr).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    gateway.connected().await;
    let phones = sandbox.phones();
    assert!(phones[0].dormant);
    assert_eq!(phones[0].companions.len(), 1);
    assert!(
        post_scan(&sandbox, "junk")
            .await
            .starts_with("HTTP/1.1 400")
    );
    gateway.stop().await;
    sandbox.shutdown().await;
}

async fn post_scan(sandbox: &Sandbox, qr: &str) -> String {
    let mut socket = tokio::net::TcpStream::connect(sandbox.address())
        .await
        .unwrap();
    let request = format!(
        "POST /admin/mock-phone/scan-qr HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{qr}",
        qr.len()
    );
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_for_a_number_nobody_has_is_refused() {
    let sandbox = sandbox().await;
    let gateway = Gateway::fresh(&sandbox, Some(Number::from(15_550_009_999))).await;
    let pick = |event: &Event| matches!(event, Event::PairingCodeError(_)).then_some(());
    gateway.events.next("the refusal", pick).await;
    gateway.stop().await;
    sandbox.shutdown().await;
}

/// Without the pinned key the library wants WhatsApp's certificate, and ours is not: no real session is weakened.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_pins_nothing_does_not_get_in() {
    let sandbox = sandbox().await;
    let (listener, url) = in_between().await;
    let gateway = Gateway::dialling(url, Arc::new(InMemoryBackend::new()), None).await;
    dials_in_vain(&gateway, &listener, &sandbox).await;
    gateway.stop().await;
    sandbox.shutdown().await;
}

/// A network with another key than the pinned one offers a full handshake instead, and the library, which cannot verify
/// it, neither goes on nor forgets the key it trusts.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_pins_another_key_does_not_get_in() {
    let sandbox = sandbox().await;
    let (listener, url) = in_between().await;
    let mut other_key = sandbox.static_key();
    other_key[7] ^= 1;
    let gateway = Gateway::dialling(url, Gateway::pinning(other_key).await, None).await;
    dials_in_vain(&gateway, &listener, &sandbox).await;
    let client = gateway.client();
    let device = client.persistence_manager().get_device_snapshot();
    assert_eq!(
        device.server_cert_chain.clone().unwrap().leaf.key,
        other_key
    );
    gateway.stop().await;
    sandbox.shutdown().await;
}

async fn in_between() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}/ws/chat", listener.local_addr().unwrap());
    (listener, url)
}

/// It dials, is offered the certificate, hangs up, and so again.
async fn dials_in_vain(gateway: &Gateway, listener: &TcpListener, sandbox: &Sandbox) {
    for _ in 0..2 {
        let dialled = tokio::time::timeout(PATIENCE, listener.accept()).await;
        let (mut inside, _) = dialled.expect("it never dialled").unwrap();
        let mut outside = tokio::net::TcpStream::connect(sandbox.address())
            .await
            .unwrap();
        let (up, down) = tokio::io::copy_bidirectional(&mut inside, &mut outside)
            .await
            .unwrap();
        assert!(up > 0 && down > 0);
    }
    assert!(!gateway.client().is_logged_in());
    let code = |event: &Event| matches!(event, Event::PairingQrCode(_));
    assert_eq!(gateway.events.count(code), 0);
}
