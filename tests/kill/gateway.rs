//! The victim: the real program, started and killed again and again on one folder.

use std::{
    net::SocketAddr,
    path::PathBuf,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context as _, bail};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, ChildStdout, Command},
    sync::watch,
    time::{sleep, timeout},
};
use wagate::sandbox::Sandbox;

/// How long a start may take before it counts as failed.
const START_TIME: Duration = Duration::from_secs(30);

/// How long a polite end may take.
const STOP_TIME: Duration = Duration::from_secs(30);

/// Where the gateway is to be found now.
#[derive(Clone, Debug)]
pub struct Door {
    /// Which start of the gateway this is, from 1.
    pub life: u64,
    /// Where it listens.
    pub address: SocketAddr,
    /// What it takes.
    pub key: String,
}

/// How a life ends.
#[derive(Clone, Debug)]
pub enum Plan {
    /// By SIGKILL so long after the start, whatever it is doing.
    AfterStart(Duration),
    /// By SIGKILL so long after it began to serve.
    AfterServing(Duration),
    /// By its own hand at a crash point, the count-th time it passes; by SIGKILL if it does not
    /// come there for so long after it began to serve.
    AtPoint {
        name: &'static str,
        count: u32,
        patience: Duration,
    },
}

/// How a life ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Death {
    /// By SIGKILL.
    Killed,
    /// At the crash point.
    AtPoint,
    /// By SIGKILL, because it did not come to its crash point.
    PointMissed,
}

/// The program and its folder.
pub struct Gateway {
    program: PathBuf,
    folder: PathBuf,
    network_url: String,
    network_key: String,
    lives: u64,
    child: Option<Child>,
    door: watch::Sender<Option<Door>>,
}

impl Gateway {
    pub fn new(program: PathBuf, folder: PathBuf, network: &Sandbox) -> Self {
        Self {
            program,
            folder,
            network_url: network.ws_url(),
            network_key: hex::encode(network.static_key()),
            lives: 0,
            child: None,
            door: watch::channel(None).0,
        }
    }

    /// Tells where the gateway is, and `None` while it is dead.
    pub fn door(&self) -> watch::Receiver<Option<Door>> {
        self.door.subscribe()
    }

    /// What it has written to its error output, all lives together.
    pub fn log(&self) -> PathBuf {
        self.folder.with_extension("log")
    }

    /// Starts the program; it may not serve yet.
    pub fn start(&mut self, plan: Option<&Plan>) -> anyhow::Result<()> {
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.log())?;
        let mut command = Command::new(&self.program);
        command
            .args(["serve", "--listen", "127.0.0.1:0", "--data-dir"])
            .arg(&self.folder)
            .env_clear()
            .env("WAGATE_SESSIONS__DEFAULT_NETWORK", "sandbox")
            .env("WAGATE_SANDBOX__URL", &self.network_url)
            .env("WAGATE_SANDBOX__STATIC_KEY", &self.network_key)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .kill_on_drop(true);
        if let Some(Plan::AtPoint { name, count, .. }) = plan {
            command.env("WAGATE_CRASH_POINT", format!("{name}:{count}"));
        }
        let mut child = command.spawn().context("wagate can't be started")?;
        let output = child.stdout.take().context("wagate has no output")?;
        self.lives += 1;
        let key = self.folder.with_extension("key");
        tokio::spawn(announce(output, key, self.lives, self.door.clone()));
        self.child = Some(child);
        Ok(())
    }

    /// Waits until it serves.
    pub async fn serves(&self) -> anyhow::Result<Door> {
        serves(self.door(), self.lives).await
    }

    /// Lets it live until the plan says otherwise. An end that was not planned is an error.
    pub async fn die(&mut self, plan: &Plan) -> anyhow::Result<Death> {
        let mut child = self.child.take().context("wagate does not run")?;
        let (door, life) = (self.door(), self.lives);
        let time_is_up = async {
            match plan {
                Plan::AfterStart(time) => sleep(*time).await,
                Plan::AfterServing(time) | Plan::AtPoint { patience: time, .. } => {
                    serves(door, life).await?;
                    sleep(*time).await;
                }
            }
            anyhow::Ok(())
        };
        let ended = tokio::select! {
            status = child.wait() => Some(status?),
            up = time_is_up => {
                up?;
                None
            }
        };
        let death = match (ended, plan) {
            (None, plan) => {
                child.kill().await?;
                match plan {
                    Plan::AtPoint { .. } => Death::PointMissed,
                    _ => Death::Killed,
                }
            }
            (Some(status), Plan::AtPoint { .. }) if aborted(status) => Death::AtPoint,
            (Some(status), _) => bail!("wagate ended by itself with {status}"),
        };
        self.door.send_replace(None);
        Ok(death)
    }

    /// Asks it politely to end.
    pub async fn stop(&mut self) -> anyhow::Result<()> {
        let mut child = self.child.take().context("wagate does not run")?;
        let id = child.id().context("wagate has ended")?;
        let asked = Command::new("kill")
            .args(["-TERM", &id.to_string()])
            .status();
        anyhow::ensure!(asked.await?.success(), "wagate can't be asked to end");
        let status = timeout(STOP_TIME, child.wait())
            .await
            .context("wagate does not end when asked")??;
        self.door.send_replace(None);
        anyhow::ensure!(status.success(), "wagate ended with {status} when asked to");
        Ok(())
    }
}

async fn serves(mut door: watch::Receiver<Option<Door>>, life: u64) -> anyhow::Result<Door> {
    let mine = |door: &Option<Door>| door.as_ref().is_some_and(|door| door.life == life);
    let found = timeout(START_TIME, door.wait_for(mine))
        .await
        .context("wagate does not begin to serve")??;
    found.clone().context("wagate is gone")
}

/// Reads what the program prints: where it listens and, the first time, its key.
async fn announce(
    output: ChildStdout,
    key_file: PathBuf,
    life: u64,
    door: watch::Sender<Option<Door>>,
) {
    let mut lines = BufReader::new(output).lines();
    let mut address = None;
    // To the end, so that the program never waits for its reader.
    while let Ok(Some(line)) = lines.next_line().await {
        let line = line.trim();
        if let Some((_, listens)) = line.split_once("listens on ") {
            address = listens.parse().ok();
        }
        if line.starts_with("wg_") {
            std::fs::write(&key_file, line).ok();
        }
        // The key is told once, after the first address.
        if let (Some(address), Ok(key)) = (address, std::fs::read_to_string(&key_file)) {
            door.send_replace(Some(Door { life, address, key }));
        }
    }
}

#[cfg(unix)]
fn aborted(status: ExitStatus) -> bool {
    use std::os::unix::process::ExitStatusExt as _;
    // SIGABRT has this number everywhere.
    status.signal() == Some(6)
}

#[cfg(not(unix))]
fn aborted(status: ExitStatus) -> bool {
    !status.success()
}
