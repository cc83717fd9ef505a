//! The program as a user starts it.

use std::{path::Path, process::Stdio};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, BufReader, Lines},
    process::{Child, Command},
};

use crate::support::within;

const PROGRAM: &str = env!("CARGO_BIN_EXE_wagate");

/// A `wagate` that was started, and what it printed so far.
struct Program {
    child: Child,
    results: Printed,
    remarks: Printed,
}

struct Printed {
    lines: Lines<BufReader<Box<dyn AsyncRead + Unpin + Send>>>,
    seen: Vec<String>,
}

impl Printed {
    fn new(source: impl AsyncRead + Unpin + Send + 'static) -> Self {
        let source: Box<dyn AsyncRead + Unpin + Send> = Box::new(source);
        Self {
            lines: BufReader::new(source).lines(),
            seen: Vec::new(),
        }
    }

    async fn line(&mut self) -> Option<String> {
        let line = self.lines.next_line().await.unwrap()?;
        self.seen.push(line.clone());
        Some(line)
    }

    /// Reads on to a line with this in it.
    async fn until(&mut self, part: &str) -> String {
        within(&format!("{part:?} to be printed"), async {
            while let Some(line) = self.line().await {
                if line.contains(part) {
                    return line;
                }
            }
            panic!("ended without {part:?}: {:#?}", self.seen);
        })
        .await
    }

    async fn rest(&mut self) -> &[String] {
        within("the rest of what is printed", async {
            while self.line().await.is_some() {}
        })
        .await;
        &self.seen
    }
}

fn wagate(folder: &Path) -> Command {
    let mut command = Command::new(PROGRAM);
    command
        .current_dir(folder)
        .env_clear()
        .env("HOME", folder)
        .kill_on_drop(true);
    command
}

fn start(mut command: Command) -> Program {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    Program {
        results: Printed::new(child.stdout.take().unwrap()),
        remarks: Printed::new(child.stderr.take().unwrap()),
        child,
    }
}

fn sandbox(folder: &Path, more: &[&str]) -> Program {
    let mut command = wagate(folder);
    let local = ["--listen", "127.0.0.1:0", "--network-listen", "127.0.0.1:0"];
    command.arg("sandbox").args(local).args(more);
    start(command)
}

impl Program {
    async fn terminate(mut self) -> (std::process::ExitStatus, Vec<String>, Vec<String>) {
        let id = self.child.id().expect("it runs").to_string();
        let kill = Command::new("kill").args(["-TERM", &id]).status().await;
        assert!(kill.unwrap().success());
        let status = within("the program's end", self.child.wait())
            .await
            .unwrap();
        self.results.rest().await;
        self.remarks.rest().await;
        (status, self.results.seen, self.remarks.seen)
    }
}

/// Runs a command to its end.
async fn run(command: &mut Command) -> (i32, String, String) {
    let output = within("a command", command.output()).await.unwrap();
    (
        output.status.code().unwrap_or(-1),
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

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
    let serve = || {
        let mut command = wagate(folder.path());
        command.args(["serve", "--listen", "127.0.0.1:0"]);
        start(command)
    };
    let mut program = serve();
    program.results.until("listens on").await;
    program.results.until("wg_").await;
    assert!(program.terminate().await.0.success());
    let mut program = serve();
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
