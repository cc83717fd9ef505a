//! Pages of lists: their size, and tokens that only the call that handed them out takes back.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use sha2::{Digest as _, Sha256};
use tonic::Status;

use crate::{domain::limits, grpc::status};

const CHECK_BYTES: usize = 8;

/// How many rows to read for a caller's `page_size`.
pub fn size(page_size: i32) -> Result<usize, Status> {
    sized(page_size, limits::PAGE_MAX)
}

/// The same for events, whose pages are smaller.
pub(super) fn event_size(page_size: i32) -> Result<usize, Status> {
    sized(page_size, limits::EVENTS_MAX)
}

fn sized(page_size: i32, most: usize) -> Result<usize, Status> {
    match usize::try_from(page_size) {
        Err(_) => Err(status::field_invalid("page_size", "must not be negative")),
        Ok(0) => Ok(limits::PAGE_DEFAULT),
        Ok(wanted) => Ok(wanted.min(most)),
    }
}

/// The token of the page after this key, for one method.
fn token(method: &str, last_key: &str) -> String {
    let mut bytes = check(method, last_key).to_vec();
    bytes.extend_from_slice(last_key.as_bytes());
    BASE64.encode(bytes)
}

/// One page out of the rows that were read, of which one more than its size tells that there is a next
/// one; with the token of that.
pub(super) fn cut<Row>(
    method: &str,
    mut rows: Vec<Row>,
    size: usize,
    key: impl FnOnce(&Row) -> String,
) -> (Vec<Row>, String) {
    let more = rows.len() > size;
    rows.truncate(size);
    let next = rows.last().filter(|_| more);
    let next = next.map_or(String::new(), |last| token(method, &key(last)));
    (rows, next)
}

/// The key in a caller's `page_token`; `None` where it is empty.
pub fn after(method: &str, page_token: &str) -> Result<Option<String>, Status> {
    if page_token.is_empty() {
        return Ok(None);
    }
    let key = || {
        let bytes = BASE64.decode(page_token).ok()?;
        let (seen, key) = bytes.split_at_checked(CHECK_BYTES)?;
        let key = std::str::from_utf8(key).ok()?;
        (seen == check(method, key)).then(|| key.to_owned())
    };
    key().map(Some).ok_or_else(status::page_token_invalid)
}

fn check(method: &str, key: &str) -> [u8; CHECK_BYTES] {
    let mut digest = Sha256::new();
    digest.update(method.as_bytes());
    digest.update([0]);
    digest.update(key.as_bytes());
    let digest: [u8; 32] = digest.finalize().into();
    let mut check = [0; CHECK_BYTES];
    check.copy_from_slice(&digest[..CHECK_BYTES]);
    check
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_goes_back_to_its_own_method_only() {
        let made = token("List", "key");
        assert_eq!(after("List", &made).unwrap().as_deref(), Some("key"));
        assert_eq!(after("List", "").unwrap(), None);
        for (method, wrong) in [("Other", made.as_str()), ("List", "AAAA"), ("List", "ü")] {
            assert!(after(method, wrong).is_err());
        }
    }

    #[test]
    fn a_page_is_cut_where_there_is_another() {
        let key = |row: &u8| row.to_string();
        let (page, next) = cut("List", vec![1, 2, 3], 2, key);
        assert_eq!(page, [1, 2]);
        assert_eq!(after("List", &next).unwrap().as_deref(), Some("2"));
        assert_eq!(cut("List", vec![1, 2], 2, key), (vec![1, 2], String::new()));
        assert_eq!(cut("List", vec![], 2, key), (vec![], String::new()));
    }

    #[test]
    fn sizes_are_coerced() {
        assert_eq!(size(0).unwrap(), 100);
        assert_eq!(size(7).unwrap(), 7);
        assert_eq!(size(i32::MAX).unwrap(), 1_000);
        assert_eq!(event_size(i32::MAX).unwrap(), 500);
        assert!(size(-1).is_err());
    }
}
