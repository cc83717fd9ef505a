//! A network and a gateway on it, each of which can be restarted alone.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use futures::StreamExt as _;
use tempfile::TempDir;
use wagate::{
    app::Gateway,
    config::{Config, Role, Sources},
    lifecycle::Shutdown,
    proto::v1::{self, pair_instance_response::Step},
    sandbox::{DeviceAddress, InboxMessage, Number, PhoneOptions, Sandbox, SandboxConfig},
    wa::SandboxPeer,
};

use super::{Api, Watcher, within};

const DATA_DIR: &str = "storage.data_dir";

/// Everything a story plays on.
pub struct Stage {
    /// The network, for what its control API does in a user's hands.
    pub network: Sandbox,
    gateway: Option<Gateway>,
    key: String,
    folder: TempDir,
    settings: Vec<(&'static str, String)>,
}

/// A simulated phone.
#[derive(Clone)]
pub struct TestPhone {
    network: Sandbox,
    /// Its number.
    pub number: Number,
}

impl Stage {
    /// A fresh network and a fresh gateway.
    pub async fn new() -> Self {
        Self::with(&[]).await
    }

    /// The same with settings of the gateway.
    pub async fn with(settings: &[(&'static str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let network = Sandbox::start(SandboxConfig {
            listen: local(),
            data_dir: Some(folder.path().join("network")),
        })
        .await
        .unwrap();
        let settings = settings
            .iter()
            .map(|(key, value)| (*key, (*value).to_owned()))
            .collect();
        let mut stage = Self {
            network,
            gateway: None,
            key: String::new(),
            folder,
            settings,
        };
        stage.start_gateway().await;
        stage
    }

    /// The gateway's data folder.
    pub fn data_dir(&self) -> PathBuf {
        let set = self.settings.iter().find(|(key, _)| *key == DATA_DIR);
        set.map_or_else(
            || self.folder.path().join("gateway"),
            |(_, path)| path.into(),
        )
    }

    pub fn key(&self) -> &str {
        &self.key
    }

    pub fn address(&self) -> SocketAddr {
        self.gateway.as_ref().expect("the gateway runs").address
    }

    /// A caller with all permissions.
    pub async fn api(&self) -> Api {
        Api::connect(self.address(), Some(&self.key)).await
    }

    pub async fn start_gateway(&mut self) {
        let mut sources = Sources::default();
        sources.argument("server.listen", Some("127.0.0.1:0"));
        sources.argument(DATA_DIR, self.data_dir().to_str());
        sources.argument("sessions.default_network", Some("sandbox"));
        for (key, value) in &self.settings {
            sources.argument(key, Some(value));
        }
        let config = Config::load(sources, Role::Sandbox).unwrap();
        let peer = SandboxPeer {
            url: self.network.ws_url(),
            static_key: self.network.static_key(),
        };
        let gateway = Gateway::start(&config, Some(peer), Some(&self.network), Shutdown::new())
            .await
            .unwrap();
        if let Some(key) = &gateway.first_key {
            self.key.clone_from(key);
        }
        self.gateway = Some(gateway);
    }

    pub async fn stop_gateway(&mut self) {
        if let Some(gateway) = self.gateway.take() {
            within("the gateway's end", gateway.stop()).await.unwrap();
        }
    }

    pub async fn restart_gateway(&mut self) {
        self.stop_gateway().await;
        self.start_gateway().await;
    }

    /// Stops the network and starts it again at the same address, from what it has kept.
    pub async fn restart_network(&mut self) {
        let listen = self.network.address();
        self.network.shutdown().await;
        let config = SandboxConfig {
            listen,
            data_dir: Some(self.folder.path().join("network")),
        };
        self.network = within("the network's return", async {
            loop {
                match Sandbox::start(config.clone()).await {
                    Ok(network) => return network,
                    // The port may be busy with the old connections for a moment.
                    Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
                }
            }
        })
        .await;
    }

    /// The same phone, on the network that runs now.
    pub fn again(&self, phone: &TestPhone) -> TestPhone {
        TestPhone {
            network: self.network.clone(),
            number: phone.number,
        }
    }

    /// A phone whose owner is online.
    pub async fn phone(&self, name: &str) -> TestPhone {
        self.phone_with(PhoneOptions {
            push_name: name.to_owned(),
            ..Default::default()
        })
        .await
    }

