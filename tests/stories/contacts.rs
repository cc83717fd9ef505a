//! The people an instance has met, by whichever of their names.

use tonic::{Code, Status};
use wagate::{
    proto::v1::{self, event::Payload},
    sandbox::{NewGroup, PhoneOptions},
};

use crate::support::{Api, Stage, Watcher, info, violated_field};

async fn contact(api: &Api, name: &str) -> Result<v1::Contact, Status> {
    let request = v1::GetContactRequest {
        instance: "one".to_owned(),
        contact: name.to_owned(),
    };
    let found = api.contacts().get_contact(request).await?;
    Ok(found.into_inner().contact.unwrap())
}

async fn listed(api: &Api, page_size: i32, page_token: &str) -> v1::ListContactsResponse {
    let request = v1::ListContactsRequest {
        instance: "one".to_owned(),
        page_size,
        page_token: page_token.to_owned(),
    };
    api.contacts()
        .list_contacts(request)
        .await
        .unwrap()
        .into_inner()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_person_is_one_contact_by_number_and_by_hidden_identity() {
    let mut stage = Stage::new().await;
    let api = stage.api().await;
    let (instance, _owner) = stage.open_instance(&api, "one").await;
    let options = |name: &str, lid_addressed| PhoneOptions {
        push_name: name.to_owned(),
        lid_addressed,
        ..Default::default()
    };
    let hidden = stage.phone_with(options("Hidden", true)).await;
    let plain = stage.phone_with(options("Plain", false)).await;
    let mut watcher = Watcher::from_earliest(&api).await;

    let number = hidden.number.to_string();
    let unknown = contact(&api, &number).await.unwrap_err();
    assert_eq!(info(&unknown), "CONTACT_NOT_FOUND");
    assert_eq!(unknown.code(), Code::NotFound);

    hidden
        .send(&instance.phone_number, "from a hidden identity")
        .await;
    plain.send(&instance.phone_number, "from a number").await;
    let received = watcher
        .until_received(&instance.id, "from a hidden identity")
        .await;
    watcher.until_received(&instance.id, "from a number").await;
    let lid = received.sender.unwrap().lid;

    // By every name the same.
    let met = contact(&api, &number).await.unwrap();
    assert_eq!(met.name, "Hidden");
    assert_eq!(met.lid, lid);
    assert_eq!(met.phone_number, number);
    assert_eq!(met.jid, format!("{number}@s.whatsapp.net"));
    assert_eq!(met.instance, instance.id);
    for name in [&met.id, &met.lid, &met.jid, &format!("+{number}")] {
        assert_eq!(contact(&api, name).await.unwrap(), met, "{name}");
    }
    let other = contact(&api, &plain.number.to_string()).await.unwrap();
    assert_eq!(other.name, "Plain");

    // In pages, each once.
    let first = listed(&api, 1, "").await;
    let mut all = first.contacts;
    let mut token = first.next_page_token;
    while !token.is_empty() {
        let page = listed(&api, 1, &token).await;
        assert_eq!(page.contacts.len(), 1);
        all.extend(page.contacts);
        token = page.next_page_token;
    }
    for one in [&met, &other] {
        assert_eq!(all.iter().filter(|contact| contact.id == one.id).count(), 1);
    }

    // The same after a restart.
    stage.restart_gateway().await;
    let api = stage.api().await;
    assert_eq!(contact(&api, &number).await.unwrap(), met);
}

/// Waits until an event has told of a contact.
async fn until_created(watcher: &mut Watcher, number: &str) -> v1::Contact {
    let found = watcher.once("a new contact", |event| match &event.payload {
        Some(Payload::ContactCreated(created)) => {
            let contact = created.contact.clone()?;
            (contact.phone_number == number).then_some(contact)
        }
        _ => None,
    });
    found.await
}

fn created_count(watcher: &Watcher) -> usize {
    let created = |event: &&v1::Event| matches!(event.payload, Some(Payload::ContactCreated(_)));
    watcher.seen.iter().filter(created).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_met_is_told_once_and_who_only_shares_a_group_is_not() {
    let stage = Stage::new().await;
    let api = stage.api().await;
    let (instance, owner) = stage.open_instance(&api, "one").await;
    let (ann, ben) = (stage.phone("Ann").await, stage.phone("Ben").await);
    let (cleo, dan) = (stage.phone("Cleo").await, stage.phone("Dan").await);
    let mut watcher = Watcher::from_earliest(&api).await;

    // They share a group: contacts, of whom nothing is told.
    let new = NewGroup {
        subject: "Chess".to_owned(),
        members: vec![owner.number, ben.number, cleo.number, dan.number],
        number_addressed: false,
    };
    let (group, _) = stage.network.create_group(ann.number, new).await.unwrap();
    let jid = format!("{group}@g.us");
    watcher.until_group_created(&instance.id, &jid).await;
    let (ben_number, cleo_number) = (ben.number.to_string(), cleo.number.to_string());
    api.send("one", &jid, "hello all").await.unwrap();

    // One writes, to one is written.
    ben.send(&instance.phone_number, "hello").await;
    watcher.until_received(&instance.id, "hello").await;
    let told = until_created(&mut watcher, &ben_number).await;
    assert_eq!(told.name, "Ben");
    assert_eq!(told, contact(&api, &ben_number).await.unwrap());
    api.send("one", &cleo_number, "hello").await.unwrap();
    let told = until_created(&mut watcher, &cleo_number).await;
    assert_eq!((&*told.name, &told.instance), ("", &instance.id));

    // Once: what comes later is a change, and only if there is one.
    cleo.send(&instance.phone_number, "who is it?").await;
    ben.send(&instance.phone_number, "hello again").await;
    watcher.until_received(&instance.id, "hello again").await;
    let named = watcher.once("a name", |event| match &event.payload {
        Some(Payload::ContactUpdated(update)) => Some(update.clone()),
        _ => None,
    });
    let named = named.await;
    assert_eq!(named.changed_fields, ["name"]);
    assert_eq!(named.before.unwrap(), told);
    let after = named.after.unwrap();
    assert_eq!((&after.id, &*after.name), (&told.id, "Cleo"));
    assert_eq!(after, contact(&api, &cleo_number).await.unwrap());
    watcher.until_received(&instance.id, "who is it?").await;
    assert_eq!(created_count(&watcher), 2);
    assert!(contact(&api, &dan.number.to_string()).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_is_none_is_refused() {
    let stage = Stage::new().await;
    let api = stage.api().await;
    api.create("one").await;
    for name in ["", "nobody", "1203630@g.us", "12:3@lid"] {
        let refused = contact(&api, name).await.unwrap_err();
        assert_eq!(info(&refused), "FIELD_INVALID", "{name:?}");
        assert_eq!(violated_field(&refused), "contact", "{name:?}");
    }
    let request = v1::ListContactsRequest {
        instance: "one".to_owned(),
        page_token: "nonsense".to_owned(),
        ..Default::default()
    };
    let refused = api.contacts().list_contacts(request).await.unwrap_err();
    assert_eq!(info(&refused), "PAGE_TOKEN_INVALID");
}
