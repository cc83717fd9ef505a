//! Connections that break, logins that fail, devices that go, networks that restart.

use super::*;

fn resumed_by(sandbox: &Sandbox, device: DeviceAddress) -> usize {
    let log = sandbox.wire_log(device, 0);
    log.iter()
        .filter(|entry| entry.text.starts_with("<success"))
        .count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_connection_comes_back() {
    let sandbox = sandbox().await;
    let (ada, bob) = (phone(&sandbox, "Ada").await, phone(&sandbox, "Bob").await);
    let (gateway, device) = Gateway::paired(&sandbox, ada).await;
    assert_eq!(resumed_by(&sandbox, device), 1);
    sandbox.drop_connection(device).unwrap();
    gateway.connected().await;
    assert_eq!(resumed_by(&sandbox, device), 2);
    sandbox.send_text(bob, ada, "still there?").await.unwrap();
    gateway.received("still there?").await;
    gateway.stop().await;
    sandbox.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_sent_to_a_phone_that_is_off_waits_for_it() {
    let sandbox = sandbox().await;
    let (ada, bob) = (phone(&sandbox, "Ada").await, phone(&sandbox, "Bob").await);
    sandbox.switch_phone(bob, false).await.unwrap();
    assert!(sandbox.phone(bob).unwrap().switched_off);
    sandbox.send_text(ada, bob, "are you there?").await.unwrap();
    assert!(matches!(
        sandbox.send_text(bob, ada, "yes").await,
        Err(SandboxError::NotConnected(_))
    ));
    sandbox.switch_phone(bob, true).await.unwrap();
    assert!(!sandbox.phone(bob).unwrap().switched_off);
    sandbox.send_text(bob, ada, "now I am").await.unwrap();
    seen(&sandbox, bob, |one| {
        one.text.as_deref() == Some("are you there?")
    })
    .await;
    seen(&sandbox, ada, |one| one.text.as_deref() == Some("now I am")).await;
    sandbox.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unlinked_device_is_logged_out_and_stays_out() {
    let sandbox = sandbox().await;
    let ada = phone(&sandbox, "Ada").await;
    let (gateway, device) = Gateway::paired(&sandbox, ada).await;
    sandbox.unlink_device(device).unwrap();
    let pick = |event: &Event| matches!(event, Event::LoggedOut(_)).then_some(());
    gateway.events.next("logged out", pick).await;
    assert!(sandbox.phone(ada).unwrap().companions.is_empty());
    assert!(matches!(
        sandbox.unlink_device(device),
        Err(SandboxError::NoSuchDevice(_))
    ));
    gateway.stop().await;
    // The number of a device that went is not given to the next.
    let (gateway, next) = Gateway::paired(&sandbox, ada).await;
    assert_eq!(next, ada.device(2));
    gateway.stop().await;
    sandbox.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_can_log_itself_out() {
    let sandbox = sandbox().await;
    let ada = phone(&sandbox, "Ada").await;
    let (gateway, _) = Gateway::paired(&sandbox, ada).await;
    gateway.client().logout().await;
    until("the device is gone", || {
        sandbox.phone(ada).unwrap().companions.is_empty()
    })
    .await;
    gateway.stop().await;
    sandbox.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn logins_fail_as_told() {
    let sandbox = sandbox().await;
    let ada = phone(&sandbox, "Ada").await;
    let (gateway, device) = Gateway::paired(&sandbox, ada).await;
    let fail = |reason, code, expire| {
        let failure = LoginFailure {
            reason,
            code,
            expire,
        };
        sandbox.fail_next_login(Some(ada), None, failure).unwrap();
        sandbox.drop_connection(device).unwrap();
    };
    fail(503, None, None);
    gateway.connected().await;

    fail(402, Some(101), Some(3600));
    let pick = |event: &Event| match event {
        Event::TemporaryBan(ban) => Some(ban.expire),
        _ => None,
    };
    let expire = gateway.events.next("the ban", pick).await;
    assert_eq!(expire.num_seconds(), 3600);
    let backend = gateway.stop().await;

    let gateway = Gateway::over(&sandbox, backend, None).await;
    gateway.connected().await;
    fail(401, None, None);
    let pick = |event: &Event| matches!(event, Event::LoggedOut(_)).then_some(());
    gateway.events.next("logged out", pick).await;
    gateway.stop().await;
    sandbox.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_second_login_of_a_device_replaces_the_first() {
    let sandbox = sandbox().await;
    let ada = phone(&sandbox, "Ada").await;
    let (first, _) = Gateway::paired(&sandbox, ada).await;
    // Stopped once, so that what the client knows is in its store.
    let backend = first.stop().await;
    let device = backend.load().await.unwrap().unwrap();
    let first = Gateway::over(&sandbox, backend, None).await;
    first.connected().await;
    let copy = Arc::new(InMemoryBackend::new());
    copy.create().await.unwrap();
    copy.save(&device).await.unwrap();
    let second = Gateway::over(&sandbox, copy, None).await;
    let pick = |event: &Event| matches!(event, Event::StreamReplaced(_)).then_some(());
    first.events.next("replaced", pick).await;
    first.stop().await;
    second.stop().await;
    sandbox.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_error_ends_the_connection() {
    let sandbox = sandbox().await;
    let ada = phone(&sandbox, "Ada").await;
    let (gateway, device) = Gateway::paired(&sandbox, ada).await;
    sandbox.send_stream_error(device, Some(503), None).unwrap();
    gateway.connected().await;
    gateway.stop().await;
    until("the device is gone", || {
        !sandbox.phone(ada).unwrap().companions[0].connected
    })
    .await;
    assert!(matches!(
        sandbox.send_stream_error(device, Some(503), None),
        Err(SandboxError::NotConnected(_))
    ));
    sandbox.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_key_does_not_get_into_a_device() {
    let sandbox = sandbox().await;
    let ada = phone(&sandbox, "Ada").await;
    let (gateway, _) = Gateway::paired(&sandbox, ada).await;
    let mut device = gateway.backend.load().await.unwrap().unwrap();
    gateway.stop().await;
    device.noise_key = wacore_libsignal::protocol::KeyPair::generate(&mut keys::random());
    let thief = Arc::new(InMemoryBackend::new());
    thief.create().await.unwrap();
    thief.save(&device).await.unwrap();
    let thief = Gateway::over(&sandbox, thief, None).await;
    let pick = |event: &Event| matches!(event, Event::LoggedOut(_)).then_some(());
    thief.events.next("refused", pick).await;
    thief.stop().await;
    sandbox.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_survives_a_restart_of_the_network() {
    let folder = tempfile::tempdir().unwrap();
    let sandbox = sandbox_in(Some(folder.path())).await;
    let (ada, bob) = (phone(&sandbox, "Ada").await, phone(&sandbox, "Bob").await);
    let (gateway, _) = Gateway::paired(&sandbox, ada).await;
    sandbox.send_text(bob, ada, "before").await.unwrap();
    let before = gateway.received("before").await;
    gateway.send(before.chat, "before, back").await;
    seen(&sandbox, bob, |message| {
        message.text.as_deref() == Some("before, back")
    })
    .await;
    let backend = gateway.stop().await;
    until("the device is gone", || {
        !sandbox.phone(ada).unwrap().companions[0].connected
    })
    .await;
    sandbox.send_text(bob, ada, "waiting").await.unwrap();
    let (address, static_key) = (sandbox.address(), sandbox.static_key());
    sandbox.shutdown().await;
    drop(sandbox);

    let sandbox = sandbox_at(address, Some(folder.path())).await;
    assert_eq!(sandbox.static_key(), static_key);
    assert_eq!(sandbox.phones().len(), 2);
    seen(&sandbox, bob, |message| {
        message.text.as_deref() == Some("before, back")
    })
    .await;
    let gateway = Gateway::over(&sandbox, backend, None).await;
    gateway.connected().await;
    gateway.received("waiting").await;
    sandbox.send_text(bob, ada, "after").await.unwrap();
    let after = gateway.received("after").await;
    gateway.send(after.chat, "after, back").await;
    seen(&sandbox, bob, |message| {
        message.text.as_deref() == Some("after, back")
    })
    .await;
    gateway.stop().await;
    sandbox.shutdown().await;
}

/// The network dies at once; what it had acked to the sender is delivered by its successor.
#[tokio::test(flavor = "multi_thread")]
async fn an_acked_message_survives_the_death_of_the_network() {
    let (folder, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let sandbox = sandbox_in(Some(folder.path())).await;
    let (ada, bob) = (phone(&sandbox, "Ada").await, phone(&sandbox, "Bob").await);
    let (one, _) = Gateway::paired(&sandbox, ada).await;
    let (two, _) = Gateway::paired(&sandbox, bob).await;
    let absent = two.stop().await;
    until("the device is gone", || {
        !sandbox.phone(bob).unwrap().companions[0].connected
    })
    .await;
    let id = one.send(bob.jid(), "acked").await;
    let pick = |event: &Event| match event {
        Event::ServerAck(ack) if ack.id == id => Some(()),
        _ => None,
    };
    one.events.next("the ack", pick).await;
    // What is in the file now is all that a kill would leave.
    for file in std::fs::read_dir(folder.path()).unwrap() {
        let file = file.unwrap();
        if file.path().is_dir() {
            continue;
        }
        std::fs::copy(file.path(), copy.path().join(file.file_name())).unwrap();
    }
    one.stop().await;
    let address = sandbox.address();
    sandbox.shutdown().await;
    drop(sandbox);

    let sandbox = sandbox_at(address, Some(copy.path())).await;
    let two = Gateway::over(&sandbox, absent, None).await;
    two.connected().await;
    assert_eq!(two.received("acked").await.id, id);
    two.stop().await;
    sandbox.shutdown().await;
}
