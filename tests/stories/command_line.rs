//! The program as a user starts it.

use crate::support::program::{run, sandbox, serve, wagate};

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
    program.results.until("Bob's phone shows").await;
    assert!(
        !program
            .results
            .seen
            .iter()
            .any(|line| line.contains("created"))
    );
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
async fn an_open_door_is_refused() {
    let folder = tempfile::tempdir().unwrap();
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
