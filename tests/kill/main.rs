//! Kills wagate again and again while phones and callers talk through it, and checks that nothing was
//! lost and nothing doubled.
//!
//! The network runs in this process; wagate is the real program. Phones send numbered texts, also in groups, callers
//! send with request ids and call again across every outage, subscribers resume from the cursor of
//! what they processed last. Wagate dies by SIGKILL at any moment or by its own hand at a named one
//! (`wagate::crash_points`). After every round of kills all that was said is compared with the log,
//! with what the subscribers saw and with the phones' screens.
//!
//! The seed decides who says what to whom and how wagate dies; the machine's own timing decides the
//! rest, so a replay plays the same piece, not the same microseconds.

mod api;
mod audit;
mod gateway;
mod ledger;
mod people;
mod round;
mod subscribers;
mod tally;
mod watch;
mod wire;

use std::{path::PathBuf, process::ExitCode, sync::Arc, time::Instant};

use anyhow::Context as _;
use clap::Parser;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tempfile::TempDir;
use wagate::{
    proto::v1::{self, InstanceState, pair_instance_response::Step},
    sandbox::{GroupId, NewGroup, Number, PhoneOptions, Sandbox, SandboxConfig},
};

use api::Api;
use audit::Carried;
use gateway::Gateway;
use ledger::Ledger;
use people::Account;
use round::{Round, Share};
use tally::Tally;
use wire::Wire;

/// Kills between two audits.
const KILLS_PER_ROUND: u64 = 50;

/// The accounts of the gateway, and whether they are addressed by hidden identity.
const INSTANCES: [(&str, bool); 3] = [("number", false), ("hidden", true), ("second", false)];

/// The phones that write to them, and whether they are addressed by hidden identity.
const PHONES: [bool; 4] = [false, true, false, true];

/// Kills wagate while it works, and checks that nothing is lost and nothing doubled.
#[derive(Debug, Parser)]
struct Options {
    /// How often wagate dies.
    #[arg(long, default_value_t = 50)]
    kills: u64,
    /// Texts that phones send; 40 per kill if not given.
    #[arg(long)]
    inbound: Option<u64>,
    /// Texts that callers send; 10 per kill if not given.
    #[arg(long)]
    outbound: Option<u64>,
    /// Readers of the log.
    #[arg(long, default_value_t = 20)]
    subscribers: usize,
    /// Die at this crash point only, every time.
    #[arg(long)]
    point: Option<String>,
    /// The program to kill; the one that was built with this if not given.
    #[arg(long, default_value = env!("CARGO_BIN_EXE_wagate"))]
    program: PathBuf,
    /// Leave the folders and the log of wagate even if all is well.
    #[arg(long)]
    keep: bool,
    /// Decides who says what and how wagate dies; drawn if not given.
    #[arg(long)]
    seed: Option<u64>,
}

/// What all rounds share.
pub struct World {
    pub network: Sandbox,
    pub accounts: Arc<[Account]>,
    pub phones: Vec<Number>,
    /// Everybody is in them: one names its members by number, one by hidden identity.
    pub groups: Vec<GroupId>,
    pub ledger: Arc<Ledger>,
    pub wire: Wire,
    pub subscribers: usize,
    /// The only crash point to die at, if one was named.
    pub point: Option<&'static str>,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let seed = options
        .seed
        .unwrap_or_else(|| u64::from(rand::random::<u32>()));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let outcome = runtime
        .context("no threads")
        .and_then(|runtime| runtime.block_on(run(&options, seed)));
    let good = match outcome {
        Ok(good) => good,
        Err(error) => {
            println!("!! {error:#}");
            false
        }
    };
    if good {
        println!("nothing lost, nothing doubled (seed {seed})");
        return ExitCode::SUCCESS;
    }
    println!("\nfailed; the same again:\n\n  {}\n", options.again(seed));
    ExitCode::FAILURE
}

