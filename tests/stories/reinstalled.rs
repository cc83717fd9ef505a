//! A phone on which WhatsApp is installed anew: other keys, and everybody goes on talking.

use wagate::{
    proto::{sandbox_v1 as sandbox, v1::InstanceState},
    sandbox::{
        DeviceAddress, Direction, FaultAction, FaultMatch, FaultRule, NewGroup, PhoneOptions,
    },
};

use crate::support::{Api, Stage, TestPhone, Watcher, within};

impl TestPhone {
    /// Installs WhatsApp anew, over gRPC.
    async fn reinstall(&self, api: &Api) -> Result<sandbox::Phone, tonic::Status> {
        let request = sandbox::ReinstallPhoneRequest {
            phone: self.number.to_string(),
        };
        let done = within("ReinstallPhone", api.sandbox().reinstall_phone(request)).await?;
        Ok(done.into_inner().phone.unwrap())
    }
}

async fn peer(stage: &Stage, by_lid: bool) -> TestPhone {
    stage
        .phone_with(PhoneOptions {
            push_name: "Peer".to_owned(),
            lid_addressed: by_lid,
            ..Default::default()
        })
        .await
}

/// How many stanzas of this kind, with this in them, went one way between the network and a device.
fn passed(
    stage: &Stage,
    device: DeviceAddress,
    direction: Direction,
    begin: &str,
    part: &str,
) -> usize {
    let log = stage.network.wire_log(device, 0);
    let passed = log.iter().filter(|entry| {
        entry.direction == direction && entry.text.starts_with(begin) && entry.text.contains(part)
    });
    passed.count()
}

/// How often a device was asked for a message again.
fn retries(stage: &Stage, device: DeviceAddress) -> usize {
    let asked = "type=\"retry\"";
    passed(stage, device, Direction::ToDevice, "<receipt", asked)
}

