//! Who is who, learnt in any order.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Mutex,
};

use proptest::prelude::*;

use super::*;
use crate::{
    domain::ids::ContactId,
    storage::contact::{ContactKey, ContactNews, ContactRow, Sighting},
};

const ONE: InstanceNumber = InstanceNumber(1);

fn at(second: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(second)
}

fn seen(lid: &str, phone_number: &str, name: &str, second: u64) -> Sighting {
    Sighting {
        lid: lid.to_owned(),
        phone_number: phone_number.to_owned(),
        name: name.to_owned(),
        source: "test".to_owned(),
        time: at(second),
        met: true,
    }
}

/// Somebody who is shown and was not met.
fn shown(lid: &str, phone_number: &str, second: u64) -> Sighting {
    Sighting {
        met: false,
        ..seen(lid, phone_number, "", second)
    }
}

/// What is told of these.
async fn news(storage: &SqliteStorage, sightings: Vec<Sighting>) -> Vec<ContactNews> {
    let all = Arc::new(Mutex::new(Vec::new()));
    let told = all.clone();
    let events: EventsOf<ContactNews> = Box::new(move |news| {
        told.lock().unwrap().push(news.clone());
        vec![received(1, "news")]
    });
    storage
        .learn_contacts(ONE, sightings, events)
        .await
        .unwrap();
    std::mem::take(&mut *all.lock().unwrap())
}

/// Which contacts these made one: the one that is gone, and the one that stays.
async fn learn(storage: &SqliteStorage, sightings: Vec<Sighting>) -> Vec<(ContactId, ContactId)> {
    let news = news(storage, sightings).await;
    let merges = news.into_iter().filter_map(|one| match one {
        ContactNews::Merged { kept, gone } => Some((gone, kept.id)),
        _ => None,
    });
    merges.collect()
}

/// What somebody who only hears the news knows of the contacts.
#[derive(Default)]
struct Listener(BTreeMap<ContactId, ContactRow>);

impl Listener {
    fn hear(&mut self, news: Vec<ContactNews>) {
        for one in news {
            match one {
                ContactNews::Created { contact, .. } => {
                    assert!(self.0.insert(contact.id, contact).is_none());
                }
                ContactNews::Updated { before, after } => {
                    assert_eq!(self.0.insert(after.id, after), Some(before));
                }
                ContactNews::Merged { kept, gone } => {
                    self.0.remove(&gone);
                    self.0.insert(kept.id, kept);
                }
            }
        }
    }
}

async fn found(storage: &SqliteStorage, key: ContactKey) -> Option<ContactRow> {
    storage.lookup_contact(ONE, key).await.unwrap()
}

async fn everybody(storage: &SqliteStorage) -> Vec<ContactRow> {
    storage.list_contacts(ONE, None, 1_000).await.unwrap()
}

fn number(text: &str) -> ContactKey {
    ContactKey::Number(text.to_owned())
}

fn lid(text: &str) -> ContactKey {
    ContactKey::Lid(text.to_owned())
}

#[tokio::test]
async fn two_contacts_become_one_when_their_pair_is_learnt() {
    let place = Place::new();
    let storage = place.open().await;
    created(&storage, "one").await;
    let quiet = learn(
        &storage,
        vec![
            seen("", "15550000001", "Ann", 10),
            seen("901", "", "Old name", 5),
        ],
    );
    assert!(quiet.await.is_empty());
    let by_number = found(&storage, number("15550000001")).await.unwrap();
    let by_lid = found(&storage, lid("901")).await.unwrap();
    assert_ne!(by_number.id, by_lid.id);

    let before = all(&storage).await.len();
    let merges = learn(&storage, vec![seen("901", "15550000001", "", 11)]).await;
    assert_eq!(merges, [(by_number.id, by_lid.id)]);
    assert_eq!(all(&storage).await.len(), before + 1);

    for key in [
        number("15550000001"),
        lid("901"),
        ContactKey::Id(by_number.id),
        ContactKey::Id(by_lid.id),
    ] {
        let contact = found(&storage, key).await.unwrap();
        assert_eq!(contact.id, by_lid.id);
        assert_eq!(contact.phone_number, "15550000001");
        assert_eq!(contact.lid, "901");
        assert_eq!(contact.name, "Ann");
    }
    assert_eq!(everybody(&storage).await.len(), 1);
    // Told once.
    let again = learn(&storage, vec![seen("901", "15550000001", "", 12)]).await;
    assert!(again.is_empty());
}

