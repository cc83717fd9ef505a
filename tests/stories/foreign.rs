//! The sandbox with clients that share no code with it, and through it the gateway with them: what is wrong on both
//! sides alike cannot hide from Baileys and whatsmeow.

mod bucket;
mod calls;
mod covered;
mod files;
mod groups;
mod kinds;
mod marks;
mod with_wagate;

use tempfile::TempDir;
use wagate::{
    proto::v1::{self, MessageStatus},
    sandbox::PhoneOptions,
};

use crate::support::{
    Api, ForeignClient, Library, Program, Sender, Stage, TestPhone, Watcher, within,
};

/// A client, paired with a phone.
struct Companion {
    program: Program,
    client: ForeignClient,
    store: TempDir,
    owner: TestPhone,
    number: String,
}

impl Companion {
    async fn paired(stage: &Stage, program: Program, by_lid: bool) -> Self {
        let owner = stage.phone_with(named("Owner", by_lid)).await;
        let store = tempfile::tempdir().unwrap();
        let mut client = program.start(&stage.network, store.path());
        let qr = client.qr().await;
        let device = within("a scan", stage.network.scan_qr(owner.number, &qr)).await;
        assert_eq!(device.unwrap(), owner.companion());
        client.opened().await;
        Self {
            program,
            client,
            store,
            number: owner.number.to_string(),
            owner,
        }
    }

    /// Dies and comes back with nothing but what it has stored.
    async fn die_and_come_back(self, stage: &Stage, meanwhile: impl AsyncFnOnce()) -> Self {
        self.client.kill().await;
        meanwhile().await;
        let mut client = self.program.start(&stage.network, self.store.path());
        client.opened().await;
        Self { client, ..self }
    }
}

fn named(name: &str, by_lid: bool) -> PhoneOptions {
    PhoneOptions {
        push_name: name.to_owned(),
        lid_addressed: by_lid,
        ..Default::default()
    }
}

fn number(phone: &TestPhone) -> Sender {
    Sender::Number(phone.number.to_string())
}

/// Everybody a client talks with in a story.
struct Others {
    api: Api,
    watcher: Watcher,
    instance: v1::Instance,
    phones: [TestPhone; 2],
}

impl Others {
    async fn on(stage: &Stage) -> Self {
        let api = stage.api().await;
        let (instance, _) = stage.open_instance(&api, "one").await;
        Self {
            watcher: Watcher::from_earliest(&api).await,
            phones: [
                stage.phone_with(named("Number", false)).await,
                stage.phone_with(named("Lid", true)).await,
            ],
            api,
            instance,
        }
    }

    /// Texts both ways with everybody. `when` tells one conversation from the next.
    async fn talk(&mut self, companion: &mut Companion, when: &str) {
        let Companion {
            client,
            owner,
            number: own,
            ..
        } = companion;
        for (at, phone) in self.phones.iter().enumerate() {
            let question = format!("{when}: a question to phone {at}");
            let id = client.send(&phone.number.to_string(), &question).await;
            assert_eq!(phone.until_text(&question).await.id, id);
            client.until_delivered(&id).await;
            // The account's own phone sees what its companion sent.
            owner.until_text(&question).await;

            let answer = format!("{when}: an answer of phone {at}");
            phone.send(own, &answer).await;
            assert_eq!(client.until_text(&answer).await, number(phone));

            let other = format!("{when}: the owner to phone {at}");
            owner.send(&phone.number.to_string(), &other).await;
            assert_eq!(client.until_text(&other).await, Sender::Itself);
        }

        let question = format!("{when}: a question to wagate");
        let instance = &self.instance;
        let id = client.send(&instance.phone_number, &question).await;
        let received = self.watcher.until_received(&instance.id, &question).await;
        assert_eq!(received.id, id);
        assert_eq!(received.sender.unwrap().phone_number, *own);
        client.until_delivered(&id).await;

        let answer = format!("{when}: an answer of wagate");
        let sent = self.api.send("one", own, &answer).await.unwrap();
        let sender = client.until_text(&answer).await;
        assert_eq!(sender, Sender::Number(instance.phone_number.clone()));
        self.watcher
            .until_status(&sent.id, MessageStatus::Received)
            .await;
    }
}

