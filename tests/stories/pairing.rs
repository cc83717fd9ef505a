//! How an account comes in, stays, comes back, and goes.

use wagate::{
    proto::v1::{
        self, InstanceState, PairingRefusedReason, event::Payload, pair_instance_response::Step,
    },
    sandbox::{LoginFailure, PhoneOptions},
};

use crate::support::{Stage, Watcher, info, within};

#[tokio::test(flavor = "multi_thread")]
async fn by_qr() {
    let stage = Stage::new().await;
    let api = stage.api().await;
    let phone = stage.phone("Owner").await;
    let instance = api.create("one").await;
    assert_eq!(instance.state(), InstanceState::Unpaired);

    let mut steps = stage.pair(&api, "one", &phone).await;
    let Some(Step::Paired(paired)) = steps.pop() else {
        panic!("not paired: {steps:?}");
    };
    let Some(Step::QrCode(code)) = steps.first() else {
        panic!("no QR: {steps:?}");
    };
    assert!(code.png.starts_with(b"\x89PNG\r\n"));
    assert!(code.expire_time.is_some());
    let instance = paired.instance.unwrap();
    assert_eq!(instance.phone_number, phone.number.to_string());
    assert!(instance.lid.ends_with("@lid"));

    let mut watcher = Watcher::from_earliest(&api).await;
    let open = watcher.until_state(&instance.id, InstanceState::Open).await;
    assert_eq!(open.phone_number, phone.number.to_string());
    // The codes were told, and are nobody's business any more.
    let codes: Vec<_> = watcher
        .seen
        .iter()
        .filter_map(|event| match &event.payload {
            Some(Payload::ConnectionPairing(pairing)) => Some(pairing.clone()),
            _ => None,
        })
        .collect();
    assert!(!codes.is_empty());
    for code in codes {
        assert!(code.qr_text.is_empty() && code.pairing_code.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn by_code() {
    let stage = Stage::new().await;
    let api = stage.api().await;
    let phone = stage.phone("Owner").await;
    api.create("one").await;
    let request = v1::PairInstanceRequest {
        instance: "one".to_owned(),
        phone_number: phone.number.to_string(),
    };
    let stream = api.instances().pair_instance(request).await.unwrap();
    let mut stream = stream.into_inner();
    let mut steps = Vec::new();
    while let Some(response) = within("a step", stream.message()).await.unwrap() {
        let step = response.step.unwrap();
        if let Step::PairingCode(code) = &step {
            assert_eq!(code.code.len(), 8, "{}", code.code);
            let entered = stage.network.enter_code(phone.number, &code.code);
            within("the phone's answer", entered).await.unwrap();
        }
        steps.push(step);
    }
    assert!(
        matches!(&steps[..], [Step::PairingCode(_), Step::Paired(_)]),
        "{steps:?}"
    );
    let open = api.instance("one").await;
    assert_eq!(open.state(), InstanceState::Open);
    let peer = stage.phone("Peer").await;
    api.send("one", &peer.number.to_string(), "by code")
        .await
        .unwrap();
    peer.until_text("by code").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_leaves_ends_the_pairing() {
    let stage = Stage::new().await;
    let api = stage.api().await;
    let instance = api.create("one").await;
    let mut watcher = Watcher::from_earliest(&api).await;
    let request = v1::PairInstanceRequest {
        instance: "one".to_owned(),
        ..Default::default()
    };
    let stream = api
        .instances()
        .pair_instance(request.clone())
        .await
        .unwrap();
    let mut stream = stream.into_inner();
    within("a QR", stream.message()).await.unwrap().unwrap();

    let second = api.instances().pair_instance(request).await.unwrap_err();
    assert_eq!(second.code(), tonic::Code::FailedPrecondition);
    assert_eq!(info(&second), "PAIRING_IN_PROGRESS");

    drop(stream);
    watcher
        .until("unpaired again", |event| match &event.payload {
            Some(Payload::ConnectionUpdated(update)) => {
                (update.state() == InstanceState::Unpaired).then_some(())
            }
            _ => None,
        })
        .await;
    // And another can begin.
    let phone = stage.phone("Owner").await;
    let steps = stage.pair(&api, "one", &phone).await;
    assert!(matches!(steps.last(), Some(Step::Paired(_))), "{steps:?}");
    watcher.until_state(&instance.id, InstanceState::Open).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn disconnecting_refuses_a_running_pairing() {
    let stage = Stage::new().await;
    let api = stage.api().await;
    api.create("one").await;
    let request = v1::PairInstanceRequest {
        instance: "one".to_owned(),
        ..Default::default()
    };
    let stream = api.instances().pair_instance(request).await.unwrap();
    let mut stream = stream.into_inner();
    within("a QR", stream.message()).await.unwrap().unwrap();
    let request = v1::DisconnectInstanceRequest {
        instance: "one".to_owned(),
        ..Default::default()
    };
    api.instances().disconnect_instance(request).await.unwrap();
    let mut last = None;
    while let Some(response) = within("the end", stream.message()).await.unwrap() {
        last = response.step;
    }
    let Some(Step::Refused(refused)) = last else {
        panic!("ended with {last:?}");
    };
    assert_eq!(refused.reason(), PairingRefusedReason::Cancelled);
    assert_eq!(api.instance("one").await.state(), InstanceState::Unpaired);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_connection_comes_back_with_the_known_key() {
    let stage = Stage::new().await;
    let api = stage.api().await;
    let (instance, owner) = stage.open_instance(&api, "one").await;
    let mut watcher = Watcher::after(&api, &head(&api).await).await;

    stage.network.drop_connection(owner.companion()).unwrap();
    watcher
        .until_state(&instance.id, InstanceState::Connecting)
        .await;
    watcher.until_state(&instance.id, InstanceState::Open).await;

    let peer = stage.phone("Peer").await;
    peer.send(&instance.phone_number, "still there?").await;
    watcher.until_received(&instance.id, "still there?").await;
    api.send("one", &peer.number.to_string(), "yes")
        .await
        .unwrap();
    peer.until_text("yes").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_gateway_brings_everybody_back() {
    let mut stage = Stage::new().await;
    let api = stage.api().await;
    let (one, _) = stage.open_instance(&api, "one").await;
    let (two, _) = stage.open_instance(&api, "two").await;
    api.create("three").await;
    let request = v1::DisconnectInstanceRequest {
        instance: "two".to_owned(),
        ..Default::default()
    };
    api.instances().disconnect_instance(request).await.unwrap();
    let cursor = head(&api).await;

    stage.restart_gateway().await;
    let api = stage.api().await;
    let mut watcher = Watcher::after(&api, &cursor).await;
    watcher.until_state(&one.id, InstanceState::Open).await;
    // What was disconnected on request stays so, until asked again.
    assert_eq!(
        api.instance("two").await.state(),
        InstanceState::Disconnected
    );
    assert_eq!(api.instance("three").await.state(), InstanceState::Unpaired);
    let request = v1::ConnectInstanceRequest {
        instance: "two".to_owned(),
        ..Default::default()
    };
    api.instances().connect_instance(request).await.unwrap();
    watcher.until_state(&two.id, InstanceState::Open).await;
    api.send("two", &one.phone_number, "back").await.unwrap();
    watcher.until_received(&one.id, "back").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_network_is_the_same_network() {
    let mut stage = Stage::new().await;
    let api = stage.api().await;
    let (instance, _) = stage.open_instance(&api, "one").await;
    let peer = stage.phone("Peer").await;
    peer.send(&instance.phone_number, "before").await;
    let mut watcher = Watcher::from_earliest(&api).await;
    watcher.until_received(&instance.id, "before").await;

    stage.restart_network().await;
    watcher
        .until_state(&instance.id, InstanceState::Connecting)
        .await;
    watcher.until_state(&instance.id, InstanceState::Open).await;
    stage
        .network
        .send_text(peer.number, instance.phone_number.parse().unwrap(), "after")
        .await
        .unwrap();
    watcher.until_received(&instance.id, "after").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unlinked_by_the_phone() {
    let stage = Stage::new().await;
    let api = stage.api().await;
    let (instance, owner) = stage.open_instance(&api, "one").await;
    let mut watcher = Watcher::from_earliest(&api).await;
    stage.network.unlink_device(owner.companion()).unwrap();
    watcher
        .until_state(&instance.id, InstanceState::LoggedOut)
        .await;
    let refused = api.send("one", "15550001111", "hello?").await.unwrap_err();
    assert_eq!(info(&refused), "INSTANCE_LOGGED_OUT");
    let request = v1::ConnectInstanceRequest {
        instance: "one".to_owned(),
        ..Default::default()
    };
    let refused = api.instances().connect_instance(request).await.unwrap_err();
    assert_eq!(info(&refused), "INSTANCE_LOGGED_OUT");

    // It can be paired again, with another account.
    let phone = stage.phone("Another").await;
    let steps = stage.pair(&api, "one", &phone).await;
    assert!(matches!(steps.last(), Some(Step::Paired(_))), "{steps:?}");
    let paired = api.instance("one").await;
    assert_eq!(paired.phone_number, phone.number.to_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn logged_out_by_us() {
    let stage = Stage::new().await;
    let api = stage.api().await;
    let (_, owner) = stage.open_instance(&api, "one").await;
    let request = v1::LogoutInstanceRequest {
        instance: "one".to_owned(),
        ..Default::default()
    };
    let logged_out = api.instances().logout_instance(request).await.unwrap();
    let logged_out = logged_out.into_inner().instance.unwrap();
    assert_eq!(logged_out.state(), InstanceState::LoggedOut);
    // The phone no longer lists it.
    assert!(
        stage
            .network
            .phone(owner.number)
            .unwrap()
            .companions
            .is_empty()
    );
}

/// Restarts the instance into a login that fails; returns what is told.
async fn login_fails(failure: LoginFailure, expected: InstanceState) -> v1::ConnectionUpdated {
    let mut stage = Stage::new().await;
    let api = stage.api().await;
    let (instance, owner) = stage.open_instance(&api, "one").await;
    stage
        .network
        .fail_next_login(Some(owner.number), Some(1), failure)
        .unwrap();
    let mut watcher = Watcher::after(&api, &head(&api).await).await;
    let request = v1::RestartInstanceRequest {
        instance: "one".to_owned(),
        ..Default::default()
    };
    api.instances().restart_instance(request).await.unwrap();
    let told = watcher.until_state(&instance.id, expected).await;

    // A terminal state survives a restart of the gateway and is never left by itself.
    if expected != InstanceState::Open {
        stage.restart_gateway().await;
        let api = stage.api().await;
        assert_eq!(api.instance("one").await.state(), expected);
    }
    told
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_refused_with_401_logs_out() {
    let failure = LoginFailure {
        reason: 401,
        ..Default::default()
    };
    let told = login_fails(failure, InstanceState::LoggedOut).await;
    assert_eq!(told.code, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_refused_with_402_is_a_ban_until() {
    let failure = LoginFailure {
        reason: 402,
        code: Some(101),
        expire: Some(3_600),
    };
    let told = login_fails(failure, InstanceState::Banned).await;
    assert_eq!(told.code, 101);
    assert!(told.banned_until.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_refused_with_405_is_outdated() {
    let failure = LoginFailure {
        reason: 405,
        ..Default::default()
    };
    login_fails(failure, InstanceState::Outdated).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_refused_with_503_is_tried_again() {
    let failure = LoginFailure {
        reason: 503,
        ..Default::default()
    };
    login_fails(failure, InstanceState::Open).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn replaced_by_another_program() {
    let stage = Stage::new().await;
    let api = stage.api().await;
    let (instance, owner) = stage.open_instance(&api, "one").await;
    let mut watcher = Watcher::after(&api, &head(&api).await).await;
    stage
        .network
        .send_stream_error(owner.companion(), None, Some("replaced"))
        .unwrap();
    watcher
        .until_state(&instance.id, InstanceState::Replaced)
        .await;
    let refused = api.send("one", "15550001111", "hello?").await.unwrap_err();
    assert_eq!(info(&refused), "INSTANCE_REPLACED");
    // Only on purpose.
    let request = v1::ConnectInstanceRequest {
        instance: "one".to_owned(),
        ..Default::default()
    };
    api.instances().connect_instance(request).await.unwrap();
    watcher.until_state(&instance.id, InstanceState::Open).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_instance_is_gone_with_all_it_had() {
    let stage = Stage::new().await;
    let api = stage.api().await;
    let (instance, owner) = stage
        .open_instance_with(
            &api,
            "one",
            PhoneOptions {
                push_name: "Owner".to_owned(),
                ..Default::default()
            },
        )
        .await;
    let mut request = v1::DeleteInstanceRequest {
        instance: "one".to_owned(),
        request_id: "gone".to_owned(),
    };
    for _ in 0..2 {
        let deleted = api.instances().delete_instance(request.clone()).await;
        deleted.unwrap();
    }
    request.request_id.clear();
    let missing = api.instances().delete_instance(request).await.unwrap_err();
    assert_eq!(info(&missing), "INSTANCE_NOT_FOUND");
    assert!(
        stage
            .network
            .phone(owner.number)
            .unwrap()
            .companions
            .is_empty()
    );
    let request = v1::GetInstanceRequest {
        instance: "one".to_owned(),
    };
    let missing = api.instances().get_instance(request).await.unwrap_err();
    assert_eq!(info(&missing), "INSTANCE_NOT_FOUND");

    let mut watcher = Watcher::from_earliest(&api).await;
    watcher
        .until("instance.deleted", |event| {
            (event.r#type == "instance.deleted").then_some(())
        })
        .await;
    assert_eq!(watcher.seen.len(), 1);
    assert_eq!(watcher.seen[0].instance, instance.id);
    // The name is free again, the number is not.
    assert!(api.create("one").await.number > instance.number);
}

async fn head(api: &crate::support::Api) -> String {
    let request = v1::GetEventLogInfoRequest {};
    let info = api.events().get_event_log_info(request).await.unwrap();
    info.into_inner().head_cursor
}
