//! This program again as another process: asked by a line of JSON, answering by a line of JSON.
//!
//! Owns what the kernel says of a process: its CPU time and its memory.

use std::{process::Stdio, time::Duration};

use anyhow::{Context as _, bail};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    process::{ChildStdin, ChildStdout, Command},
    sync::mpsc,
};

/// The kernel counts in hundredths of a second, whatever its own clock is.
const TICK: Duration = Duration::from_millis(10);

/// A process that plays a part.
pub struct Child {
    process: tokio::process::Child,
    commands: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
    id: u32,
    part: &'static str,
}

impl Child {
    /// Starts it and waits for its first line: what others need to know of it.
    pub async fn start(part: &'static str, with: Value) -> anyhow::Result<(Self, Value)> {
        let mut process = Command::new(std::env::current_exe()?)
            .args(["--part", part, "--with", &with.to_string()])
            // A captured backtrace costs tens of megabytes at the first error.
            .env("RUST_BACKTRACE", "0")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let commands = process.stdin.take().context("no way to ask")?;
        let answers = process.stdout.take().context("no way to hear")?;
        let id = process.id().context("it ended at once")?;
        let mut child = Self {
            process,
            commands,
            answers: BufReader::new(answers).lines(),
            id,
            part,
        };
        let ready = child.answer().await?;
        Ok((child, ready))
    }

    /// Asks and waits for the answer.
    pub async fn ask(&mut self, command: Value) -> anyhow::Result<Value> {
        let line = format!("{command}\n");
        self.commands.write_all(line.as_bytes()).await?;
        self.answer().await
    }

    async fn answer(&mut self) -> anyhow::Result<Value> {
        let line = self.answers.next_line().await?;
        let line = line.with_context(|| format!("the part {:?} has ended", self.part))?;
        let answer: Value = serde_json::from_str(&line)?;
        match answer.get("error") {
            Some(error) => bail!("the part {:?} says: {error}", self.part),
            None => Ok(answer),
        }
    }

    /// CPU time so far of all its threads, those that have ended included; in steps of 10 ms.
    pub fn cpu(&self) -> anyhow::Result<Duration> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.id))?;
        // The name may hold anything, but nothing after it holds a bracket.
        let (_, fields) = stat.rsplit_once(')').context("a strange stat")?;
        let ticks: u32 = fields
            .split_whitespace()
            .skip(11)
            .take(2)
            .filter_map(|field| field.parse::<u32>().ok())
            .sum();
        Ok(TICK * ticks)
    }

    /// CPU time so far of the threads it has now, to the nanosecond.
    pub fn fine_cpu(&self) -> anyhow::Result<Duration> {
        let mut nanos = 0;
        for thread in std::fs::read_dir(format!("/proc/{}/task", self.id))? {
            let Ok(stat) = std::fs::read_to_string(thread?.path().join("schedstat")) else {
                continue;
            };
            let ran = stat.split_whitespace().next();
            nanos += ran.and_then(|ran| ran.parse::<u64>().ok()).unwrap_or(0);
        }
        Ok(Duration::from_nanos(nanos))
    }

    /// Resident memory in KiB.
    pub fn resident(&self) -> anyhow::Result<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id))?;
        status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next())
            .and_then(|kibibytes| kibibytes.parse().ok())
            .context("no VmRSS")
    }

    /// Asks for the end and waits for it.
    pub async fn stop(self) -> anyhow::Result<()> {
        let Self {
            mut process,
            commands,
            ..
        } = self;
        // The end of its input is the end of its part.
        drop(commands);
        if tokio::time::timeout(Duration::from_secs(20), process.wait())
            .await
            .is_err()
        {
            process.kill().await?;
        }
        Ok(())
    }
}

/// The child's side: says that it is ready, answers until its input ends.
pub async fn obey(
    ready: Value,
    mut answer: impl AsyncFnMut(Value) -> anyhow::Result<Value>,
) -> anyhow::Result<()> {
    say(&ready);
    // Reading what a person might type blocks a thread, so it has one of its own.
    let (sender, mut commands) = mpsc::channel(1);
    std::thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            if sender.blocking_send(line).is_err() {
                return;
            }
        }
    });
    while let Some(line) = commands.recv().await {
        let answered = match serde_json::from_str(&line) {
            Ok(command) => answer(command).await,
            Err(error) => Err(error.into()),
        };
        say(&answered.unwrap_or_else(|error| json!({ "error": format!("{error:#}") })));
    }
    Ok(())
}

fn say(value: &Value) {
    println!("{value}");
}

/// A number in a command or an answer.
pub fn number(value: &Value, name: &str) -> anyhow::Result<f64> {
    value[name]
        .as_f64()
        .with_context(|| format!("{name} is missing in {value}"))
}

/// A count in a command or an answer.
pub fn count(value: &Value, name: &str) -> anyhow::Result<usize> {
    number(value, name).map(|number| number as usize)
}

/// A text in a command or an answer.
pub fn text<'a>(value: &'a Value, name: &str) -> anyhow::Result<&'a str> {
    value[name]
        .as_str()
        .with_context(|| format!("{name} is missing in {value}"))
}

/// Texts in a command or an answer.
pub fn texts(value: &Value, name: &str) -> anyhow::Result<Vec<String>> {
    Ok(serde_json::from_value(value[name].clone())?)
}
