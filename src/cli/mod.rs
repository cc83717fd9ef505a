//! The command line: the server's two ways to run, and a thin gRPC client of ourselves.
//!
//! Owns arguments, what people read in a terminal, and exit codes: 0 done, 1 failed, 2 used wrongly,
//! 130 interrupted. Never does what an outsider could not do from `proto/` alone, but for starting
//! the server.

mod connection;
mod demo;
mod events;
mod failure;
mod format;
mod instance;
mod key;
mod outbox;
mod output;
mod pairing;
mod qr;
mod send;
mod server;

use std::{process::ExitCode, time::Duration};

use clap::{Parser, Subcommand};
use tokio::runtime;

use connection::Target;
use failure::Failure;
use output::Output;

const INTERRUPTED: u8 = 130;
/// How long threads may take to end when the server has.
const STRAGGLERS: Duration = Duration::from_secs(1);

/// A WhatsApp gateway that speaks gRPC.
#[derive(Debug, Parser)]
#[command(name = "wagate", version, propagate_version = true)]
struct Arguments {
    #[command(flatten)]
    target: Target,
    /// Print proto3 JSON, one object per line.
    #[arg(long, global = true, help_heading = "Options of every command")]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the gateway.
    Serve(server::Serve),
    /// Runs the gateway with a WhatsApp network of its own: simulated phones, no account needed.
    Sandbox(server::Sandbox),
    /// Manages instances: WhatsApp accounts that the gateway runs as a linked device.
    #[command(subcommand)]
    Instance(instance::Instance),
    /// Sends a text message.
    Send(Box<send::Send>),
    /// Shows what is not sent yet, and takes it back.
    #[command(subcommand)]
    Outbox(outbox::Outbox),
    /// Prints events as they come, and resumes by itself where it was.
    Events(events::Events),
    /// Manages API keys.
    #[command(subcommand)]
    Key(key::Key),
}

/// Runs what the arguments of this process say.
pub fn run() -> ExitCode {
    let arguments = Arguments::parse();
    let json = arguments.json;
    match execute(arguments) {
        Ok(code) => code,
        Err(failure) => failure.report(json),
    }
}

fn execute(arguments: Arguments) -> Result<ExitCode, Failure> {
    let json = arguments.json;
    match arguments.command {
        Command::Serve(serve) => {
            on_threads(serve.run())?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Sandbox(sandbox) => {
            on_threads(sandbox.run(json))?;
            Ok(ExitCode::SUCCESS)
        }
        _ => runtime::Builder::new_current_thread()
            .enable_all()
            .build()?
            .block_on(ask(arguments)),
    }
}

/// Runs a server. A thread that hangs, as in a request that nobody answers, does not keep the program.
fn on_threads(server: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let threads = runtime::Builder::new_multi_thread().enable_all().build()?;
    let ended = threads.block_on(server);
    threads.shutdown_timeout(STRAGGLERS);
    ended
}

/// Runs a command against a server, until it ends or is interrupted.
async fn ask(arguments: Arguments) -> Result<ExitCode, Failure> {
    // To interrupt is how one ends a tail; anything else was left unfinished.
    let when_interrupted = match arguments.command {
        Command::Events(_) => ExitCode::SUCCESS,
        _ => ExitCode::from(INTERRUPTED),
    };
    tokio::select! {
        biased;
        signal = tokio::signal::ctrl_c() => {
            signal?;
            Ok(when_interrupted)
        }
        outcome = talk(arguments) => outcome.map(|()| ExitCode::SUCCESS),
    }
}

async fn talk(arguments: Arguments) -> Result<(), Failure> {
    let mut output = Output::stdio(arguments.json);
    let gateway = arguments.target.connect().await?;
    match arguments.command {
        Command::Instance(instance) => instance.run(&gateway, &mut output).await,
        Command::Send(send) => send.run(&gateway, &mut output).await,
        Command::Outbox(outbox) => outbox.run(&gateway, &mut output).await,
        Command::Events(events) => events.run(gateway.events(), &mut output).await,
        Command::Key(key) => key.run(&gateway, &mut output).await,
        Command::Serve(_) | Command::Sandbox(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        use clap::CommandFactory;
        Arguments::command().debug_assert();
    }

    /// Every `wagate …` line in a shell block of the README is a command there is.
    #[test]
    fn the_readme_shows_commands_that_exist() {
        let (mut shown, mut in_shell) = (0, false);
        for (number, line) in include_str!("../../README.md").lines().enumerate() {
            if let Some(language) = line.strip_prefix("```") {
                in_shell = language == "sh";
            }
            let command = line
                .strip_prefix("wagate ")
                .or_else(|| line.strip_prefix("cargo run --release -- "));
            let Some(command) = command.filter(|_| in_shell) else {
                continue;
            };
            let words = split_words(command.split('#').next().unwrap_or_default());
            let words = ["wagate"]
                .into_iter()
                .chain(words.iter().map(String::as_str));
            if let Err(error) = Arguments::try_parse_from(words) {
                panic!("README.md:{}: {line}\n{error}", number + 1);
            }
            shown += 1;
        }
        assert!(shown >= 6, "the README shows {shown} commands only");
    }

    /// Words as a shell sees them, where quotes are all there is.
    fn split_words(line: &str) -> Vec<String> {
        line.split('"')
            .enumerate()
            .flat_map(|(index, part)| match index % 2 {
                0 => part.split_whitespace().map(str::to_owned).collect(),
                _ => vec![part.to_owned()],
            })
            .collect()
    }
}
