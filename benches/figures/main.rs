//! The figures: what wagate does, beside the limit it does it under, measured in the same run.
//!
//! One program that plays every part. It starts itself again for each process that is measured (the
//! gateway, the bare library, a raw tonic server, the log alone) and for the network, so that the CPU
//! time and the memory of one are never counted for another. It is itself the load and the clock.
//! Every figure is taken in rounds, wagate and limit in turn, and told as the median of the ratios of
//! each round. Never part of the tests: figures depend on the machine, and what they are depends on the day.

mod bare;
mod child;
mod convert;
mod gateway;
mod groups;
mod idle;
mod lists;
mod load;
mod log;
mod messages;
mod network;
mod raw;
mod streams;
mod table;

use std::path::{Path, PathBuf};

use clap::{Parser, ValueEnum};

use self::table::{Goal, Row, Table};

/// A group of figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Figure {
    /// From append to subscriber: latency and rate, and the bare append.
    Append,
    /// Many subscribers.
    Fanout,
    /// One subscriber from the beginning of the log.
    Replay,
    /// A text converted, beside the same text decrypted.
    Convert,
    /// Messages from the network to a subscriber.
    Inbound,
    /// Messages from a caller to the network.
    Outbound,
    /// What it costs that what is sent is on the disk.
    Durability,
    /// Mailing lists.
    Lists,
    /// Texts to a large group.
    Groups,
    /// Open instances that do nothing, and how long they take to come back.
    Idle,
    /// The binary.
    Size,
}

/// Measures wagate beside the limits of its parts.
#[derive(Parser, Debug)]
struct Arguments {
    /// Which figures; all if none is named.
    figures: Vec<Figure>,
    /// Few and short rounds: whether it runs, not how fast.
    #[arg(long)]
    quick: bool,
    /// Rounds of each figure.
    #[arg(long)]
    rounds: Option<usize>,
    /// Numbers of idle instances.
    #[arg(long, value_delimiter = ',', default_values_t = [100, 500])]
    instances: Vec<usize>,
    /// How long idle instances are watched, in seconds.
    #[arg(long, default_value_t = 60)]
    watch: u64,
    /// Where the databases go; a folder on the disk that is meant.
    #[arg(long)]
    folder: Option<PathBuf>,
    /// The part to play; set by this program for its children.
    #[arg(long, hide = true)]
    part: Option<String>,
    /// What the part needs.
    #[arg(long, hide = true, default_value = "null")]
    with: String,
    /// What cargo says.
    #[arg(long, hide = true)]
    bench: bool,
}

/// How much is measured.
#[derive(Clone, Debug)]
struct Plan {
    quick: bool,
    rounds: usize,
    instances: Vec<usize>,
    watch: u64,
    folder: PathBuf,
}

impl Plan {
    /// This many, or the tenth of it where it is quick.
    fn count(&self, full: usize) -> usize {
        if self.quick { full.div_ceil(10) } else { full }
    }
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::ERROR)
        .with_writer(std::io::stderr)
        .init();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    if let Some(part) = &arguments.part {
        let with = serde_json::from_str(&arguments.with)?;
        return runtime.block_on(play(part, with));
    }
    // In the build's folder, because the system's one for such things may be no disk.
    let scratch =
        Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("figures-{}", std::process::id()));
    let plan = Plan {
        quick: arguments.quick,
        rounds: arguments
            .rounds
            .unwrap_or(if arguments.quick { 2 } else { 5 }),
        instances: arguments.instances,
        watch: if arguments.quick { 5 } else { arguments.watch },
        folder: arguments.folder.unwrap_or_else(|| scratch.clone()),
    };
    let chosen = if arguments.figures.is_empty() {
        Figure::value_variants().to_vec()
    } else {
        arguments.figures
    };
    let table = runtime.block_on(measure(&plan, &chosen));
    print!("\n{table}");
    if scratch.exists() {
        std::fs::remove_dir_all(&scratch)?;
    }
    Ok(())
}

async fn play(part: &str, with: serde_json::Value) -> anyhow::Result<()> {
    match part {
        "log" => log::play(with).await,
        "raw" => raw::play().await,
        "network" => network::play().await,
        "gateway" => gateway::play(with).await,
        "bare" => bare::play(with).await,
        other => anyhow::bail!("there is no part {other:?}"),
    }
}

/// A figure that fails leaves the others alone.
async fn measure(plan: &Plan, chosen: &[Figure]) -> Table {
    let mut table = Table::default();
    for figure in chosen {
        // Whether the machine was ours: rates of a busy one say little.
        let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let load = load.split(' ').next().unwrap_or_default();
        eprintln!("measuring {figure:?} … (load {load})");
        let measured = match figure {
            Figure::Append => streams::append(plan, &mut table).await,
            Figure::Fanout => streams::fan_out(plan, &mut table).await,
            Figure::Replay => streams::replay(plan, &mut table).await,
            Figure::Convert => convert::measure(plan, &mut table).await,
            Figure::Inbound => messages::inbound(plan, &mut table).await,
            Figure::Outbound => messages::outbound(plan, &mut table).await,
            Figure::Durability => lists::durability(plan, &mut table).await,
            Figure::Lists => lists::lists(plan, &mut table).await,
            Figure::Groups => groups::measure(plan, &mut table).await,
            Figure::Idle => idle::measure(plan, &mut table).await,
            Figure::Size => size(&mut table),
        };
        if let Err(error) = measured {
            table.note(format!("{figure:?} was not measured: {error:#}"));
            eprintln!("{figure:?} was not measured: {error:#}");
        }
    }
    table
}

fn size(table: &mut Table) -> anyhow::Result<()> {
    let bytes = Path::new(env!("CARGO_BIN_EXE_wagate")).metadata()?.len();
    table.push(Row::plain(
        "the `wagate` binary, release, without debug info",
        format!("{:.1} MB", bytes as f64 / 1e6),
        Goal::NONE,
    ));
    Ok(())
}
