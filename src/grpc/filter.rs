//! What a reader of events asks for, in words of the domain: shared by Subscribe and ListEvents.

use std::sync::Arc;

use tonic::Status;

use crate::{
    auth::Caller,
    domain::{
        cursor::Cursor,
        event_type::EventType,
        ids::{InstanceId, InstanceNumber},
        permission::Permission,
    },
    events::{Gap, GapReason, Log, Start, Wanted, system_time},
    grpc::{
        access,
        status::{self, Reason, refuse},
    },
    proto::v1,
    storage::{Storage, StoredEvent},
};

const INSTANCES_MAX: usize = 1_000;
const TYPES_MAX: usize = 100;

/// Which events a caller asked for and may see.
#[derive(Debug)]
pub(super) struct Filter {
    /// As the log is asked.
    pub wanted: Wanted,
    /// The instances that the caller named.
    pub named: Vec<(InstanceNumber, InstanceId)>,
}

impl Filter {
    /// The filter of a request.
    pub async fn resolve(
        storage: &dyn Storage,
        caller: &Caller,
        instances: &[String],
        event_types: &[String],
    ) -> Result<Self, Status> {
        let event_types = types(caller, event_types)?;
        if instances.len() > INSTANCES_MAX {
            let description = format!("must name at most {INSTANCES_MAX}");
            return Err(status::field_invalid("instances", description));
        }
        let mut named = Vec::with_capacity(instances.len());
        for (index, text) in instances.iter().enumerate() {
            let field = format!("instances[{index}]");
            let row = access::instance(storage, caller, &field, text).await?;
            if !named.contains(&(row.number, row.id)) {
                named.push((row.number, row.id));
            }
        }
        let instances = match named.is_empty() {
            true => caller.instances().cloned(),
            false => Some(named.iter().map(|(number, _)| *number).collect()),
        };
        Ok(Self {
            wanted: Wanted {
                instances,
                event_types,
            },
            named,
        })
    }

    /// What to ask the log for in order to notice that every named instance is gone, too.
    pub fn with_deletions(&self) -> Wanted {
        let deleted = EventType::InstanceDeleted;
        let event_types = self.wanted.event_types.as_ref().map(|types| {
            if self.named.is_empty() || types.contains(&deleted) {
                types.clone()
            } else {
                types.iter().copied().chain([deleted]).collect()
            }
        });
        Wanted {
            instances: self.wanted.instances.clone(),
            event_types,
        }
    }

    /// Whether the caller asked for events of this type.
    pub fn passes(&self, event_type: EventType) -> bool {
        self.wanted
            .event_types
            .as_ref()
            .is_none_or(|types| types.contains(&event_type))
    }
}

/// Whether a caller may see an event that they did not ask for by instance.
pub(super) fn may_see(caller: &Caller, event: &StoredEvent) -> bool {
    caller.sees(event.instance)
        && (event.event_type != EventType::ConnectionPairing
            || caller.may(Permission::InstancesPair))
}

/// The types that these patterns name, without those that the caller may not see.
fn types(caller: &Caller, patterns: &[String]) -> Result<Option<Arc<[EventType]>>, Status> {
    if patterns.len() > TYPES_MAX {
        let description = format!("must name at most {TYPES_MAX}");
        return Err(status::field_invalid("event_types", description));
    }
    let may_pair = caller.may(Permission::InstancesPair);
    let mut named = Vec::new();
    for (index, pattern) in patterns.iter().enumerate() {
        let matching = EventType::matching(pattern);
        if matching.is_empty() {
            let field = format!("event_types[{index}]");
            return Err(status::event_type_unknown(&field, pattern));
        }
        if !may_pair && pattern == EventType::ConnectionPairing.as_str() {
            // Asked for by name: silence would look like an instance that never pairs.
            return Err(status::permission_denied(Permission::InstancesPair));
        }
        named.extend(matching);
    }
    let asked = |one: &EventType| patterns.is_empty() || named.contains(one);
    let allowed = |one: &EventType| may_pair || *one != EventType::ConnectionPairing;
    if patterns.is_empty() && may_pair {
        return Ok(None);
    }
    Ok(Some(
        EventType::EVERY
            .into_iter()
            .filter(|one| asked(one) && allowed(one))
            .collect(),
    ))
}

