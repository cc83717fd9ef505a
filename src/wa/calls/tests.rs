use tempfile::TempDir;

use super::*;
use crate::{
    domain::ids::InstanceId,
    egress::{Egress, Guard},
    preview::Previews,
    storage::{
        CallQuery, EventQuery, NameOutcome, Network, NewInstance, StoredEvent,
        sqlite::SqliteStorage,
    },
    wa::{addresses::Addresses, groups::Groups, media::Uploads, outbound::Parts},
};

struct Place {
    _folder: TempDir,
    storage: Arc<SqliteStorage>,
    calls: Calls,
}

async fn place() -> Place {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("wagate.db");
    let storage = SqliteStorage::open(path, Default::default()).await.unwrap();
    let new = NewInstance {
        id: InstanceId::generate(),
        name: None,
        network: Network::Sandbox,
        show_online: false,
        create_time: SystemTime::now(),
    };
    let created = storage
        .create_instance(new, None, Box::new(|_| Vec::new()))
        .await;
    let Ok(NameOutcome::Done(row)) = created else {
        panic!("{created:?}");
    };
    let (instance, open) = (watch::channel(*row).1, watch::channel(None));
    let (addresses, stop) = (Arc::new(Addresses::default()), CancellationToken::new());
    let groups = Groups::new(
        storage.clone(),
        instance.clone(),
        open.1.clone(),
        addresses.clone(),
        stop.clone(),
    );
    let contacts = Contacts::new(storage.clone(), instance.clone());
    let uploads = Uploads::in_folder(storage.clone(), folder.path());
    let outbox = Outbox::spawn(Parts {
        storage: storage.clone(),
        instance: instance.clone(),
        client: open.0,
        addresses,
        contacts: contacts.clone(),
        groups,
        previews: Previews::new(Egress::new(Guard::default()), uploads.media().clone()),
        uploads,
        stop: stop.clone(),
    });
    let calls = Calls {
        storage: storage.clone(),
        contacts,
        instance,
        client: open.1,
        outbox,
        stop,
        open: Mutex::default(),
        changed: Notify::new(),
        unanswered: AtomicBool::new(false),
    };
    Place {
        _folder: folder,
        storage,
        calls,
    }
}

impl Place {
    fn call(&self, id: &str, state: CallState, verdict: CallState) -> CallRow {
        let call = v1::Call {
            id: id.to_owned(),
            state: state.into(),
            offer_time: Some(timestamp(SystemTime::now())),
            ..Default::default()
        };
        CallRow {
            instance: self.calls.row().number,
            call_id: id.to_owned(),
            peer: "15550001111@s.whatsapp.net".to_owned(),
            creator: "15550001111@s.whatsapp.net".to_owned(),
            time: SystemTime::now(),
            open: true,
            verdict: verdict.into(),
            answer: String::new(),
            body: call.encode_to_vec().into(),
        }
    }

    /// The states that the log tells, with whose they are.
    async fn told(&self) -> Vec<(String, CallState)> {
        let query = EventQuery {
            limit: 1_000,
            max_bytes: usize::MAX,
            ..Default::default()
        };
        let page = self.storage.read_events(query).await.unwrap();
        let call = |event: StoredEvent| match v1::Event::decode(event.body).unwrap().payload {
            Some(Payload::CallUpdated(update)) => update.call,
            _ => None,
        };
        let told = page.events.into_iter().filter_map(call);
        told.map(|call| (call.id.clone(), call.state())).collect()
    }
}

#[tokio::test]
async fn an_end_that_nobody_tells_is_told_once_its_time_is_up() {
    let place = place().await;
    for (id, state, verdict) in [
        ("rang", CallState::Ringing, CallState::Unspecified),
        ("waited", CallState::Unspecified, CallState::Missed),
    ] {
        let row = place.call(id, state, verdict);
        place.storage.change_call(row, Vec::new()).await.unwrap();
    }
    // As after a restart.
    place.calls.load().await;
    let next = place.calls.expire().await;
    assert!(next > Instant::now() && place.told().await.is_empty());
    for one in place.calls.open.lock().await.values_mut() {
        one.until = Instant::now();
    }
    place.calls.expire().await;
    let mut told = place.told().await;
    told.sort_by(|one, other| one.0.cmp(&other.0));
    let due = [
        ("rang".to_owned(), CallState::Timeout),
        ("waited".to_owned(), CallState::Missed),
    ];
    assert_eq!(told, due);
    place.calls.expire().await;
    assert_eq!(place.told().await.len(), 2);
    let number = place.calls.row().number;
    let open = place.storage.list_calls(number, CallQuery::Open, 9).await;
    assert_eq!(open.unwrap(), []);
}

#[tokio::test]
async fn more_calls_than_are_kept_in_mind_end_the_oldest() {
    let place = place().await;
    let mut open = place.calls.open.lock().await;
    for at in 0..=OPEN_CALLS {
        let row = place.call(&at.to_string(), CallState::Offer, CallState::Unspecified);
        let call = shown(&row).unwrap();
        let steps = [CallState::Ringing];
        place.calls.advance(&mut open, row, call, &steps).await;
    }
    assert_eq!(open.len(), OPEN_CALLS);
    assert!(!open.contains_key("0"));
    let told = place.told().await;
    assert_eq!(told.last(), Some(&("0".to_owned(), CallState::Timeout)));
}

#[test]
fn a_talk_lasts_as_long_as_is_said_or_else_since_it_was_answered() {
    let start = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000);
    let call = v1::Call {
        state_time: Some(timestamp(start)),
        ..Default::default()
    };
    let end = start + Duration::from_secs(61);
    let seconds = |said| talked(&call, said, end).map(|length| length.seconds);
    assert_eq!(seconds(None), Some(61));
    assert_eq!(seconds(Some(Duration::from_secs(59))), Some(59));
    assert_eq!(talked(&call, None, SystemTime::UNIX_EPOCH), None);
}