#[tokio::test]
async fn what_changes_of_somebody_is_told_once() {
    let place = Place::new();
    let storage = place.open().await;
    created(&storage, "one").await;
    let told = async |sightings| {
        let mut news = news(&storage, sightings).await;
        assert!(news.len() <= 1, "{news:?}");
        news.pop()
    };
    // Several sightings at once are one change, with the outcome.
    let first = vec![
        seen("901", "", "Ann", 20),
        seen("901", "15550000001", "Old name", 10),
    ];
    let Some(ContactNews::Created { contact, time }) = told(first.clone()).await else {
        panic!("a contact is created");
    };
    assert_eq!(
        (&*contact.name, &*contact.phone_number),
        ("Ann", "15550000001")
    );
    assert_eq!(time, at(10));
    assert!(told(first).await.is_none());

    let Some(ContactNews::Updated { before, after }) =
        told(vec![seen("901", "", "Anna", 30)]).await
    else {
        panic!("a name changes");
    };
    assert_eq!(before, contact);
    assert_eq!((after.id, &*after.name), (contact.id, "Anna"));
    // Changed back before anybody could read it: nothing happened.
    let nothing = vec![seen("901", "", "Annette", 40), seen("901", "", "Anna", 50)];
    assert!(told(nothing).await.is_none());

    // The number goes to somebody whom nobody has met.
    let moved = told(vec![shown("902", "15550000001", 60)]).await;
    let Some(ContactNews::Updated { after, .. }) = moved else {
        panic!("a number is taken away");
    };
    assert_eq!((after.id, &*after.phone_number), (contact.id, ""));
}

#[tokio::test]
async fn who_is_only_shown_is_told_of_when_met() {
    let place = Place::new();
    let storage = place.open().await;
    created(&storage, "one").await;
    let group: Vec<_> = (0..1_024)
        .map(|n| shown(&format!("9{n:05}"), &format!("1555{n:07}"), 10))
        .collect();
    assert!(news(&storage, group).await.is_empty());
    assert_eq!(
        storage.list_contacts(ONE, None, 2_000).await.unwrap().len(),
        1_024
    );

    let met = news(&storage, vec![seen("900007", "", "", 20)]).await;
    let [ContactNews::Created { contact, time }] = &met[..] else {
        panic!("{met:?}");
    };
    assert_eq!((&*contact.phone_number, *time), ("15550000007", at(20)));
    // From now on, whatever shows it.
    let renumbered = news(&storage, vec![shown("900007", "15559999999", 30)]).await;
    assert!(matches!(renumbered[..], [ContactNews::Updated { .. }]));
}

#[tokio::test]
async fn a_number_that_changes_hands_goes_to_its_latest_holder() {
    let place = Place::new();
    let storage = place.open().await;
    created(&storage, "one").await;
    learn(
        &storage,
        vec![
            seen("901", "15550000001", "Ann", 10),
            seen("902", "15550000001", "Bob", 20),
            // Read late: it was so before.
            seen("901", "15550000001", "", 15),
            seen("901", "15550000002", "", 30),
        ],
    )
    .await;
    let of = async |key| {
        let contact = found(&storage, key).await.unwrap();
        (contact.name, contact.phone_number)
    };
    let bob = ("Bob".to_owned(), "15550000001".to_owned());
    let ann = ("Ann".to_owned(), "15550000002".to_owned());
    assert_eq!(of(number("15550000001")).await, bob);
    assert_eq!(of(lid("902")).await, bob);
    assert_eq!(of(lid("901")).await, ann);
    assert_eq!(of(number("15550000002")).await, ann);
}