/// A start as either request has it.
pub(super) enum Asked {
    Nothing,
    Position(i32),
    AfterCursor(String),
    AfterTime(pbjson_types::Timestamp),
}

impl From<Option<v1::subscribe_request::Start>> for Asked {
    fn from(start: Option<v1::subscribe_request::Start>) -> Self {
        use v1::subscribe_request::Start as Wire;
        match start {
            None => Self::Nothing,
            Some(Wire::Position(position)) => Self::Position(position),
            Some(Wire::AfterCursor(cursor)) => Self::AfterCursor(cursor),
            Some(Wire::AfterTime(time)) => Self::AfterTime(time),
        }
    }
}

impl From<Option<v1::list_events_request::Start>> for Asked {
    fn from(start: Option<v1::list_events_request::Start>) -> Self {
        use v1::list_events_request::Start as Wire;
        match start {
            None => Self::Nothing,
            Some(Wire::Position(position)) => Self::Position(position),
            Some(Wire::AfterCursor(cursor)) => Self::AfterCursor(cursor),
            Some(Wire::AfterTime(time)) => Self::AfterTime(time),
        }
    }
}

/// The start that was asked for; `default` where none was.
pub(super) fn start(asked: Asked, default: Start) -> Result<Start, Status> {
    match asked {
        Asked::Nothing => Ok(default),
        Asked::Position(number) => match v1::StartPosition::try_from(number) {
            Ok(v1::StartPosition::Unspecified | v1::StartPosition::Latest) => Ok(Start::Latest),
            Ok(v1::StartPosition::Earliest) => Ok(Start::Earliest),
            Err(_) => Err(status::field_invalid("position", "is no start position")),
        },
        Asked::AfterCursor(text) => Cursor::parse(&text).map(Start::After).ok_or_else(|| {
            refuse(
                Reason::CursorInvalid,
                "after_cursor is not a cursor that wagate handed out",
            )
            .field("after_cursor", "must be the cursor of an event or a frame")
            .into()
        }),
        Asked::AfterTime(time) => system_time(&time)
            .map(Start::Since)
            .ok_or_else(|| status::field_invalid("after_time", "is no time")),
    }
}

/// Whether to go on after a gap.
pub(super) fn skips_gaps(on_gap: i32) -> Result<bool, Status> {
    match v1::GapPolicy::try_from(on_gap) {
        Ok(v1::GapPolicy::Unspecified | v1::GapPolicy::Fail) => Ok(false),
        Ok(v1::GapPolicy::Skip) => Ok(true),
        Err(_) => Err(status::field_invalid("on_gap", "is no gap policy")),
    }
}

/// A gap as a frame tells it.
pub(super) fn told(log: &Log, gap: &Gap) -> v1::Gap {
    v1::Gap {
        from_cursor: gap.from.to_string(),
        to_cursor: log.cursor(gap.earliest).to_string(),
        reason: status::name(gap_reason(gap.reason)).to_owned(),
    }
}

/// A gap as an error tells it.
pub(super) fn gap_refused(log: &Log, gap: &Gap) -> Status {
    let earliest = log.cursor(gap.earliest);
    let reason = gap_reason(gap.reason);
    match gap.reason {
        GapReason::Compacted => refuse(reason, "events after the cursor were removed by retention")
            .with("earliest_cursor", earliest),
        GapReason::EpochMismatch => refuse(reason, "the cursor belongs to another log")
            .with("log_epoch", log.epoch())
            .with("earliest_cursor", earliest),
        GapReason::AheadOfLog => refuse(reason, "the cursor is newer than the log")
            .with("head_cursor", log.cursor(gap.head)),
    }
    .into()
}

fn gap_reason(reason: GapReason) -> Reason {
    match reason {
        GapReason::Compacted => Reason::CursorCompacted,
        GapReason::EpochMismatch => Reason::CursorEpochMismatch,
        GapReason::AheadOfLog => Reason::CursorAheadOfLog,
    }
}
