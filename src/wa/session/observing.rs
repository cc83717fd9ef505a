//! What the client of a session tells, and what the session makes of it.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::time::Instant;
use whatsapp_rust::{
    Client,
    types::events::{ConnectFailureReason, Event},
};

use super::{LEFT_BEHIND, STORE_AGAIN, Session, writing::Details};
use crate::{
    domain::session::SessionState,
    storage::InstanceChange,
    wa::{
        hook::account,
        link::Link,
        pairing::{PairStep, Pairing, RefusedReason},
    },
};

impl Session {
    pub(super) async fn observe(&mut self, events: Vec<Arc<Event>>) {
        let mut rest = events.as_slice();
        while let Some((first, others)) = rest.split_first() {
            // Acks and receipts come in floods.
            let read = self.outbox.observe(rest).await;
            if read > 0 {
                rest = &rest[read..];
                continue;
            }
            rest = others;
            self.observe_one(first).await;
        }
        let lost = self.link.as_ref().map_or(0, Link::take_lost);
        if lost > 0 {
            self.report(
                "events_lost",
                "notifications of WhatsApp came faster than they could be stored",
                lost,
            )
            .await;
        }
    }

    async fn observe_one(&mut self, event: &Event) {
        match event {
            Event::Connected(_) => self.opened().await,
            Event::Disconnected(event) => {
                self.outbox.close();
                if self.state() == SessionState::Open {
                    let reason = event.reason.to_string();
                    self.enter(SessionState::Connecting, &reason, Details::default())
                        .await;
                }
            }
            Event::PairingQrCode(code) if self.pairing.as_ref().is_some_and(Pairing::wants_qr) => {
                let step = PairStep::Qr {
                    text: code.code.clone(),
                    expire_time: SystemTime::now() + code.timeout,
                };
                self.show_code(step).await;
            }
            Event::PairingCode(code) => {
                let step = PairStep::Code {
                    code: code.code.clone(),
                    expire_time: SystemTime::now() + code.timeout,
                };
                self.show_code(step).await;
            }
            // With a code outstanding the connection stays, and so does the pairing.
            Event::PairingQrCodesExhausted(event) if event.disconnected => {
                if let Some(pairing) = &mut self.pairing {
                    pairing.expire();
                }
            }
            Event::PairingCodeRefresh(_) => {
                if let Some(pairing) = &mut self.pairing {
                    pairing.expire();
                }
            }
            Event::PairingCodeError(error) => {
                let reason = RefusedReason::of_code(error.rejection.as_ref());
                self.end_pairing(PairStep::Refused(reason, error.error.clone()))
                    .await;
            }
            Event::PairPasskeyRequest(_) | Event::PairPasskeyError(_) => {
                self.end_pairing(PairStep::Refused(
                    RefusedReason::PasskeyRequired,
                    "WhatsApp demands a passkey for this account".to_owned(),
                ))
                .await;
            }
            Event::PairError(error) => {
                self.end_pairing(PairStep::Refused(
                    RefusedReason::Rejected,
                    error.error.clone(),
                ))
                .await;
            }
            Event::PairSuccess(_) => self.paired().await,
            Event::SelfPushNameUpdated(_) => self.learn_identity().await,
            Event::LoggedOut(event) => {
                let details = Details {
                    code: event.reason.code(),
                    ..Default::default()
                };
                self.ended(
                    SessionState::LoggedOut,
                    "WhatsApp ended the session",
                    details,
                )
                .await;
            }
            Event::StreamReplaced(_) => {
                self.ended(
                    SessionState::Replaced,
                    "another program logged in with the same credentials",
                    Details::default(),
                )
                .await;
            }
            Event::ClientOutdated(_) => {
                self.shared.networks.forget_version().await;
                let details = Details {
                    code: ConnectFailureReason::ClientOutdated.code(),
                    ..Default::default()
                };
                self.ended(
                    SessionState::Outdated,
                    "WhatsApp refuses this protocol version",
                    details,
                )
                .await;
            }
            Event::TemporaryBan(ban) => {
                let length = ban.expire.to_std().unwrap_or_default();
                let details = Details {
                    code: ban.code.code(),
                    banned_until: Some(SystemTime::now() + length),
                };
                self.ended(SessionState::Banned, &ban.code.to_string(), details)
                    .await;
            }
            Event::ConnectFailure(failure) if !failure.reason.should_reconnect() => {
                let details = Details {
                    code: failure.reason.code(),
                    ..Default::default()
                };
                let state = match failure.reason {
                    ConnectFailureReason::TempBanned => SessionState::Banned,
                    _ => SessionState::Refused,
                };
                let told = failure.message.as_deref().unwrap_or_default();
                let reason = format!("WhatsApp refused the login with {} {told}", details.code);
                self.ended(state, reason.trim_end(), details).await;
            }
            Event::Messages(batch) if !batch.hook_committed => {
                let Some(link) = &self.link else { return };
                if let Err(error) = self.intake().record(&link.client(), &batch.messages).await {
                    tracing::error!(%error, "messages outside the durable path are lost");
                }
            }
            Event::UndecryptableMessage(message) => {
                let Some(link) = &self.link else { return };
                if let Err(error) = self.intake().hold(&link.client(), message).await {
                    tracing::error!(%error, "it is not told that a message can't be read");
                }
            }
            Event::GroupUpdate(_) | Event::PictureUpdate(_) | Event::DirtyState(_) => {
                self.groups.observe(event).await;
            }
            Event::StarUpdate(_)
            | Event::DeleteMessageForMeUpdate(_)
            | Event::AppStateSyncFailed(_) => {
                if let Some(link) = &self.link {
                    self.app_state.observe(&link.client(), event).await;
                }
            }
            Event::IncomingCall(_) | Event::MissedCall(_) | Event::RawNode(_) => {
                if let Some(link) = &self.link {
                    self.calls.observe(&link.client(), event).await;
                }
            }
            _ => {}
        }
    }