#[tokio::test]
async fn contacts_go_with_their_instance() {
    let place = Place::new();
    let storage = place.open().await;
    created(&storage, "one").await;
    learn(&storage, vec![seen("901", "15550000001", "Ann", 10)]).await;
    assert!(storage.delete_instance(ONE, quiet()).await.unwrap());
    assert!(everybody(&storage).await.is_empty());
    // Too late.
    learn(&storage, vec![seen("902", "", "Bob", 10)]).await;
    assert!(everybody(&storage).await.is_empty());
}

/// What the contacts must be, by all that was ever seen.
fn expected(sightings: &[Sighting]) -> BTreeSet<(String, String)> {
    let mut pairs: BTreeMap<(String, String), SystemTime> = BTreeMap::new();
    let (mut lids, mut numbers) = (BTreeSet::new(), BTreeSet::new());
    for one in sightings {
        if !one.lid.is_empty() {
            lids.insert(one.lid.clone());
        }
        if !one.phone_number.is_empty() {
            numbers.insert(one.phone_number.clone());
        }
        if !one.lid.is_empty() && !one.phone_number.is_empty() {
            let key = (one.lid.clone(), one.phone_number.clone());
            let time = pairs.entry(key).or_insert(one.time);
            *time = one.time.max(*time);
        }
    }
    let holder = |number: &String| {
        let claims = pairs.iter().filter(|((_, claimed), _)| claimed == number);
        claims.map(|((lid, _), time)| (*time, lid.clone())).max()
    };
    let of_lids = lids.iter().map(|lid| {
        let own = pairs.iter().filter(|((of, number), _)| {
            of == lid && holder(number).is_some_and(|(_, holder)| holder == *lid)
        });
        let latest = own.map(|((_, number), time)| (*time, number.clone())).max();
        (
            lid.clone(),
            latest.map_or(String::new(), |(_, number)| number),
        )
    });
    let alone = numbers.iter().filter(|number| holder(number).is_none());
    of_lids
        .chain(alone.map(|number| (String::new(), number.clone())))
        .collect()
}

fn sightings() -> impl Strategy<Value = Vec<Sighting>> {
    let one = (0..4_u8, 0..4_u8, 0..6_u64, any::<bool>());
    let one = one.prop_map(|(lid, number, second, met)| {
        let name = |prefix: &str, digit: u8| match digit {
            0 => String::new(),
            digit => format!("{prefix}{digit}"),
        };
        Sighting {
            met,
            ..seen(&name("90", lid), &name("1555000000", number), "", second)
        }
    });
    proptest::collection::vec(one, 1..14)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn any_order_ends_in_the_same_contacts(
        (sightings, shuffled) in sightings()
            .prop_flat_map(|sightings| (Just(sightings.clone()), Just(sightings).prop_shuffle()))
    ) {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let mut outcomes = Vec::new();
            for order in [&sightings, &shuffled] {
                let place = Place::new();
                let storage = place.open().await;
                created(&storage, "one").await;
                let mut ids = BTreeMap::new();
                let mut listener = Listener::default();
                for one in order {
                    listener.hear(news(&storage, vec![one.clone()]).await);
                    for contact in everybody(&storage).await {
                        ids.insert(contact.id.to_string(), contact.id);
                    }
                }
                let contacts = everybody(&storage).await;
                // Some of the sightings may have met nobody; of the others all is known.
                for (id, heard) in &listener.0 {
                    assert_eq!(found(&storage, ContactKey::Id(*id)).await.as_ref(), Some(heard));
                }
                let here: BTreeSet<_> = contacts.iter().map(|contact| contact.id.to_string()).collect();
                // An id that was ever handed out still means somebody.
                for id in ids.into_values() {
                    let contact = found(&storage, ContactKey::Id(id)).await.unwrap();
                    assert!(here.contains(&contact.id.to_string()));
                }
                let names = contacts.into_iter().map(|contact| (contact.lid, contact.phone_number));
                outcomes.push(names.collect::<BTreeSet<_>>());
            }
            assert_eq!(outcomes[0], expected(&sightings));
            assert_eq!(outcomes[0], outcomes[1]);
        });
    }
}