    pub async fn phone_with(&self, options: PhoneOptions) -> TestPhone {
        let info = self.network.create_phone(options).await.unwrap();
        TestPhone {
            network: self.network.clone(),
            number: info.number,
        }
    }

    /// Pairs an instance by QR; returns the steps.
    pub async fn pair(&self, api: &Api, instance: &str, phone: &TestPhone) -> Vec<Step> {
        let request = v1::PairInstanceRequest {
            instance: instance.to_owned(),
            ..Default::default()
        };
        let stream = api.instances().pair_instance(request).await.unwrap();
        let mut stream = stream.into_inner();
        let mut steps = Vec::new();
        let mut scanned = false;
        while let Some(response) = within("a pairing step", stream.message()).await.unwrap() {
            let step = response.step.expect("a step says something");
            if let (Step::QrCode(code), false) = (&step, scanned) {
                self.network
                    .scan_qr(phone.number, &code.text)
                    .await
                    .unwrap();
                scanned = true;
            }
            steps.push(step);
        }
        steps
    }

    /// A new instance, paired with a new phone and open.
    pub async fn open_instance(&self, api: &Api, name: &str) -> (v1::Instance, TestPhone) {
        self.open_instance_with(
            api,
            name,
            PhoneOptions {
                push_name: format!("{name}'s owner"),
                ..Default::default()
            },
        )
        .await
    }

    pub async fn open_instance_with(
        &self,
        api: &Api,
        name: &str,
        options: PhoneOptions,
    ) -> (v1::Instance, TestPhone) {
        let phone = self.phone_with(options).await;
        let instance = api.create(name).await;
        let steps = self.pair(api, name, &phone).await;
        assert!(
            matches!(steps.last(), Some(Step::Paired(_))),
            "pairing ended with {:?}",
            steps.last()
        );
        let mut watcher = Watcher::from_earliest(api).await;
        watcher
            .until_state(&instance.id, v1::InstanceState::Open)
            .await;
        (api.instance(name).await, phone)
    }
}

impl TestPhone {
    /// How many stanzas wait until the account's first companion has confirmed them.
    pub fn queued(&self) -> usize {
        self.network.phone(self.number).unwrap().companions[0].queued
    }

    /// Waits until the first companion has confirmed all that it was sent.
    pub async fn until_nothing_waits(&self) {
        within("an empty queue", async {
            while self.queued() > 0 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
    }

    /// The account's companion that was paired first.
    pub fn companion(&self) -> DeviceAddress {
        self.number.device(1)
    }

    pub async fn send(&self, to: &str, text: &str) -> String {
        let to = to.parse().unwrap();
        within(
            "a phone's send",
            self.network.send_text(self.number, to, text),
        )
        .await
        .unwrap()
        .id
    }

    /// Waits for a text in the phone's inbox.
    pub async fn until_text(&self, text: &str) -> InboxMessage {
        let inbox = self.network.inbox(self.number, 0).unwrap();
        let mut inbox = Box::pin(inbox);
        within(&format!("{text:?} in the inbox"), async {
            loop {
                let message = inbox.next().await.expect("the inbox stays open");
                if message.text.as_deref() == Some(text) {
                    return message;
                }
            }
        })
        .await
    }

    /// Waits until the phone has seen a text so often.
    pub async fn until_seen(&self, text: &str, times: usize) {
        let inbox = self.network.inbox(self.number, 0).unwrap();
        let texts =
            inbox.filter(|message| std::future::ready(message.text.as_deref() == Some(text)));
        let mut texts = Box::pin(texts.take(times));
        within(&format!("{text:?} {times} times in the inbox"), async {
            while texts.next().await.is_some() {}
        })
        .await;
    }

    /// Every text that the phone has seen until the one given, in order.
    pub async fn texts_until(&self, last: &str) -> Vec<String> {
        let inbox = self.network.inbox(self.number, 0).unwrap();
        let mut inbox = Box::pin(inbox);
        within(&format!("{last:?} in the inbox"), async {
            let mut texts = Vec::new();
            loop {
                let message = inbox.next().await.expect("the inbox stays open");
                texts.extend(message.text);
                if texts.last().map(String::as_str) == Some(last) {
                    return texts;
                }
            }
        })
        .await
    }
}

fn local() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}
