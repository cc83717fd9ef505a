//! The deadline of a call. tonic bounds only the head of an answer by it, and says so without a
//! reason; streams must look at it themselves.

use std::time::Duration;

use http::HeaderMap;
use tokio::time::Instant;

/// When the call must have ended; in the extensions of every request that has a deadline.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadline(pub Instant);

/// How much time the caller gives, by the `grpc-timeout` header: up to eight digits and a unit.
pub(super) fn requested(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let amount: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(amount * 60 * 60),
        "M" => Duration::from_secs(amount * 60),
        "S" => Duration::from_secs(amount),
        "m" => Duration::from_millis(amount),
        "u" => Duration::from_micros(amount),
        "n" => Duration::from_nanos(amount),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_unit_is_known_and_nonsense_is_none() {
        let parsed = |text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert("grpc-timeout", text.parse().unwrap());
            requested(&headers)
        };
        assert_eq!(parsed("2H"), Some(Duration::from_secs(7_200)));
        assert_eq!(parsed("2M"), Some(Duration::from_secs(120)));
        assert_eq!(parsed("2S"), Some(Duration::from_secs(2)));
        assert_eq!(parsed("99999999m"), Some(Duration::from_millis(99_999_999)));
        assert_eq!(parsed("2u"), Some(Duration::from_micros(2)));
        assert_eq!(parsed("2n"), Some(Duration::from_nanos(2)));
        for nonsense in ["", "S", "2", "-2S", "2s", "100000000S", "2.5S"] {
            assert_eq!(parsed(nonsense), None, "{nonsense}");
        }
    }
}
