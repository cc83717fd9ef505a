//! `wagate events`: prints the log from a place on, and finds its way back to that place.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use clap::{Args, ValueEnum};
use tokio::time;
use tonic::{Code, Status};

use super::{
    connection::Connection,
    failure::{self, Failure},
    format,
    output::Output,
};
use crate::proto::v1::{
    GapPolicy, StartPosition, SubscribeRequest, SubscribeResponse,
    event_service_client::EventServiceClient, subscribe_request::Start, subscribe_response::Frame,
};

/// How long to wait for the first frame, which the server sends at once.
const OPENING: Duration = Duration::from_secs(30);
/// After so many heartbeats that did not come, nobody is there.
const MISSED_HEARTBEATS: u32 = 3;

const CLIENT_ID: &str = "wagate-cli";

/// Arguments of `events`.
#[derive(Clone, Debug, Default, Args)]
pub struct Events {
    /// Start right after the event or frame with this cursor.
    #[arg(long, value_name = "CURSOR", conflicts_with_all = ["from", "cursor_file"])]
    after: Option<String>,
    /// Where to start without a cursor. Default: latest.
    #[arg(long, value_enum)]
    from: Option<From>,
    /// Keep the place in this file: start after the cursor in it, and write each new one to it once
    /// everything up to it is printed.
    #[arg(long, value_name = "FILE")]
    cursor_file: Option<PathBuf>,
    /// Only of this instance, name or id; repeat it for more.
    #[arg(long = "instance", value_delimiter = ',', value_name = "INSTANCE")]
    instances: Vec<String>,
    /// Only of this type, such as `message.received` or `message.*`; repeat it for more.
    #[arg(long = "type", value_delimiter = ',', value_name = "TYPE")]
    event_types: Vec<String>,
    /// End after the last event that was there at the start.
    #[arg(long)]
    stop_when_caught_up: bool,
    /// What to do where events after the cursor are gone. Default: fail.
    #[arg(long, value_enum)]
    on_gap: Option<OnGap>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum From {
    /// Only what comes from now on.
    Latest,
    /// Everything that is kept.
    Earliest,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum OnGap {
    /// End with an error.
    Fail,
    /// Say so and go on at the earliest event.
    Skip,
}

impl Events {
    /// Prints events until the server says it was all, or for ever.
    pub async fn run(
        self,
        mut client: EventServiceClient<Connection>,
        output: &mut Output,
    ) -> Result<(), Failure> {
        let mut reader = Reader::new(self)?;
        loop {
            let lost = match reader.read(&mut client, output).await? {
                Ending::Complete => return Ok(()),
                Ending::Lost(lost) => lost,
            };
            // A server that was never there is a mistake, not an outage.
            if !reader.opened {
                return Err(lost.status.into());
            }
            let wait = lost.wait.unwrap_or_else(|| reader.backoff.next());
            output.remark(&format!(
                "connection lost: {}; resuming after {} in {:.1} s",
                failure::one_line(&lost.status),
                reader.cursor.as_deref().unwrap_or("the start"),
                wait.as_secs_f64()
            ));
            time::sleep(wait).await;
        }
    }

    fn request(&self, cursor: Option<&str>) -> SubscribeRequest {
        let start = match (cursor, self.from) {
            (Some(cursor), _) => Start::AfterCursor(cursor.to_owned()),
            (None, Some(From::Earliest)) => Start::Position(StartPosition::Earliest.into()),
            (None, Some(From::Latest) | None) => Start::Position(StartPosition::Latest.into()),
        };
        let on_gap = match self.on_gap {
            Some(OnGap::Skip) => GapPolicy::Skip,
            Some(OnGap::Fail) | None => GapPolicy::Fail,
        };
        SubscribeRequest {
            start: Some(start),
            instances: self.instances.clone(),
            event_types: self.event_types.clone(),
            stop_when_caught_up: self.stop_when_caught_up,
            on_gap: on_gap.into(),
            client_id: CLIENT_ID.to_owned(),
            ..SubscribeRequest::default()
        }
    }
}

/// How one stream ended.
enum Ending {
    /// All that was asked for is printed.
    Complete,
    /// There is more, and it may be had again.
    Lost(Lost),
}

struct Lost {
    status: Status,
    /// When the server wants to see us again, if it said so.
    wait: Option<Duration>,
}

/// A place in the log that moves.
struct Reader {
    arguments: Events,
    /// Everything up to here is printed.
    cursor: Option<String>,
    /// A stream was open once.
    opened: bool,
    backoff: Backoff,
}

impl Reader {
    fn new(arguments: Events) -> Result<Self, Failure> {
        let cursor = match (&arguments.after, &arguments.cursor_file) {
            (Some(cursor), _) => Some(cursor.clone()),
            (None, Some(file)) => read_cursor(file)?,
            (None, None) => None,
        };
        Ok(Self {
            arguments,
            cursor,
            opened: false,
            backoff: Backoff::default(),
        })
    }

    /// Reads one stream to its end.
    async fn read(
        &mut self,
        client: &mut EventServiceClient<Connection>,
        output: &mut Output,
    ) -> Result<Ending, Failure> {
        let request = self.arguments.request(self.cursor.as_deref());
        let mut frames = match client.subscribe(request).await {
            Ok(answer) => answer.into_inner(),
            Err(status) => return lost(status, None),
        };
        let mut patience = OPENING;
        let mut wait = None;
        loop {
            let frame = match time::timeout(patience, frames.message()).await {
                Ok(Ok(Some(frame))) => frame,
                Ok(Ok(None)) if self.arguments.stop_when_caught_up => return Ok(Ending::Complete),
                Ok(Ok(None)) => return lost(Status::unavailable("the stream ended"), wait),
                Ok(Err(status)) => return lost(status, wait),
                Err(_) => return lost(Status::unavailable("the server fell silent"), wait),
            };
            match &frame.frame {
                Some(Frame::Opened(opened)) => {
                    if self.opened {
                        output.remark("resumed");
                    }
                    self.opened = true;
                    self.backoff.opened();
                    if let Some(Ok(interval)) = opened.heartbeat_interval.map(Duration::try_from) {
                        patience = OPENING.max(interval.saturating_mul(MISSED_HEARTBEATS));
                    }
                }
                Some(Frame::Drain(drain)) => {
                    wait = drain
                        .reconnect_after
                        .and_then(|delay| Duration::try_from(delay).ok());
                }
                Some(Frame::Gap(gap)) => output.remark(&format!(
                    "events are gone ({}): going on at the earliest that is kept",
                    format::plain(&gap.reason)
                )),
                Some(Frame::Batch(_) | Frame::Heartbeat(_)) | None => {}
            }
            self.take(frame, output)?;
        }
    }

    /// Prints what a frame carries, and only then moves on.
    fn take(&mut self, frame: SubscribeResponse, output: &mut Output) -> Result<(), Failure> {
        if let Some(Frame::Batch(batch)) = &frame.frame {
            for event in &batch.events {
                output.show(event, format::event)?;
            }
        }
        if !frame.cursor.is_empty() && self.cursor.as_ref() != Some(&frame.cursor) {
            if let Some(file) = &self.arguments.cursor_file {
                write_cursor(file, &frame.cursor)?;
            }
            self.cursor = Some(frame.cursor);
        }
        Ok(())
    }
}

/// Decides, where the failure is seen, whether to come back.
fn lost(status: Status, wait: Option<Duration>) -> Result<Ending, Failure> {
    let resumable = match failure::reason(&status).as_deref() {
        Some("SLOW_CONSUMER" | "SERVER_DRAINING" | "DEADLINE") => true,
        Some(_) => status.code() == Code::Unavailable,
        // Made by a transport or a proxy.
        None => matches!(
            status.code(),
            Code::Unavailable
                | Code::Unknown
                | Code::Internal
                | Code::Cancelled
                | Code::DeadlineExceeded
        ),
    };
    if !resumable {
        return Err(status.into());
    }
    let wait = wait.or_else(|| failure::retry_after(&status));
    Ok(Ending::Lost(Lost { status, wait }))
}

fn read_cursor(file: &Path) -> Result<Option<String>, Failure> {
    let unusable = |why: String| Failure::Usage(format!("--cursor-file {}: {why}", file.display()));
    match fs::read_to_string(file) {
        Ok(text) if text.trim().is_empty() => Err(unusable(
            "is empty; remove it to start without a cursor".to_owned(),
        )),
        Ok(text) => Ok(Some(text.trim().to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(unusable(error.to_string())),
    }
}

/// Replaces the file as a whole: whoever is interrupted finds the old cursor or the new one.
fn write_cursor(file: &Path, cursor: &str) -> Result<(), Failure> {
    let mut beside = file.as_os_str().to_owned();
    beside.push(".new");
    fs::write(&beside, format!("{cursor}\n"))
        .and_then(|()| fs::rename(&beside, file))
        .map_err(|error| {
            Failure::Outcome(format!(
                "can't write --cursor-file {}: {error}",
                file.display()
            ))
        })
}

/// Waits that grow while it does not get better.
struct Backoff {
    ceiling: Duration,
    opened: Option<Instant>,
}

impl Backoff {
    const FIRST: Duration = Duration::from_millis(200);
    const LONGEST: Duration = Duration::from_secs(10);
    const GROWTH: f64 = 1.7;
    /// A stream that lived so long was no part of the trouble before.
    const HEALTHY: Duration = Duration::from_secs(30);

    fn opened(&mut self) {
        self.opened = Some(Instant::now());
    }

    /// The next wait: anything up to the ceiling, so that readers do not return all at once.
    fn next(&mut self) -> Duration {
        if self
            .opened
            .take()
            .is_some_and(|since| since.elapsed() >= Self::HEALTHY)
        {
            self.ceiling = Self::FIRST;
        }
        let ceiling = self.ceiling;
        self.ceiling = ceiling.mul_f64(Self::GROWTH).min(Self::LONGEST);
        ceiling.mul_f64(rand::random_range(0.1..1.0))
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            ceiling: Self::FIRST,
            opened: None,
        }
    }
}

#[cfg(test)]
mod tests;