/// Waits until a device has understood that a phone was installed anew, for the n-th time.
async fn until_told(stage: &Stage, device: DeviceAddress, times: usize) {
    within("a notification", async {
        let understood = || {
            let log = stage.network.wire_log(device, 0);
            let told = log.iter().filter(|entry| {
                entry.direction == Direction::ToDevice
                    && entry.text.starts_with("<notification")
                    && entry.text.contains("<identity")
            });
            let ids = told.filter_map(|entry| entry.text.split(" id=\"").nth(1)?.split('"').next());
            let answered = ids.filter(|id| {
                let id = format!("id=\"{id}\"");
                passed(stage, device, Direction::FromDevice, "<ack", &id) > 0
            });
            answered.count() >= times
        };
        while !understood() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn both_sides_go_on_and_nothing_need_be_asked_again() {
    for by_lid in [false, true] {
        let stage = Stage::new().await;
        let api = stage.api().await;
        let (instance, owner) = stage.open_instance(&api, "one").await;
        let phone = peer(&stage, by_lid).await;
        let to = phone.number.to_string();
        let mut watcher = Watcher::from_earliest(&api).await;
        phone.send(&instance.phone_number, "before").await;
        watcher.until_received(&instance.id, "before").await;
        api.send("one", &to, "before, back").await.unwrap();
        phone.until_text("before, back").await;

        for round in 0..3 {
            phone.reinstall(&api).await.unwrap();
            until_told(&stage, owner.companion(), round + 1).await;
            let (ours, theirs) = (format!("ours {round}"), format!("theirs {round}"));
            // Who speaks first makes a difference: a session is begun by either side.
            if round % 2 == 0 {
                api.send("one", &to, &ours).await.unwrap();
                phone.until_text(&ours).await;
            }
            phone.send(&instance.phone_number, &theirs).await;
            watcher.until_received(&instance.id, &theirs).await;
            for text in [&ours, &format!("{ours}, more")] {
                api.send("one", &to, text).await.unwrap();
                phone.until_text(text).await;
            }
            phone
                .send(&instance.phone_number, &format!("{theirs}, more"))
                .await;
            let more = format!("{theirs}, more");
            watcher.until_received(&instance.id, &more).await;
        }
        // The account's own phone has read everything too.
        owner.until_text("ours 2, more").await;
        assert_eq!(retries(&stage, owner.companion()), 0);
        let received = watcher.received_texts(&instance.id);
        assert_eq!(received.len(), 7, "{received:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_was_not_told_sends_again_to_the_new_keys() {
    for by_lid in [false, true] {
        let stage = Stage::new().await;
        let api = stage.api().await;
        let (instance, owner) = stage.open_instance(&api, "one").await;
        let phone = peer(&stage, by_lid).await;
        let to = phone.number.to_string();
        let mut watcher = Watcher::from_earliest(&api).await;
        phone.send(&instance.phone_number, "before").await;
        watcher.until_received(&instance.id, "before").await;
        api.send("one", &to, "before, back").await.unwrap();
        phone.until_text("before, back").await;
        let untold = FaultRule {
            matches: FaultMatch {
                direction: Some(Direction::ToDevice),
                child: Some("identity".to_owned()),
                number: Some(owner.number),
                ..Default::default()
            },
            action: FaultAction::Drop,
            skip: 0,
            count: None,
        };
        stage.network.add_fault(untold).unwrap();
        phone.reinstall(&api).await.unwrap();
        let sent = api.send("one", &to, "to the old keys").await.unwrap();
        assert_eq!(phone.until_text("to the old keys").await.id, sent.id);
        assert!(retries(&stage, owner.companion()) > 0);
        phone
            .send(&instance.phone_number, "from the new keys")
            .await;
        watcher
            .until_received(&instance.id, "from the new keys")
            .await;

        // The other way round: it hears of the new keys by a message that they encrypted.
        phone.reinstall(&api).await.unwrap();
        phone.send(&instance.phone_number, "from newer keys").await;
        watcher
            .until_received(&instance.id, "from newer keys")
            .await;
        api.send("one", &to, "to newer keys").await.unwrap();
        phone.until_text("to newer keys").await;
        assert_eq!(watcher.received_texts(&instance.id).len(), 3);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happens_while_the_gateway_is_down_is_no_loss() {
    let mut stage = Stage::new().await;
    let api = stage.api().await;
    let (instance, _) = stage.open_instance(&api, "one").await;
    let phone = peer(&stage, false).await;
    let to = phone.number.to_string();
    phone.send(&instance.phone_number, "before").await;
    let mut watcher = Watcher::from_earliest(&api).await;
    watcher.until_received(&instance.id, "before").await;
    api.send("one", &to, "before, back").await.unwrap();
    phone.until_text("before, back").await;
    phone.send(&instance.phone_number, "also before").await;
    watcher.until_received(&instance.id, "also before").await;
    let cursor = watcher.cursor.clone();

    stage.stop_gateway().await;
    phone.send(&instance.phone_number, "by the old keys").await;
    stage.network.reinstall_phone(phone.number).await.unwrap();
    phone.send(&instance.phone_number, "by the new keys").await;
    // The network and its phones keep who they are.
    stage.restart_network().await;
    stage.start_gateway().await;
    let phone = stage.again(&phone);
    let api = stage.api().await;
    let mut watcher = Watcher::after(&api, &cursor).await;
    watcher.until_state(&instance.id, InstanceState::Open).await;
    watcher
        .until_received(&instance.id, "by the old keys")
        .await;
    watcher
        .until_received(&instance.id, "by the new keys")
        .await;
    api.send("one", &to, "after").await.unwrap();
    phone.until_text("after").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_of_a_group_reads_on_and_is_read() {
    let stage = Stage::new().await;
    let api = stage.api().await;
    let (instance, owner) = stage.open_instance(&api, "one").await;
    let (ann, ben) = (stage.phone("Ann").await, stage.phone("Ben").await);
    let mut watcher = Watcher::from_earliest(&api).await;
    let new = NewGroup {
        subject: "Tea".to_owned(),
        members: vec![owner.number, ben.number],
        number_addressed: false,
    };
    let (group, _) = stage.network.create_group(ann.number, new).await.unwrap();
    let jid = group.jid().to_string();
    let say = async |phone: &TestPhone, text: &str| {
        let said = stage.network.send_group_text(phone.number, group, text);
        within("a phone's send", said).await.unwrap();
    };
    say(&ann, "hello").await;
    say(&ben, "hello, Ann").await;
    watcher.until_received(&instance.id, "hello, Ann").await;
    api.send("one", &jid, "hello, both").await.unwrap();
    ann.until_text("hello, both").await;

    ann.reinstall(&api).await.unwrap();
    api.send("one", &jid, "still there?").await.unwrap();
    ann.until_text("still there?").await;
    say(&ben, "where were you?").await;
    ann.until_text("where were you?").await;
    say(&ann, "here").await;
    watcher.until_received(&instance.id, "here").await;
    ben.until_text("here").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_owners_own_new_installation_unlinks_the_instance() {
    let stage = Stage::new().await;
    let api = stage.api().await;
    let (instance, owner) = stage.open_instance(&api, "one").await;
    let phone = peer(&stage, false).await;
    let to = phone.number.to_string();
    api.send("one", &to, "before").await.unwrap();
    phone.until_text("before").await;
    let mut watcher = Watcher::from_earliest(&api).await;

    stage
        .network
        .switch_phone(owner.number, false)
        .await
        .unwrap();
    let off = owner.reinstall(&api).await.unwrap_err();
    assert_eq!(off.code(), tonic::Code::FailedPrecondition, "{off:?}");
    assert_eq!(
        stage.network.phone(owner.number).unwrap().companions.len(),
        1
    );
    stage
        .network
        .switch_phone(owner.number, true)
        .await
        .unwrap();

    let anew = owner.reinstall(&api).await.unwrap();
    assert!(anew.companions.is_empty());
    watcher
        .until_state(&instance.id, InstanceState::LoggedOut)
        .await;
    stage.pair(&api, "one", &owner).await;
    watcher.until_state(&instance.id, InstanceState::Open).await;
    // Nobody who had a session with the account is left with the old keys.
    api.send("one", &to, "after").await.unwrap();
    phone.until_text("after").await;
    owner.until_text("after").await;
    phone.send(&instance.phone_number, "welcome back").await;
    watcher.until_received(&instance.id, "welcome back").await;
    owner.until_text("welcome back").await;
}
