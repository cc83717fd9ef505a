//! The tasks of one client, watched.
//!
//! The library spawns a task for nearly everything, and one that panics leaves its client half dead: a chat whose
//! messages wait for ever, or a connection that nobody reads and nobody dials again. Owns noticing it. Never
//! repairs anything: whoever holds the [`Watch`] throws the client away and builds another from what is stored.

use std::{panic::AssertUnwindSafe, pin::Pin, time::Duration};

use futures::FutureExt as _;
use tokio_util::sync::CancellationToken;
use whatsapp_rust::{Runtime, TokioRuntime, wacore::runtime::AbortHandle};

type Task = Pin<Box<dyn Future<Output = ()> + Send + 'static>>;

/// Says when a task of the client has panicked.
#[derive(Clone, Default)]
pub(super) struct Watch(CancellationToken);

impl Watch {
    /// Returns once a task has panicked.
    pub(super) async fn panicked(&self) {
        self.0.cancelled().await;
    }

    /// Whether one has.
    pub(super) fn has_panicked(&self) -> bool {
        self.0.is_cancelled()
    }

    /// The task, with its panic kept from whoever runs it. What was said of the panic is on stderr already.
    fn over(&self, task: Task) -> Task {
        let watch = self.clone();
        Box::pin(async move {
            if AssertUnwindSafe(task).catch_unwind().await.is_err() {
                watch.0.cancel();
            }
        })
    }
}

/// Tokio, with a watch over every task.
pub(super) struct Watched(pub(super) Watch);

impl Runtime for Watched {
    fn spawn(&self, task: Task) -> AbortHandle {
        TokioRuntime.spawn(self.0.over(task))
    }

    fn spawn_detached(&self, task: Task) {
        TokioRuntime.spawn_detached(self.0.over(task));
    }

    fn sleep(&self, duration: Duration) -> Task {
        TokioRuntime.sleep(duration)
    }

    fn spawn_blocking(&self, work: Box<dyn FnOnce() + Send + 'static>) -> Task {
        let watch = self.0.clone();
        TokioRuntime.spawn_blocking(Box::new(move || {
            if std::panic::catch_unwind(AssertUnwindSafe(work)).is_err() {
                watch.0.cancel();
            }
        }))
    }

    fn yield_now(&self) -> Option<Task> {
        TokioRuntime.yield_now()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    };

    use async_trait::async_trait;
    use tokio::sync::mpsc;
    use whatsapp_rust::{
        Client, InboundDurabilityHook,
        types::events::{Event, InboundMessage},
    };

    use super::*;
    use crate::{
        domain::ids::InstanceNumber,
        sandbox::{PhoneOptions, Sandbox, SandboxConfig},
        storage::{
            Network,
            sqlite::{Options, SqliteStorage},
        },
        wa::{
            link::{Link, Plan},
            networks::{Networks, NetworksConfig, SandboxPeer},
            store::DeviceBackend,
        },
    };

    /// Panics at the first message, passes on the others.
    #[derive(Clone)]
    struct Clumsy {
        fell: Arc<AtomicBool>,
        messages: mpsc::UnboundedSender<String>,
    }

    #[async_trait]
    impl InboundDurabilityHook for Clumsy {
        async fn on_messages(
            &self,
            _: Arc<Client>,
            batch: &[InboundMessage],
        ) -> anyhow::Result<()> {
            for one in batch {
                // The share of keys comes by the same way.
                let Some(text) = &one.message.conversation else {
                    continue;
                };
                assert!(self.fell.swap(true, Ordering::SeqCst), "falls on purpose");
                self.messages.send(text.clone())?;
            }
            Ok(())
        }
    }

    /// What the library was at when it panicked is delivered again to the client that comes after it.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_client_that_panicked_says_so_and_the_next_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let storage = SqliteStorage::open(folder.path().join("wagate.db"), Options::default());
        let storage = storage.await.unwrap();
        let sandbox = Sandbox::start(SandboxConfig {
            listen: ([127, 0, 0, 1], 0).into(),
            data_dir: None,
        });
        let sandbox = sandbox.await.unwrap();
        let [owner, peer] = [(), ()].map(|()| sandbox.create_phone(PhoneOptions::default()));
        let (owner, peer) = (owner.await.unwrap().number, peer.await.unwrap().number);
        let networks = Networks::new(NetworksConfig {
            sandbox: Some(SandboxPeer {
                url: sandbox.ws_url(),
                static_key: sandbox.static_key(),
            }),
            default_network: Network::Sandbox,
            max_handshakes: 1,
        });
        let (messages, mut received) = mpsc::unbounded_channel();
        let hook = Clumsy {
            fell: Arc::default(),
            messages,
        };
        let plan = || Plan {
            network: Network::Sandbox,
            backend: DeviceBackend::new(&*storage, InstanceNumber(1)),
            hook: hook.clone(),
            pair_with: None,
            first_delay: Duration::ZERO,
        };

        let mut link = Link::start(&networks, plan()).await.unwrap();
        let mut connected = false;
        let mut scanned = false;
        while !connected {
            for event in link.events().await {
                match &*event {
                    Event::PairingQrCode(qr) if !scanned => {
                        let (sandbox, code) = (sandbox.clone(), qr.code.clone());
                        tokio::spawn(async move { sandbox.scan_qr(owner, &code).await });
                        scanned = true;
                    }
                    Event::Connected(_) => connected = true,
                    _ => {}
                }
            }
        }
        sandbox.send_text(peer, owner, "first").await.unwrap();
        while !link.events().await.is_empty() {}
        assert!(link.has_panicked());
        link.shutdown().await;
        assert!(received.try_recv().is_err());

        let link = Link::start(&networks, plan()).await.unwrap();
        sandbox.send_text(peer, owner, "second").await.unwrap();
        assert_eq!(received.recv().await.unwrap(), "first");
        assert_eq!(received.recv().await.unwrap(), "second");
        assert!(!link.has_panicked());
        link.shutdown().await;
        sandbox.shutdown().await;
    }

    #[tokio::test]
    async fn a_panic_is_noticed_wherever_it_happens() {
        type Spawn = fn(&Watched);
        let ways: [Spawn; 3] = [
            |watched| {
                watched
                    .spawn(Box::pin(async { panic!("on purpose") }))
                    .detach()
            },
            |watched| watched.spawn_detached(Box::pin(async { panic!("on purpose") })),
            |watched| {
                let work = watched.spawn_blocking(Box::new(|| panic!("on purpose")));
                tokio::spawn(work);
            },
        ];
        for spawn in ways {
            let watch = Watch::default();
            spawn(&Watched(watch.clone()));
            watch.panicked().await;
            assert!(watch.has_panicked());
        }
    }

    #[tokio::test]
    async fn what_ends_well_or_is_aborted_is_no_panic() {
        let watch = Watch::default();
        let watched = Watched(watch.clone());
        let (done, ended) = tokio::sync::oneshot::channel::<()>();
        watched.spawn_detached(Box::pin(async { drop(done) }));
        ended.await.unwrap_err();
        let (held, dropped) = tokio::sync::oneshot::channel::<()>();
        let task = watched.spawn(Box::pin(async move {
            let _held = held;
            std::future::pending().await
        }));
        task.abort();
        dropped.await.unwrap_err();
        watched.spawn_blocking(Box::new(|| ())).await;
        assert!(!watch.has_panicked());
    }
}