impl Options {
    fn inbound(&self) -> u64 {
        self.inbound.unwrap_or(self.kills * 40)
    }

    fn outbound(&self) -> u64 {
        self.outbound.unwrap_or(self.kills * 10)
    }

    fn again(&self, seed: u64) -> String {
        let point = self.point.as_ref();
        let point = point.map_or(String::new(), |point| format!(" --point {point}"));
        format!(
            "cargo test --test kill -- --kills {} --inbound {} --outbound {} --subscribers {}{point} \
             --seed {seed}",
            self.kills,
            self.inbound(),
            self.outbound(),
            self.subscribers
        )
    }
}

async fn run(options: &Options, seed: u64) -> anyhow::Result<bool> {
    let began = Instant::now();
    println!("{}", options.again(seed));
    let mut folder = tempfile::tempdir()?;
    // What the network and its phones complain about.
    let told = std::fs::File::create(folder.path().join("network.log"))?;
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::WARN)
        .with_ansi(false)
        .with_writer(told)
        .init();
    let network = Sandbox::start(SandboxConfig {
        listen: ([127, 0, 0, 1], 0).into(),
        data_dir: Some(folder.path().join("network")),
    })
    .await?;
    let mut gateway = Gateway::new(
        options.program.clone(),
        folder.path().join("gateway"),
        &network,
    );
    gateway.start(None)?;
    let accounts = open_accounts(&gateway, &network).await?;
    let mut phones = Vec::new();
    for lid_addressed in PHONES {
        phones.push(new_phone(&network, "Phone", lid_addressed).await?);
    }
    let mut groups = Vec::new();
    for number_addressed in [true, false] {
        let members = accounts.iter().map(|account| account.number);
        let new = NewGroup {
            subject: "Everybody".to_owned(),
            members: members.chain(phones[1..].iter().copied()).collect(),
            number_addressed,
        };
        groups.push(network.create_group(phones[0], new).await?.0);
    }
    let world = World {
        accounts: accounts.into(),
        phones,
        groups,
        ledger: Arc::default(),
        wire: Wire::default(),
        subscribers: options.subscribers,
        point: match &options.point {
            Some(name) => Some(round::crash_point(name).context("there is no such crash point")?),
            None => None,
        },
        network,
    };
    let devices = world
        .accounts
        .iter()
        .map(|account| account.number.device(1));
    tokio::spawn(
        world
            .wire
            .clone()
            .tap(world.network.clone(), devices.collect()),
    );
    for number in world.everybody() {
        let eyes = people::eyes(world.network.clone(), number, world.ledger.clone());
        tokio::spawn(eyes);
    }

    let mut tally = Tally::default();
    let mut carried = Carried::default();
    let mut states = Default::default();
    let mut after = None;
    let rounds = options.kills.div_ceil(KILLS_PER_ROUND).max(1);
    for number in 0..rounds {
        let part = |whole: u64| whole * (number + 1) / rounds - whole * number / rounds;
        let round = Round {
            number,
            seed,
            share: Share {
                kills: part(options.kills),
                inbound: part(options.inbound()),
                outbound: part(options.outbound()),
            },
            after: after.clone(),
        };
        let played = round.play(&world, &mut gateway, &mut tally).await;
        let result = match played {
            Ok(result) => result,
            Err(error) => {
                let context = world.complaints();
                keep(&mut folder, &gateway);
                return Err(error.context(context));
            }
        };
        read_log(&gateway, &world.ledger)?;
        result.judge(&world, &mut carried, &mut states, &mut tally);
        after = Some(result.cursor);
        tally.time = began.elapsed();
        if rounds > 1 {
            println!("\nround {} of {rounds}", number + 1);
        }
        println!("{tally}");
        if tally.complaints > 0 {
            println!("{}", world.complaints());
            keep(&mut folder, &gateway);
            return Ok(false);
        }
    }
    if options.keep {
        keep(&mut folder, &gateway);
    }
    gateway.stop().await?;
    world.network.shutdown().await;
    Ok(true)
}