    pub(super) async fn paired(&mut self) {
        self.blank_codes().await;
        self.learn_identity().await;
        if let Some(pairing) = &mut self.pairing {
            pairing.accepted();
        }
        if self.state() == SessionState::Pairing {
            self.enter(SessionState::Connecting, "paired", Details::default())
                .await;
        }
    }

    async fn opened(&mut self) {
        let Some(client) = self.link.as_ref().map(Link::client) else {
            return;
        };
        self.learn_identity().await;
        // Before anybody can read that it is open.
        self.outbox.open(client.clone());
        if self.state() != SessionState::Open {
            self.enter(SessionState::Open, "", Details::default()).await;
        }
        self.groups.refresh();
        show(client, self.instance.borrow().show_online);
        let row = self.row();
        self.finish_pairing(PairStep::Paired(Box::new(row)));
    }

    /// Stores who the account is, where that is news.
    pub(super) async fn learn_identity(&mut self) {
        let Some(link) = &self.link else { return };
        let known = account(&link.client());
        let row = self.row();
        let number = known.number.map(|jid| jid.user.to_string());
        let lid = known.lid.map(|jid| jid.to_string());
        let change = InstanceChange {
            phone_number: number.filter(|number| *number != row.phone_number),
            lid: lid.filter(|lid| *lid != row.lid),
            push_name: Some(known.push_name)
                .filter(|name| !name.is_empty() && *name != row.push_name),
            ..Default::default()
        };
        if change.phone_number.is_some() || change.lid.is_some() || change.push_name.is_some() {
            self.store_surely(change).await;
        }
    }

    /// WhatsApp ended it.
    pub(super) async fn ended(&mut self, state: SessionState, reason: &str, details: Details) {
        self.stop_client().await;
        if state == SessionState::LoggedOut {
            self.forget_device().await;
            if let Err(error) = self.outbox.abandon(LEFT_BEHIND).await {
                // The next pairing does it, or is refused.
                tracing::warn!(instance = %self.number(), %error, "unsent messages stay pending");
            }
        }
        if self.pairing.is_some() && self.state() == SessionState::Pairing {
            let refused = match state {
                SessionState::Outdated => RefusedReason::Outdated,
                _ => RefusedReason::Rejected,
            };
            self.end_pairing(PairStep::Refused(refused, reason.to_owned()))
                .await;
            return;
        }
        self.enter(state, reason, details).await;
        self.finish_pairing(PairStep::Refused(
            RefusedReason::Rejected,
            reason.to_owned(),
        ));
    }

    /// The client ended without a word, or can't go on: build a new one.
    pub(super) async fn client_is_gone(&mut self, reason: &str) {
        let pause = match &self.link {
            Some(link) if link.has_panicked() => {
                let pause = self.panics.next_pause(Instant::now());
                tracing::error!(
                    instance = %self.number(),
                    retry_seconds = pause.as_secs(),
                    "the WhatsApp library panicked; the session starts over"
                );
                self.report(
                    "client_panicked",
                    "the WhatsApp library failed on something that it received; the session starts over",
                    0,
                )
                .await;
                pause
            }
            _ => STORE_AGAIN,
        };
        self.stop_client().await;
        if self.state() == SessionState::Pairing {
            if let Some(pairing) = &mut self.pairing {
                pairing.expire();
            }
            return;
        }
        if self.state() == SessionState::Open {
            self.enter(SessionState::Connecting, reason, Details::default())
                .await;
        }
        if self.state() == SessionState::Connecting {
            self.start(None, pause);
        }
    }

    /// Looks whether the client is what it said last: one of its words may have been lost.
    pub(super) async fn look(&mut self) {
        let Some(link) = &self.link else { return };
        if link.is_stuck() {
            self.stop_client().await;
            let phone_number = None;
            self.start(phone_number, Duration::ZERO);
            return;
        }
        let client = link.client();
        if self.state() == SessionState::Connecting && client.is_logged_in() {
            self.opened().await;
        } else if self.state() == SessionState::Open && !client.is_connected() {
            self.outbox.close();
            self.enter(
                SessionState::Connecting,
                "the connection was lost",
                Details::default(),
            )
            .await;
        } else if self.state() == SessionState::Open
            && let Some(link) = &self.link
        {
            link.check_hearing();
        }
    }
}

/// Shows the account as online or not. The library says online at every login, which would stop the
/// phone's notifications.
pub(super) fn show(client: Arc<Client>, online: bool) {
    tokio::spawn(async move {
        let shown = if online {
            client.presence().set_available().await
        } else {
            client.presence().set_unavailable().await
        };
        if let Err(error) = shown {
            // Refused while the account's name is unknown, when nothing was shown either.
            tracing::debug!(%error, "presence is not set");
        }
    });
}