async fn a_client_pairs_talks_and_comes_back(library: Library, by_lid: bool) {
    let Some(program) = library.install().await else {
        return;
    };
    let stage = Stage::new().await;
    let mut others = Others::on(&stage).await;
    let mut companion = Companion::paired(&stage, program, by_lid).await;
    others.talk(&mut companion, "paired").await;

    stage
        .network
        .drop_connection(companion.owner.companion())
        .unwrap();
    let phone = others.phones[0].clone();
    phone.send(&companion.number, "while cut off").await;
    companion.client.until("closed", |_| true).await;
    companion.client.opened().await;
    assert_eq!(
        companion.client.until_text("while cut off").await,
        number(&phone)
    );
    others.talk(&mut companion, "after the cut").await;

    let own = companion.number.clone();
    let mut companion = companion
        .die_and_come_back(&stage, async || {
            for at in 0..20 {
                phone.send(&own, &format!("while dead {at}")).await;
            }
        })
        .await;
    for at in 0..20 {
        let text = format!("while dead {at}");
        assert_eq!(companion.client.until_text(&text).await, number(&phone));
    }
    others.talk(&mut companion, "after the death").await;
    assert!(companion.client.unexpected().is_empty());
    companion.client.stop().await;
    stage.network.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn baileys_by_number() {
    a_client_pairs_talks_and_comes_back(Library::Baileys, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn baileys_by_hidden_identity() {
    a_client_pairs_talks_and_comes_back(Library::Baileys, true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whatsmeow_by_number() {
    a_client_pairs_talks_and_comes_back(Library::Whatsmeow, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whatsmeow_by_hidden_identity() {
    a_client_pairs_talks_and_comes_back(Library::Whatsmeow, true).await;
}

async fn tells(one: &mut Companion, other: &mut Companion, text: &str) {
    let text = format!("{text}, {} to {}", one.number, other.number);
    let id = one.client.send(&other.number, &text).await;
    assert_eq!(other.client.until_text(&text).await, number(&one.owner));
    one.client.until_delivered(&id).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn baileys_and_whatsmeow_talk() {
    let (Some(baileys), Some(whatsmeow)) = (
        Library::Baileys.install().await,
        Library::Whatsmeow.install().await,
    ) else {
        return;
    };
    let stage = Stage::new().await;
    let (mut ones, mut others) = (Vec::new(), Vec::new());
    for by_lid in [false, true] {
        let (one, other) = tokio::join!(
            Companion::paired(&stage, baileys.clone(), by_lid),
            Companion::paired(&stage, whatsmeow.clone(), by_lid),
        );
        ones.push(one);
        others.push(other);
    }
    for one in &mut ones {
        for other in &mut others {
            // The second round goes over sessions that both sides have answered on.
            for round in 0..2 {
                tells(one, other, &format!("round {round}, there")).await;
                tells(other, one, &format!("round {round}, and back")).await;
            }
        }
    }
    for companion in ones.into_iter().chain(others) {
        companion.client.stop().await;
    }
    stage.network.shutdown().await;
}

/// The chain that whatsmeow accepts in the other stories it does check.
#[tokio::test(flavor = "multi_thread")]
async fn whatsmeow_refuses_a_network_of_another_root() {
    let Some(whatsmeow) = Library::Whatsmeow.install().await else {
        return;
    };
    let stage = Stage::new().await;
    let mut other_root = stage.network.root_key();
    other_root[7] ^= 1;
    let store = tempfile::tempdir().unwrap();
    let mut client = whatsmeow.start_trusting(other_root, &stage.network, store.path());
    assert!(!client.ended().await.success());
    client.until_log("failed to verify").await;
    stage.network.shutdown().await;
}
