//! Who gets in at all: TLS and its reload, certificates of clients, numbers, sizes.

use std::{fs, path::Path};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tonic::{
    codec::CompressionEncoding,
    transport::{Certificate, ClientTlsConfig, Identity},
};

use super::*;
use crate::grpc::{RateLimit, TlsFiles};

/// An authority that signs certificates.
struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key in PEM.
struct Signed {
    certificate: String,
    key: String,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        Self(CertifiedIssuer::self_signed(params, key).unwrap())
    }

    fn pem(&self) -> String {
        self.0.pem()
    }

    fn sign(&self) -> Signed {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        Signed {
            certificate: params.signed_by(&key, &self.0).unwrap().pem(),
            key: key.serialize_pem(),
        }
    }
}

fn files(folder: &Path, client_ca: bool) -> TlsFiles {
    TlsFiles {
        certificate: folder.join("certificate.pem"),
        key: folder.join("key.pem"),
        client_ca: client_ca.then(|| folder.join("ca.pem")),
        reload: Duration::from_millis(20),
    }
}

fn write(files: &TlsFiles, signed: &Signed) {
    fs::write(&files.key, &signed.key).unwrap();
    fs::write(&files.certificate, &signed.certificate).unwrap();
}

async fn start_tls(files: &TlsFiles) -> Running {
    let tls = ServerConfig {
        tls: Some(files.clone()),
        ..config(limits())
    };
    start_with(tls, Services::new()).await
}

/// Whether somebody who trusts this authority, and may show this, gets an answer.
async fn is_served(running: &Running, trusts: &Authority, shows: Option<&Signed>) -> bool {
    let mut tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(trusts.pem()))
        .domain_name("localhost");
    if let Some(signed) = shows {
        tls = tls.identity(Identity::from_pem(&signed.certificate, &signed.key));
    }
    let endpoint = Channel::from_shared(format!("https://{}", running.address)).unwrap();
    let Ok(channel) = within(endpoint.tls_config(tls).unwrap().connect()).await else {
        return false;
    };
    let key = WithKey(running.admin.clone());
    let mut client = EventServiceClient::with_interceptor(channel, key);
    within(client.get_event_log_info(v1::GetEventLogInfoRequest {}))
        .await
        .is_ok()
}

#[tokio::test]
async fn certificates_are_read_again_without_a_restart() {
    let (first, second) = (Authority::new(), Authority::new());
    let folder = tempfile::tempdir().unwrap();
    let files = files(folder.path(), false);
    write(&files, &first.sign());
    let running = start_tls(&files).await;
    assert!(is_served(&running, &first, None).await);
    assert!(!is_served(&running, &second, None).await);

    // Half-written files change nothing.
    fs::write(&files.certificate, "-----BEGIN CERT").unwrap();
    assert!(is_served(&running, &first, None).await);

    write(&files, &second.sign());
    within(async {
        while !is_served(&running, &second, None).await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    assert!(!is_served(&running, &first, None).await);
}

#[tokio::test]
async fn an_authority_for_clients_lets_only_its_own_in() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let folder = tempfile::tempdir().unwrap();
    let files = files(folder.path(), true);
    write(&files, &ours.sign());
    fs::write(folder.path().join("ca.pem"), ours.pem()).unwrap();
    let running = start_tls(&files).await;
    assert!(is_served(&running, &ours, Some(&ours.sign())).await);
    assert!(!is_served(&running, &ours, Some(&theirs.sign())).await);
    assert!(!is_served(&running, &ours, None).await);
}

#[tokio::test]
async fn files_that_are_no_good_at_the_start_are_refused() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let folder = tempfile::tempdir().unwrap();
    let files = files(folder.path(), false);
    write(&files, &ours.sign());
    fs::write(&files.key, theirs.sign().key).unwrap();
    let refused = within(start_tls(&files).await.task).await.unwrap();
    let told = format!("{:#}", refused.unwrap_err());
    assert!(told.contains("can't be used together"), "{told}");
}

