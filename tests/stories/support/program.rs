//! The program itself, as a user starts it.

use std::{path::Path, process::Stdio};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, BufReader, Lines},
    process::{Child, Command},
};

use super::within;

const PROGRAM: &str = env!("CARGO_BIN_EXE_wagate");

/// A `wagate` that was started, and what it printed so far.
pub struct Program {
    pub child: Child,
    pub results: Printed,
    pub remarks: Printed,
}

pub struct Printed {
    lines: Lines<BufReader<Box<dyn AsyncRead + Unpin + Send>>>,
    pub seen: Vec<String>,
}

impl Printed {
    pub fn new(source: impl AsyncRead + Unpin + Send + 'static) -> Self {
        let source: Box<dyn AsyncRead + Unpin + Send> = Box::new(source);
        Self {
            lines: BufReader::new(source).lines(),
            seen: Vec::new(),
        }
    }

    pub async fn line(&mut self) -> Option<String> {
        let line = self.lines.next_line().await.unwrap()?;
        self.seen.push(line.clone());
        Some(line)
    }

    /// Reads on to a line with this in it.
    pub async fn until(&mut self, part: &str) -> String {
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

    pub async fn rest(&mut self) -> &[String] {
        within("the rest of what is printed", async {
            while self.line().await.is_some() {}
        })
        .await;
        &self.seen
    }
}

/// A command of the program, apart from the user's settings.
pub fn wagate(folder: &Path) -> Command {
    let mut command = Command::new(PROGRAM);
    command
        .current_dir(folder)
        .env_clear()
        .env("HOME", folder)
        .kill_on_drop(true);
    command
}

pub fn start(mut command: Command) -> Program {
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

/// `wagate sandbox` on free ports.
pub fn sandbox(folder: &Path, more: &[&str]) -> Program {
    let mut command = wagate(folder);
    let local = ["--listen", "127.0.0.1:0", "--network-listen", "127.0.0.1:0"];
    command.arg("sandbox").args(local).args(more);
    start(command)
}

/// `wagate serve` on a free port.
pub fn serve(folder: &Path, more: &[&str]) -> Program {
    let mut command = wagate(folder);
    command
        .args(["serve", "--listen", "127.0.0.1:0"])
        .args(more);
    start(command)
}

impl Program {
    /// SIGTERM; then how it ended and what it printed.
    pub async fn terminate(mut self) -> (std::process::ExitStatus, Vec<String>, Vec<String>) {
        let id = self.child.id().expect("it runs").to_string();
        let kill = Command::new("kill").args(["-TERM", &id]).status().await;
        assert!(kill.unwrap().success());
        // Read meanwhile: whoever prints to a full pipe waits.
        let (status, _, _) = tokio::join!(
            within("the program's end", self.child.wait()),
            self.results.rest(),
            self.remarks.rest(),
        );
        let status = status.unwrap();
        (status, self.results.seen, self.remarks.seen)
    }
}

/// Runs a command to its end.
pub async fn run(command: &mut Command) -> (i32, String, String) {
    let output = within("a command", command.output()).await.unwrap();
    (
        output.status.code().unwrap_or(-1),
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    )
}
