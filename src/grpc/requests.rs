//! A caller's `request_id`, which makes a retry safe.
//!
//! Owns what two requests must have in common to be one, and that what a request asks for is done by one of its
//! callers at a time. Never knows what that is.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::{Arc, LazyLock},
    time::SystemTime,
};

use prost::{
    Message,
    encoding::{DecodeContext, decode_key, skip_field},
};
use prost_types::FileDescriptorSet;
use sha2::{Digest as _, Sha256};
use tokio::sync::Mutex;
use tonic::{Code, Status};

use super::{access, status};
use crate::{
    auth::Caller,
    domain::ids::InstanceNumber,
    proto::DESCRIPTOR_SET,
    storage::{
        Storage,
        request::{FieldDigests, RequestMark, once},
    },
};

/// Requests of one service that may be at work side by side; equal ones never are.
const TURNS: usize = 64;

/// What a request counts as that outlives its instance, or is of none.
pub(super) const NO_INSTANCE: InstanceNumber = InstanceNumber(0);

/// The package of the contract.
const PACKAGE: &str = "wagate.v1";

/// The names of the fields of every method's request, by method and number.
static FIELDS: LazyLock<HashMap<String, HashMap<u32, String>>> = LazyLock::new(field_names);

/// What to remember of a request; `None` where the caller gave no id. `body` is the request without
/// what may differ between two spellings of the same wish.
pub(super) fn mark(
    caller: &Caller,
    method: &'static str,
    request_id: &str,
    body: &impl Message,
) -> Result<Option<RequestMark>, Status> {
    if request_id.is_empty() {
        return Ok(None);
    }
    access::label("request_id", request_id)?;
    if request_id.trim() != request_id {
        return Err(status::field_invalid(
            "request_id",
            "must not begin or end with a space",
        ));
    }
    let body = body.encode_to_vec();
    Ok(Some(RequestMark {
        api_key: caller.key().clone(),
        method,
        request_id: request_id.to_owned(),
        body_digest: Sha256::digest(&body).into(),
        fields: digests(method, &body),
        time: SystemTime::now(),
    }))
}

/// The same of a request with its id in it. Where it names an instance, one that is named another way is the same.
macro_rules! mark_of {
    ($caller:expr, $asked:expr, $method:literal) => {{
        let mut body = $asked.clone();
        body.request_id = String::new();
        $crate::grpc::requests::mark(&$caller, $method, &$asked.request_id, &body)
    }};
    ($caller:expr, $instance:expr, $asked:expr, $method:literal) => {{
        let mut body = $asked.clone();
        body.instance = $instance.id.to_string();
        body.request_id = String::new();
        $crate::grpc::requests::mark(&$caller, $method, &$asked.request_id, &body)
    }};
}
pub(super) use mark_of;

/// Does what requests ask for once, where that is not known by what it leaves behind.
pub(super) struct Requests {
    storage: Arc<dyn Storage>,
    turns: Arc<[Mutex<()>; TURNS]>,
}

impl Requests {
    /// The requests of one service.
    pub(super) fn new(storage: Arc<dyn Storage>) -> Self {
        Self {
            storage,
            turns: Arc::new(std::array::from_fn(|_| Mutex::default())),
        }
    }

    /// Does the work of a request, or answers as it was answered before. Work whose answer was lost in a crash is
    /// done again, so it must be such that it can be. It is done to its end also if its caller leaves.
    pub(super) async fn once<T, Work>(
        &self,
        instance: InstanceNumber,
        request: Option<RequestMark>,
        work: Work,
    ) -> Result<T, Status>
    where
        T: Message + Default + 'static,
        Work: Future<Output = Result<T, Status>> + Send + 'static,
    {
        let Some(request) = request else {
            return work.await;
        };
        let (storage, turns) = (self.storage.clone(), self.turns.clone());
        let done = tokio::spawn(async move {
            let _turn = turns[turn(&request)].lock().await;
            let is_over = |error: &Status, _| !is_undecided(error.code());
            let reused = |fields: Vec<String>| status::request_id_reused(&fields);
            once(
                storage.as_ref(),
                instance,
                request,
                |_| work,
                is_over,
                reused,
            )
            .await
        });
        done.await.unwrap_or_else(|_| Err(status::internal()))
    }
}