impl World {
    /// Phones and owners.
    pub fn everybody(&self) -> Vec<Number> {
        let owners = self.accounts.iter().map(|account| account.number);
        self.phones.iter().copied().chain(owners).collect()
    }

    fn complaints(&self) -> String {
        let books = self.ledger.books();
        let (complaints, more) = books.complaints();
        let mut told: Vec<String> = complaints.iter().map(|one| format!("!! {one}")).collect();
        if more > 0 {
            told.push(format!("!! and {more} more"));
        }
        told.join("\n")
    }
}

/// Leaves the folders for whoever wants to know why.
fn keep(folder: &mut TempDir, gateway: &Gateway) {
    folder.disable_cleanup(true);
    println!(
        "what is left: {} and {}",
        folder.path().display(),
        gateway.log().display()
    );
}

/// A gateway that panicked or moved illegally has failed, even if nothing was lost.
fn read_log(gateway: &Gateway, ledger: &Ledger) -> anyhow::Result<()> {
    let log = std::fs::read_to_string(gateway.log())?;
    for word in ["panicked at", "illegal move"] {
        if let Some(line) = log.lines().find(|line| line.contains(word)) {
            ledger.complain(format!("wagate's log says: {line}"));
        }
    }
    Ok(())
}

async fn new_phone(network: &Sandbox, name: &str, lid_addressed: bool) -> anyhow::Result<Number> {
    let options = PhoneOptions {
        push_name: name.to_owned(),
        lid_addressed,
        ..Default::default()
    };
    Ok(network.create_phone(options).await?.number)
}

/// Creates and pairs the instances.
async fn open_accounts(gateway: &Gateway, network: &Sandbox) -> anyhow::Result<Vec<Account>> {
    gateway.serves().await?;
    let api = Api::ready(&mut gateway.door()).await?;
    let mut accounts = Vec::new();
    for (name, lid_addressed) in INSTANCES {
        let number = new_phone(network, name, lid_addressed).await?;
        let request = v1::CreateInstanceRequest {
            name: name.to_owned(),
            ..Default::default()
        };
        let created = api.instances().create_instance(request).await?.into_inner();
        let request = v1::PairInstanceRequest {
            instance: name.to_owned(),
            ..Default::default()
        };
        let mut steps = api.instances().pair_instance(request).await?.into_inner();
        let mut paired = false;
        while let Some(response) = steps.message().await? {
            match response.step {
                Some(Step::QrCode(code)) => {
                    network.scan_qr(number, &code.text).await.map(drop)?;
                }
                Some(Step::Paired(_)) => paired = true,
                _ => {}
            }
        }
        anyhow::ensure!(paired, "{name} can't be paired");
        let id = created.instance.context("no instance")?.id;
        let request = v1::GetInstanceRequest {
            instance: id.clone(),
        };
        let now = api.instances().get_instance(request).await?.into_inner();
        let state = now.instance.map(|instance| instance.state());
        anyhow::ensure!(state == Some(InstanceState::Open), "{name} is {state:?}");
        accounts.push(Account {
            id,
            name: name.to_owned(),
            number,
        });
    }
    Ok(accounts)
}

/// A stream of chance of its own for everybody, so that one who draws more does not change the others.
pub fn chance(seed: u64, round: u64, who: &str, number: usize) -> StdRng {
    // FNV-1a, so that the same seed means the same on every machine and in every version.
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let parts = [
        seed.to_be_bytes(),
        round.to_be_bytes(),
        (number as u64).to_be_bytes(),
    ];
    for byte in who.bytes().chain(parts.concat()) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    let mut chance = StdRng::seed_from_u64(hash);
    // The first draw of neighbouring seeds is alike in some generators; this one is thrown away.
    let _: u64 = chance.random();
    chance
}
