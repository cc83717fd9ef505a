//! Logs: set up once, to stderr, as text or as JSON.
//!
//! Owns the default filter and the promise that goes with it: no message text, no phone numbers, no
//! keys. Our own lines hold none; the libraries' lines may, so at the default filter every long run
//! of digits is masked. An operator who sets a filter of their own sees what there is.
//! Never influences a decision.

use std::io::{self, IsTerminal as _, Write};

use tracing_subscriber::{EnvFilter, fmt::MakeWriter};

/// What is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filter<'a> {
    /// What we do, and everybody else's warnings.
    News,
    /// Warnings only.
    Warnings,
    /// What an operator asked for, in the usual directive syntax such as `wagate=debug,info`.
    Asked(&'a str),
}

impl Filter<'_> {
    fn directives(&self) -> &str {
        match self {
            Self::News => "warn,wagate=info",
            Self::Warnings => "warn",
            Self::Asked(directives) => directives,
        }
    }
}

/// Shortest run of digits that may be a phone number.
const NUMBER_DIGITS: usize = 7;

/// What log lines look like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Starts logging.
pub fn init(format: Format, filter: Filter<'_>) -> anyhow::Result<()> {
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::try_new(filter.directives())?)
        .with_ansi(io::stderr().is_terminal())
        .with_writer(Stderr {
            masked: !matches!(filter, Filter::Asked(_)),
        });
    match format {
        Format::Text => subscriber.try_init(),
        Format::Json => subscriber.json().try_init(),
    }
    .map_err(anyhow::Error::from_boxed)
}

/// Where lines go.
struct Stderr {
    masked: bool,
}

impl<'a> MakeWriter<'a> for Stderr {
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        Line {
            masked: self.masked,
        }
    }
}

/// One line on its way: the formatter hands it over whole.
struct Line {
    masked: bool,
}

impl Write for Line {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut stderr = io::stderr().lock();
        if self.masked {
            stderr.write_all(&mask(line))?;
        } else {
            stderr.write_all(line)?;
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// Replaces every run of digits that may be a phone number by stars. Runs inside a word or a
/// hyphenated id are left alone: those are ids.
fn mask(line: &[u8]) -> Vec<u8> {
    let part_of_id =
        |byte: Option<&u8>| byte.is_some_and(|b| b.is_ascii_alphabetic() || *b == b'-');
    let mut masked = line.to_vec();
    let mut at = 0;
    while at < line.len() {
        let run = line[at..]
            .iter()
            .take_while(|byte| byte.is_ascii_digit())
            .count();
        let before = at.checked_sub(1).and_then(|before| line.get(before));
        if run >= NUMBER_DIGITS && !part_of_id(before) && !part_of_id(line.get(at + run)) {
            masked[at..at + run].fill(b'*');
        }
        at += run.max(1);
    }
    masked
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phone_numbers_are_masked_and_ids_are_not() {
        let masked = |text: &str| String::from_utf8(mask(text.as_bytes())).unwrap();
        assert_eq!(
            masked("from 15550001111:2@s.whatsapp.net"),
            "from ***********:2@s.whatsapp.net"
        );
        assert_eq!(masked("+15550001111"), "+***********");
        for kept in [
            "2026-01-02T03:04:05.123456Z port 50051",
            "018f3c5e-1234-7000-8000-123456789012",
            "3EB0123456789012AB",
        ] {
            assert_eq!(masked(kept), kept);
        }
    }

    #[test]
    fn the_default_filter_is_one() {
        EnvFilter::try_new(Filter::News.directives()).unwrap();
    }
}