/// Whose turn a request waits for.
fn turn(request: &RequestMark) -> usize {
    let mut hasher = DefaultHasher::new();
    request.api_key.as_str().hash(&mut hasher);
    request.method.hash(&mut hasher);
    request.request_id.hash(&mut hasher);
    (hasher.finish() % TURNS as u64) as usize
}

/// After these it may have been done all the same.
fn is_undecided(code: Code) -> bool {
    matches!(
        code,
        Code::Unavailable | Code::Internal | Code::DeadlineExceeded | Code::Unknown
    )
}

/// The digests of the fields of an encoded request.
fn digests(method: &str, body: &[u8]) -> FieldDigests {
    let mut fields: Vec<(u32, Sha256)> = Vec::new();
    let mut rest = body;
    while !rest.is_empty() {
        let Ok((number, wire_type)) = decode_key(&mut rest) else {
            break;
        };
        let value = rest;
        if skip_field(wire_type, number, &mut rest, DecodeContext::default()).is_err() {
            break;
        }
        let value = &value[..value.len() - rest.len()];
        match fields.iter_mut().find(|(known, _)| *known == number) {
            // One entry more of a list.
            Some((_, digest)) => digest.update(value),
            None => fields.push((number, Sha256::new_with_prefix(value))),
        }
    }
    let names = FIELDS.get(method);
    let mut digests = FieldDigests::default();
    for (number, digest) in fields {
        let name = names.and_then(|names| names.get(&number));
        let name = name.map_or_else(|| number.to_string(), String::clone);
        digests.push(&name, &digest.finalize().into());
    }
    digests
}

fn field_names() -> HashMap<String, HashMap<u32, String>> {
    let files = match FileDescriptorSet::decode(DESCRIPTOR_SET) {
        Ok(set) => set.file,
        Err(error) => {
            // Made by our own build; without it fields are named by their numbers.
            tracing::error!(%error, "the contract's description can't be read");
            return HashMap::new();
        }
    };
    let files: Vec<_> = files
        .into_iter()
        .filter(|file| file.package() == PACKAGE)
        .collect();
    let mut messages = HashMap::new();
    for message in files.iter().flat_map(|file| &file.message_type) {
        let fields = message.field.iter().filter_map(|field| {
            Some((u32::try_from(field.number()).ok()?, field.name().to_owned()))
        });
        messages.insert(
            format!(".{PACKAGE}.{}", message.name()),
            fields.collect::<HashMap<_, _>>(),
        );
    }
    let methods = files.iter().flat_map(|file| &file.service);
    let methods = methods.flat_map(|service| &service.method);
    methods
        .filter_map(|method| {
            // Of a stream only what is said first of it counts, as `UploadMediaMetadata` of `UploadMedia`.
            let input = match method.client_streaming() {
                true => &format!(".{PACKAGE}.{}Metadata", method.name()),
                false => method.input_type(),
            };
            let fields = messages.get(input)?.clone();
            Some((method.name().to_owned(), fields))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::v1;

    #[test]
    fn what_differs_is_told_by_its_name() {
        let first = v1::UpdateParticipantsRequest {
            instance: "one".to_owned(),
            group: "120363000000000001@g.us".to_owned(),
            participants: vec!["15550001111".to_owned(), "15550002222".to_owned()],
            ..Default::default()
        };
        let told = |other: &v1::UpdateParticipantsRequest| {
            let digest = |one: &v1::UpdateParticipantsRequest| {
                digests("UpdateParticipants", &one.encode_to_vec())
            };
            digest(&first).differing(&digest(other))
        };
        assert!(told(&first).is_empty());
        let other = v1::UpdateParticipantsRequest {
            action: 1,
            participants: vec!["15550001111".to_owned()],
            ..first.clone()
        };
        assert_eq!(told(&other), ["action", "participants"]);
    }

    #[test]
    fn every_method_that_takes_a_request_id_is_known() {
        let with_id = FIELDS
            .values()
            .filter(|fields| fields.values().any(|name| name == "request_id"));
        assert!(with_id.count() > 15);
        assert!(FIELDS["SendMessage"].values().any(|name| name == "text"));
        assert!(FIELDS["UploadMedia"].values().any(|name| name == "sha256"));
    }
}