#[tokio::test]
async fn a_slow_handshake_ends_and_keeps_nobody_waiting() {
    let ours = Authority::new();
    let folder = tempfile::tempdir().unwrap();
    let files = files(folder.path(), false);
    write(&files, &ours.sign());
    let patience = ServerConfig {
        tls: Some(files),
        connections: ConnectionLimits {
            opening: Duration::from_secs(1),
            ..ConnectionLimits::default()
        },
        ..config(limits())
    };
    let running = start_with(patience, Services::new()).await;
    let mut slow = TcpStream::connect(running.address).await.unwrap();
    // The beginning of a ClientHello.
    slow.write_all(&[0x16, 3, 1, 2, 0, 1]).await.unwrap();
    assert!(is_served(&running, &ours, None).await);
    within(async { while slow.read_u8().await.is_ok() {} }).await;
}

#[tokio::test]
async fn an_address_has_so_many_connections() {
    let few = ServerConfig {
        connections: ConnectionLimits {
            per_address: 2,
            ..ConnectionLimits::default()
        },
        ..config(limits())
    };
    let running = start_with(few, Services::new()).await;
    let mut first = running.events().await;
    let info = v1::GetEventLogInfoRequest {};
    within(first.get_event_log_info(info)).await.unwrap();
    let second = TcpStream::connect(running.address).await.unwrap();
    // The server's greeting says that it was let in.
    within(second.readable()).await.unwrap();
    let mut third = TcpStream::connect(running.address).await.unwrap();
    assert!(within(third.read_u8()).await.is_err(), "is hung up on");
    drop(second);
    within(async {
        loop {
            let mut again = TcpStream::connect(running.address).await.unwrap();
            if again.read_u8().await.is_ok() {
                break;
            }
        }
    })
    .await;
    within(first.get_event_log_info(info)).await.unwrap();
}

#[tokio::test]
async fn a_key_that_calls_too_often_is_refused_alone() {
    let limited = ServerConfig {
        rate: Some(RateLimit {
            per_second: 1.try_into().unwrap(),
            burst: 2.try_into().unwrap(),
        }),
        ..config(limits())
    };
    let running = start_with(limited, Services::new()).await;
    let mut client = running.events().await;
    let info = v1::GetEventLogInfoRequest {};
    let refusal = within(async {
        loop {
            match client.get_event_log_info(info).await {
                Ok(_) => {}
                refused => return refused,
            }
        }
    })
    .await;
    let details = refused(refusal, Code::ResourceExhausted, "RATE_LIMITED");
    let wait = details.retry_info().unwrap().retry_delay.unwrap();
    assert!(wait <= Duration::from_secs(1), "{wait:?}");
    let (_, key) = running.key(&[Permission::EventsRead], &[]).await;
    let mut other = running.events_as(&key).await;
    within(other.get_event_log_info(info)).await.unwrap();
}

#[tokio::test]
async fn the_size_of_a_message_counts_before_it_was_compressed() {
    let running = start().await;
    let channel = running.channel().await;
    let key = WithKey(running.admin.clone());
    let mut client = ApiKeyServiceClient::with_interceptor(channel, key)
        .send_compressed(CompressionEncoding::Gzip);
    // A few kilobytes on the wire.
    let request = v1::CreateApiKeyRequest {
        display_name: "x".repeat(5 << 20),
        ..Default::default()
    };
    refused(
        within(client.create_api_key(request)).await,
        Code::InvalidArgument,
        "FIELD_INVALID",
    );

    // Headers have a limit as well, and the connection survives who exceeds it.
    let mut client = running.events().await;
    let mut request = Request::new(v1::GetEventLogInfoRequest {});
    let long = "x".repeat(17 << 10).parse().unwrap();
    request.metadata_mut().insert("x-long", long);
    within(client.get_event_log_info(request))
        .await
        .unwrap_err();
    let info = v1::GetEventLogInfoRequest {};
    within(client.get_event_log_info(info)).await.unwrap();
}
