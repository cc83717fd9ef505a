//! The program as a user starts it.

use std::process::Stdio;

use wagate::{
    proto::v1::{self, InstanceState, MessageStatus, pair_instance_response::Step},
    sandbox::{
        Direction, FaultAction, FaultMatch, FaultRule, PhoneOptions, Sandbox, SandboxConfig,
    },
};

use crate::support::{
    Api, Watcher,
    program::{Printed, Program, run, sandbox, serve, start, wagate},
    within,
};

#[tokio::test(flavor = "multi_thread")]
async fn the_sandbox_shows_a_conversation_and_stays_up() {
    let folder = tempfile::tempdir().unwrap();
    let mut program = sandbox(folder.path(), &[]);
    let endpoint = program.remarks.until("gRPC").await;
    let endpoint = endpoint.split_whitespace().last().unwrap().to_owned();
    let key = program.remarks.until("API key").await;
    let key = key.split_whitespace().nth(2).unwrap().to_owned();
    program
        .results
        .until("Bob's phone shows: You said: Hello")
        .await;
    let send = program.results.until("wagate send").await;
    let number = send.split_whitespace().nth(3).unwrap().to_owned();

    // What it says to try next works.
    let ask = |words: &[&str]| {
        let mut command = wagate(folder.path());
        command
            .env("WAGATE_ENDPOINT", &endpoint)
            .env("WAGATE_API_KEY", &key)
            .args(words);
        command
    };
    let (code, out, err) = run(&mut ask(&["send", "demo", &number, "Hi from the terminal"])).await;
    assert_eq!(code, 0, "{out}{err}");
    let (code, out, err) = run(&mut ask(&["instance", "list"])).await;
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("demo") && out.contains("open"), "{out}");
    let tail = [
        "--json",
        "events",
        "--from",
        "earliest",
        "--stop-when-caught-up",
    ];
    let (code, out, err) = run(&mut ask(&tail)).await;
    assert_eq!(code, 0, "{err}");
    let types: Vec<String> = out
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .map(|event| event["type"].as_str().unwrap().to_owned())
        .collect();
    for wanted in [
        "instance.created",
        "connection.updated",
        "message.received",
        "message.sent",
    ] {
        assert!(
            types.iter().any(|one| one == wanted),
            "no {wanted} in {types:?}"
        );
    }
    let (code, _, err) = run(&mut ask(&["send", "nobody", &number, "hello"])).await;
    assert_eq!(code, 1);
    assert!(err.contains("INSTANCE_NOT_FOUND"), "{err}");

    let (status, _, remarks) = program.terminate().await;
    assert!(status.success(), "{status} {remarks:#?}");
    for line in remarks.iter().filter(|line| line.contains("wagate::")) {
        assert!(!line.contains("1555000"), "a number in the log: {line}");
        assert!(!line.contains("Hello"), "a text in the log: {line}");
        assert!(!line.contains("wg_"), "a key in the log: {line}");
    }

    // The next start finds all of it again and plays on.
    let mut program = sandbox(folder.path(), &[]);
    let endpoint = program.remarks.until("gRPC").await;
    let endpoint = endpoint.split_whitespace().last().unwrap().to_owned();
    program.results.until("Bob's phone shows").await;
    assert!(
        !program
            .results
            .seen
            .iter()
            .any(|line| line.contains("created"))
    );
    let act = async |endpoint: &str, act: &str| {
        let mut command = wagate(folder.path());
        command.args(["--endpoint", endpoint, "--api-key", &key]);
        let (code, out, err) = run(command.args(["instance", act, "demo"])).await;
        assert_eq!(code, 0, "{out}{err}");
    };
    act(&endpoint, "logout").await;
    assert!(program.terminate().await.0.success());

    // Logged out, it is paired again; disconnected on purpose, it is left so.
    let mut program = sandbox(folder.path(), &[]);
    let endpoint = program.remarks.until("gRPC").await;
    let endpoint = endpoint.split_whitespace().last().unwrap().to_owned();
    program.results.until("scans the QR").await;
    program.results.until("Bob's phone shows").await;
    act(&endpoint, "disconnect").await;
    assert!(program.terminate().await.0.success());
    let mut program = sandbox(folder.path(), &[]);
    program.remarks.until("but it is disconnected").await;
    assert!(program.terminate().await.0.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn serve_tells_its_first_key_once() {
    let folder = tempfile::tempdir().unwrap();
    let mut program = serve(folder.path(), &[]);
    program.results.until("listens on").await;
    program.results.until("wg_").await;
    assert!(program.terminate().await.0.success());
    let mut program = serve(folder.path(), &[]);
    program.results.until("listens on").await;
    let (status, results, _) = program.terminate().await;
    assert!(status.success());
    assert!(!results.iter().any(|line| line.contains("wg_")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_start_that_fails_keeps_the_first_key_for_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = taken.local_addr().unwrap().to_string();
    let serve = || {
        let mut command = wagate(folder.path());
        command.args(["serve", "--listen", &listen]);
        command
    };
    let (code, out, err) = run(&mut serve()).await;
    assert_eq!(code, 1, "{err}");
    assert!(err.contains(&listen), "{err}");
    assert!(!out.contains("wg_"), "{out}");
    drop(taken);
    let mut program = start(serve());
    program.results.until("wg_").await;
    assert!(program.terminate().await.0.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_whose_output_nobody_wants_serves_all_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let serve = || {
        let mut command = wagate(folder.path());
        command.args(["serve", "--listen", "127.0.0.1:0"]);
        command
    };
    let mut program = start(serve());
    program.results.until("wg_").await;
    assert!(program.terminate().await.0.success());

    // Its reader is gone before it prints.
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut child = serve()
        .stdin(Stdio::null())
        .stdout(writer)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let remarks = Printed::new(child.stderr.take().unwrap());
    let mut program = Program {
        results: Printed::new(tokio::io::empty()),
        remarks,
        child,
    };
    program.remarks.until("can't be").await;
    assert!(program.terminate().await.0.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_door_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = wagate(folder.path());
    command.args(["sandbox", "--listen", "127.0.0.1:0"]);
    command.args(["--network-listen", "0.0.0.0:0"]);
    let (code, _, err) = run(&mut command).await;
    assert_eq!(code, 2, "{err}");
    assert!(err.contains("network_listen"), "{err}");
    let mut command = wagate(folder.path());
    command.args(["serve", "--listen", "0.0.0.0:0"]);
    let (code, _, err) = run(&mut command).await;
    assert_eq!(code, 2, "{err}");
    assert!(err.contains("allow_plaintext_remote"), "{err}");
    assert!(
        !folder.path().join("wagate-data").exists(),
        "nothing was made"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn two_servers_do_not_share_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let mut first = sandbox(folder.path(), &["--no-demo"]);
    first.remarks.until("API key").await;
    let mut command = wagate(folder.path());
    command.args(["sandbox", "--no-demo", "--listen", "127.0.0.1:0"]);
    command.args(["--network-listen", "127.0.0.1:0"]);
    let (code, _, err) = run(&mut command).await;
    assert_eq!(code, 1, "{err}");
    assert!(first.terminate().await.0.success());
}

/// Plays on a gateway of its own process everything that is logged about by us or by a library:
/// a pairing, texts both ways, a lost connection, stanzas that come twice.
async fn play(network: &Sandbox, api: &Api, texts: [&str; 3]) -> Vec<String> {
    let phone = |name: &str| PhoneOptions {
        push_name: name.to_owned(),
        ..Default::default()
    };
    let owner = network.create_phone(phone("Owner")).await.unwrap();
    let peer = network.create_phone(phone("Peer")).await.unwrap();
    let instance = api.create("one").await;
    let request = v1::PairInstanceRequest {
        instance: "one".to_owned(),
        ..Default::default()
    };
    let steps = api.instances().pair_instance(request).await.unwrap();
    let mut steps = steps.into_inner();
    let mut secrets = Vec::new();
    while let Some(response) = within("a step", steps.message()).await.unwrap() {
        if let Some(Step::QrCode(code)) = response.step {
            network.scan_qr(owner.number, &code.text).await.unwrap();
            secrets.extend(code.text.split(',').map(str::to_owned));
        }
    }
    let mut watcher = Watcher::from_earliest(api).await;
    watcher.until_state(&instance.id, InstanceState::Open).await;
    let twice = FaultRule {
        matches: FaultMatch {
            direction: Some(Direction::ToDevice),
            tag: Some("message".to_owned()),
            number: Some(owner.number),
            device: Some(1),
            ..Default::default()
        },
        action: FaultAction::Duplicate(2),
        skip: 0,
        count: None,
    };
    network.add_fault(twice).unwrap();
    let [first, answer, last] = texts;
    let write = async |text| {
        let sent = network.send_text(peer.number, owner.number, text);
        within("a phone's send", sent).await.unwrap();
    };
    write(first).await;
    watcher.until_received(&instance.id, first).await;
    let sent = api.send("one", &peer.number.to_string(), answer).await;
    let sent = sent.unwrap();
    watcher
        .until_status(&sent.id, MessageStatus::Received)
        .await;
    network.drop_connection(owner.number.device(1)).unwrap();
    watcher
        .until_state(&instance.id, InstanceState::Connecting)
        .await;
    watcher.until_state(&instance.id, InstanceState::Open).await;
    write(last).await;
    watcher.until_received(&instance.id, last).await;
    let one = api.instance("one").await;
    secrets.extend([owner.number.to_string(), peer.number.to_string()]);
    secrets.extend(one.lid.split('@').next().map(str::to_owned));
    secrets
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_tells_no_text_no_number_and_no_key() {
    let folder = tempfile::tempdir().unwrap();
    let network = Sandbox::start(SandboxConfig {
        listen: ([127, 0, 0, 1], 0).into(),
        data_dir: None,
    })
    .await
    .unwrap();
    let mut command = wagate(folder.path());
    command
        .args(["serve", "--listen", "127.0.0.1:0"])
        .env("WAGATE_SANDBOX__URL", network.ws_url())
        .env(
            "WAGATE_SANDBOX__STATIC_KEY",
            hex::encode(network.static_key()),
        )
        .env("WAGATE_SESSIONS__DEFAULT_NETWORK", "sandbox");
    let mut program = start(command);
    let address = program.results.until("listens on").await;
    let address = address.split_whitespace().last().unwrap().parse().unwrap();
    let key = program.results.until("wg_").await.trim().to_owned();

    let api = Api::connect(address, Some(&key)).await;
    let texts = ["a first secret", "an answer of mine", "the last of all"];
    let mut secrets = play(&network, &api, texts).await;
    secrets.extend(texts.map(str::to_owned));
    secrets.extend([key, hex::encode(network.static_key())]);

    let (status, _, remarks) = program.terminate().await;
    assert!(status.success(), "{status} {remarks:#?}");
    assert!(
        remarks.iter().any(|line| line.contains("wagate::")),
        "nothing was logged, so nothing is proven: {remarks:#?}"
    );
    for line in &remarks {
        for secret in secrets.iter().filter(|secret| secret.len() > 4) {
            assert!(!line.contains(secret), "{secret:?} in the log: {line}");
        }
        let hex = line.split(|letter: char| !letter.is_ascii_hexdigit());
        let longest = hex.map(str::len).max().unwrap_or(0);
        assert!(longest < 32, "a key in the log: {line}");
    }
}
