//! Lists whose program dies, or whose account goes: nobody gets it twice, nobody is forgotten.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    path::Path,
    time::Duration,
};

use futures::{FutureExt as _, StreamExt as _};
use rand::RngExt as _;
use tokio::process::Command;
use wagate::{
    proto::v1::{self, QueueItemState, QueueState, pair_instance_response::Step},
    sandbox::{PhoneOptions, Sandbox, SandboxConfig},
};

use super::{crowd, list, to};
use crate::support::{
    Api, Stage, Watcher,
    program::{Program, start, wagate},
    within,
};

/// How many get the message while the program is killed again and again.
const RECIPIENTS: usize = 1_000;

/// How often it is killed.
const DEATHS: usize = 12;

/// `wagate serve` on a network that runs here.
fn serve(folder: &Path, network: &Sandbox) -> Program {
    let mut command: Command = wagate(folder);
    command
        .args(["serve", "--listen", "127.0.0.1:0", "--data-dir", "data"])
        .env("WAGATE_SESSIONS__DEFAULT_NETWORK", "sandbox")
        .env("WAGATE_SANDBOX__URL", network.ws_url())
        .env(
            "WAGATE_SANDBOX__STATIC_KEY",
            hex::encode(network.static_key()),
        );
    start(command)
}

async fn address(program: &mut Program) -> SocketAddr {
    let line = program.results.until("listens on ").await;
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_survives_being_killed_again_and_again() {
    let folder = tempfile::tempdir().unwrap();
    let network = Sandbox::start(SandboxConfig {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        data_dir: None,
    })
    .await
    .unwrap();
    let owner = network.create_phone(PhoneOptions::default()).await.unwrap();
    let mut phones = Vec::new();
    for _ in 0..RECIPIENTS {
        let options = PhoneOptions {
            dormant: true,
            ..Default::default()
        };
        phones.push(network.create_phone(options).await.unwrap().number);
    }
    let mut program = serve(folder.path(), &network);
    let mut door = address(&mut program).await;
    program.results.until("only this once").await;
    program.results.line().await;
    let key = program.results.line().await.unwrap().trim().to_owned();
    let api = Api::connect(door, Some(&key)).await;
    api.create("one").await;
    let request = v1::PairInstanceRequest {
        instance: "one".to_owned(),
        ..Default::default()
    };
    let mut steps = api
        .instances()
        .pair_instance(request)
        .await
        .unwrap()
        .into_inner();
    while let Some(step) = within("a step", steps.message()).await.unwrap() {
        if let Some(Step::QrCode(code)) = step.step {
            network.scan_qr(owner.number, &code.text).await.unwrap();
        }
    }
    let recipients = phones.iter().map(|number| to(*number, "you")).collect();
    let created = api
        .create_queue(list("one", "Hello {{name}}", recipients))
        .await;
    let id = created.queue.unwrap().id;

    let mut deaths = 0;
    loop {
        let api = Api::connect(door, Some(&key)).await;
        let patience = Duration::from_millis(rand::rng().random_range(300..2_500));
        if deaths < DEATHS {
            tokio::time::sleep(patience).await;
            let now = api.queue("one", &id).await;
            assert!(now.state() == QueueState::Running || now.state() == QueueState::Completed);
            program.child.kill().await.unwrap();
            deaths += 1;
            program = serve(folder.path(), &network);
            door = address(&mut program).await;
            continue;
        }
        let mut watcher = Watcher::from_earliest(&api).await;
        for progress in 1..=100 {
            watcher.until_progress(&id, progress).await;
        }
        watcher.until_completed(&id).await;
        let progress = watcher.progress(&id);
        assert!(progress.is_sorted_by(|a, b| a < b), "{progress:?}");
        let wanted = ["send.started", "send.completed"];
        assert_eq!(watcher.queue_events(), wanted);
        let items = api.queue_items("one", &id, QueueItemState::Sent).await;
        assert_eq!(items.len(), RECIPIENTS);
        break;
    }
    program.terminate().await;

    // Each phone has seen one message: what came twice came under the same id.
    let mut seen: BTreeMap<usize, usize> = BTreeMap::new();
    for number in &phones {
        let mut inbox = Box::pin(network.inbox(*number, 0).unwrap());
        let mut ids = BTreeSet::new();
        // All that it will ever see is there.
        while let Some(Some(message)) = inbox.next().now_or_never() {
            assert_eq!(message.text.as_deref(), Some("Hello you"));
            ids.insert(message.id);
        }
        *seen.entry(ids.len()).or_default() += 1;
    }
    assert_eq!(seen, BTreeMap::from([(1, RECIPIENTS)]));
    network.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_waits_for_an_account_that_is_logged_out_and_goes_on_when_it_is_back() {
    let stage = Stage::new().await;
    let api = stage.api().await;
    let (one, owner) = stage.open_instance(&api, "one").await;
    let phones = crowd(&stage, 40).await;
    let recipients = phones.iter().map(|phone| to(phone.number, "you")).collect();
    let mut watcher = Watcher::from_earliest(&api).await;
    let mut request = list("one", "Hi", recipients);
    // Slow enough to be caught in the middle.
    request.pacing = Some(v1::QueuePacing {
        delay_min_ms: 50,
        messages_per_minute: Some(0),
        ..Default::default()
    });
    let created = api.create_queue(request).await;
    let id = created.queue.unwrap().id;
    watcher.until_progress(&id, 25).await;
    stage.network.unlink_device(owner.companion()).unwrap();
    watcher
        .until_state(&one.id, v1::InstanceState::LoggedOut)
        .await;
    let waits = api.queue("one", &id).await;
    assert_eq!(waits.state(), QueueState::Running);
    assert!(waits.state_reason.contains("logged out"), "{waits:?}");
    assert!(waits.counts.unwrap().waiting > 0);

    // Another account does not say what this one began to say, unless it is told to.
    let other = stage.phone("Other").await;
    stage.pair(&api, "one", &other).await;
    watcher.until_state(&one.id, v1::InstanceState::Open).await;
    let paused = watcher
        .until("queue.paused", |event| match &event.payload {
            Some(v1::event::Payload::QueuePaused(one)) => one.queue.clone(),
            _ => None,
        })
        .await;
    assert!(
        paused.state_reason.contains("another account"),
        "{paused:?}"
    );
    api.resume_queue("one", &id).await;
    watcher.until_completed(&id).await;
    let counts = api.queue("one", &id).await.counts.unwrap();
    assert_eq!(counts.sent + counts.failed, 40);
    // At most the one on its way was lost, and the list says so.
    assert!(counts.failed <= 1, "{counts:?}");
    let failed = api.queue_items("one", &id, QueueItemState::Failed).await;
    assert!(failed.iter().all(|item| item.reason.contains("logged out")));
    for item in api.queue_items("one", &id, QueueItemState::Sent).await {
        let at = usize::try_from(item.position).unwrap();
        phones[at].until_seen("Hi", 1).await;
    }
}
