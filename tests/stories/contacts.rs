//! The people an instance has met, by whichever of their names.

use tonic::{Code, Status};
use wagate::{proto::v1, sandbox::PhoneOptions};

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
