//! Durations and sizes as people write them.
//!
//! Owns the two small grammars; never a limit: those belong to the sections.

use std::{fmt, time::Duration};

use serde::{Deserialize, Deserializer, de};

const DURATIONS: [(&str, u64); 5] = [
    ("ms", 1),
    ("s", 1_000),
    ("m", 60_000),
    ("h", 3_600_000),
    ("d", 86_400_000),
];

const SIZES: [(&str, u64); 9] = [
    ("B", 1),
    ("kB", 1_000),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];

/// The duration in a text such as `90s` or `1h 30m`.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let mut rest = text.trim();
    let mut total: u64 = 0;
    if rest.is_empty() {
        return Err("is empty: write a duration such as \"90s\" or \"7d\"".to_owned());
    }
    while !rest.is_empty() {
        let (millis, after) = term(rest, &DURATIONS).ok_or_else(|| {
            format!("`{text}` is not a duration: write \"90s\", \"15m\", \"12h\" or \"7d\"")
        })?;
        total = total
            .checked_add(millis)
            .ok_or_else(|| format!("`{text}` is too long"))?;
        rest = after.trim_start();
    }
    Ok(Duration::from_millis(total))
}

/// The number of bytes in a text such as `2GiB`.
pub fn parse_size(text: &str) -> Result<u64, String> {
    match term(text.trim(), &SIZES) {
        Some((bytes, "")) => Ok(bytes),
        _ => Err(format!(
            "`{text}` is not a size: write \"512MiB\", \"2GiB\" or \"10GB\""
        )),
    }
}

/// One number with its unit off the front of a text, and what is left.
fn term<'a>(text: &'a str, units: &[(&str, u64)]) -> Option<(u64, &'a str)> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let number: u64 = text[..digits].parse().ok()?;
    let unit_and_rest = text[digits..].trim_start();
    let letters = unit_and_rest
        .find(|c: char| !c.is_ascii_alphabetic())
        .unwrap_or(unit_and_rest.len());
    let (unit, rest) = unit_and_rest.split_at(letters);
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    Some((number.checked_mul(*factor)?, rest))
}

pub(super) fn duration<'de, D: Deserializer<'de>>(source: D) -> Result<Duration, D::Error> {
    parse_with(source, parse_duration)
}

pub(super) fn size<'de, D: Deserializer<'de>>(source: D) -> Result<u64, D::Error> {
    parse_with(source, parse_size)
}

/// A field that is a text in the file and something better in the program.
pub(super) fn parse_with<'de, D, T, E>(
    source: D,
    parse: impl Fn(&str) -> Result<T, E>,
) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    E: fmt::Display,
{
    let text = String::deserialize(source)?;
    parse(&text).map_err(de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read() {
        for (text, seconds) in [
            ("90s", 90),
            ("15m", 900),
            ("12h", 43_200),
            ("7d", 604_800),
            ("1h30m", 5_400),
            (" 1h 30 m ", 5_400),
            ("0s", 0),
        ] {
            assert_eq!(
                parse_duration(text),
                Ok(Duration::from_secs(seconds)),
                "{text}"
            );
        }
        assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
        for text in ["", "7", "d", "7 days", "-1s", "1.5h", "99999999999999999d"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_are_read() {
        for (text, bytes) in [
            ("1B", 1),
            ("10GB", 10_000_000_000),
            ("512MiB", 536_870_912),
            ("2 GiB", 2_147_483_648),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for text in ["", "2", "GiB", "2gib", "1GiB 5MiB", "99999999999TiB", "-1B"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }
}
