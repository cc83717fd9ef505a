//! Requests that callers may repeat: what is remembered of them.

use std::time::SystemTime;

use bytes::Bytes;
use prost::Message;

use super::{Storage, StorageError};
use crate::domain::ids::{ApiKeyId, InstanceNumber};

/// Bytes of a field's digest: enough to tell it from what the same caller said before.
const FIELD_DIGEST: usize = 8;

/// A caller's `request_id`, remembered for `limits::REQUEST_MEMORY`.
#[derive(Clone, Debug)]
pub struct RequestMark {
    /// Whose: the id of the API key.
    pub api_key: ApiKeyId,
    /// For which method.
    pub method: &'static str,
    /// The id.
    pub request_id: String,
    /// Digest of the body.
    pub body_digest: [u8; 32],
    /// Digests of its fields, to say which of them differ.
    pub fields: FieldDigests,
    /// Now.
    pub time: SystemTime,
}

/// What came of claiming a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClaimOutcome {
    /// It is new and claimed.
    New,
    /// It was claimed at this time with the same body, and never answered.
    Unanswered(SystemTime),
    /// It was answered with this.
    Answered(Bytes),
    /// It was claimed with another body, which differs in these fields.
    Reused(Vec<String>),
}

/// The digests of a body's fields that are set, by their names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldDigests(Vec<(String, [u8; FIELD_DIGEST])>);

impl FieldDigests {
    /// Adds a field with the digest of what it says. A name longer than any in the contract is left out.
    pub fn push(&mut self, name: &str, digest: &[u8; 32]) {
        let mut short = [0; FIELD_DIGEST];
        short.copy_from_slice(&digest[..FIELD_DIGEST]);
        if u8::try_from(name.len()).is_ok() {
            self.0.push((name.to_owned(), short));
        }
    }

    /// The names of the fields that are not the same in both.
    pub fn differing(&self, other: &Self) -> Vec<String> {
        let is_in = |one: &(String, _), all: &Self| all.0.contains(one);
        let here = self.0.iter().filter(|one| !is_in(one, other));
        let there = other.0.iter().filter(|one| !is_in(one, self));
        let mut names: Vec<String> = here.chain(there).map(|(name, _)| name.clone()).collect();
        names.sort();
        names.dedup();
        names
    }

    /// As bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (name, digest) in &self.0 {
            // As `push` has it.
            bytes.push(name.len() as u8);
            bytes.extend_from_slice(name.as_bytes());
            bytes.extend_from_slice(digest);
        }
        bytes
    }

    /// From bytes; as far as they can be read.
    pub fn decode(mut bytes: &[u8]) -> Self {
        let mut fields = Self::default();
        while let Some((length, rest)) = bytes.split_first() {
            let Some((name, rest)) = rest.split_at_checked((*length).into()) else {
                break;
            };
            let Some((digest, rest)) = rest.split_first_chunk() else {
                break;
            };
            let name = String::from_utf8_lossy(name).into_owned();
            fields.0.push((name, *digest));
            bytes = rest;
        }
        fields
    }
}

/// Does something once per request: a retry gets the answer of the first, and another body under its id what `reused`
/// makes of the fields that differ. The work hears since when an earlier try has had no answer. A failure is
/// forgotten with its request where `is_over` says that nothing was done; else a retry does it over.
pub async fn once<T, E, Work>(
    storage: &dyn Storage,
    instance: InstanceNumber,
    request: RequestMark,
    work: impl FnOnce(Option<SystemTime>) -> Work,
    is_over: impl FnOnce(&E, Option<SystemTime>) -> bool,
    reused: impl FnOnce(Vec<String>) -> E,
) -> Result<T, E>
where
    T: Message + Default,
    E: From<StorageError>,
    Work: Future<Output = Result<T, E>>,
{
    let begun = match storage.claim_request(instance, request.clone()).await? {
        ClaimOutcome::New => None,
        ClaimOutcome::Unanswered(since) => Some(since),
        ClaimOutcome::Answered(answer) => {
            let known = T::decode(answer);
            return known.map_err(|error| StorageError::Corrupt(error.into()).into());
        }
        ClaimOutcome::Reused(fields) => return Err(reused(fields)),
    };
    let done = work(begun).await;
    let kept = match &done {
        Ok(answer) => {
            let answer = answer.encode_to_vec().into();
            storage.answer_request(request, answer).await
        }
        Err(error) if is_over(error, begun) => storage.release_request(request).await,
        Err(_) => Ok(()),
    };
    if let Err(error) = kept {
        tracing::warn!(%instance, %error, "the answer of a request is not kept");
    }
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(pairs: &[(&str, u8)]) -> FieldDigests {
        let mut fields = FieldDigests::default();
        for (name, digest) in pairs {
            fields.push(name, &[*digest; 32]);
        }
        fields
    }

    #[test]
    fn what_differs_is_named_once() {
        let first = fields(&[("recipient", 1), ("text", 2), ("forwarded", 3)]);
        assert!(first.differing(&first).is_empty());
        let other = fields(&[("recipient", 1), ("text", 9), ("image", 4)]);
        assert_eq!(first.differing(&other), ["forwarded", "image", "text"]);
    }

    #[test]
    fn they_come_out_as_they_went_in() {
        let all = fields(&[("recipient", 1), ("text", 2)]);
        assert_eq!(FieldDigests::decode(&all.encode()), all);
        let bytes = all.encode();
        assert_eq!(
            FieldDigests::decode(&bytes[..bytes.len() - 1]),
            fields(&[("recipient", 1)])
        );
        assert_eq!(FieldDigests::decode(&[]), FieldDigests::default());
    }
}
