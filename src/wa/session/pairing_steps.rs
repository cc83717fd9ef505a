//! Pairing, from the first code to its one end.

use std::time::{Duration, SystemTime};

use tokio::sync::mpsc;

use super::{LEFT_BEHIND, Session, writing::Details};
use crate::{
    domain::session::SessionState,
    events,
    proto::v1,
    storage::{InstanceChange, InstanceRow},
    wa::{
        error::WaError,
        link::{self, Link},
        pairing::{PairStep, Pairing, PairingMethod},
    },
};
use v1::event::Payload;

impl Session {
    pub(super) async fn pair(
        &mut self,
        method: PairingMethod,
        steps: mpsc::Sender<PairStep>,
    ) -> Result<InstanceRow, WaError> {
        let state = self.state();
        if self.pairing.is_some() {
            return Err(WaError::PairingInProgress);
        }
        if state.is_paired() {
            return Err(WaError::AlreadyPaired);
        }
        self.shared
            .networks
            .choose(Some(self.instance.borrow().network))?;
        // Nothing of an earlier account may leak into this one.
        let number = self.number();
        self.shared.storage.device(number).clear().await?;
        self.outbox.abandon(LEFT_BEHIND).await?;
        if state != SessionState::Pairing {
            let row = self.row();
            // Who it was before is no longer true.
            let cleared = |known: &str| (!known.is_empty()).then(String::new);
            let change = InstanceChange {
                phone_number: cleared(&row.phone_number),
                lid: cleared(&row.lid),
                push_name: cleared(&row.push_name),
                ..self.state_change(SessionState::Pairing, "", &Details::default())
            };
            self.store_surely(change).await;
        }
        let phone_number = method.phone_number();
        self.pairing = Some(Pairing::new(method, steps));
        self.start(phone_number, Duration::ZERO);
        Ok(self.row())
    }

    /// Codes that were used or expired are nobody's business any more.
    pub(super) async fn blank_codes(&self) {
        if let Err(error) = self.shared.log.blank_pairing(self.number()).await {
            tracing::warn!(instance = %self.number(), %error, "old pairing codes stay in the log for their hour");
        }
    }

    /// Something to show the phone's owner.
    pub(super) async fn show_code(&mut self, step: PairStep) {
        self.blank_codes().await;
        let event = {
            let row = self.instance.borrow();
            step.event()
                .map(|payload| events::compose(&row, payload, SystemTime::now(), ""))
        };
        if let Some(event) = event {
            self.append(vec![event]).await;
        }
        if let Some(pairing) = &mut self.pairing {
            pairing.shown(step);
        }
    }

    /// The time of the pairing is over, or its caller is gone.
    pub(super) async fn pairing_ends(&mut self) {
        let Some(pairing) = &self.pairing else { return };
        if pairing.is_accepted() {
            // The phone said yes; the session opens on its own and nobody need wait for it.
            let row = self.row();
            self.finish_pairing(PairStep::Paired(Box::new(row)));
            return;
        }
        let step = pairing.verdict();
        if matches!(step, PairStep::Expired) {
            let event = {
                let row = self.instance.borrow();
                let payload = Payload::ConnectionPairingTimeout(v1::ConnectionPairingTimeout {});
                events::compose(&row, payload, SystemTime::now(), "")
            };
            self.append(vec![event]).await;
        }
        self.end_pairing(step).await;
    }

    /// Ends a pairing that did not succeed.
    pub(super) async fn end_pairing(&mut self, step: PairStep) {
        if self.pairing.is_none() {
            return;
        }
        let linked = |link: &Link| link::is_linked(&link.client());
        if self.pairing.as_ref().is_some_and(Pairing::is_accepted)
            || self.link.as_ref().is_some_and(linked)
        {
            // The phone said yes already: what comes now happens to a paired instance.
            self.paired().await;
            let row = self.row();
            self.finish_pairing(PairStep::Paired(Box::new(row)));
            return;
        }
        let reason = step.reason();
        // Told first: to stop the client may take a while.
        self.finish_pairing(step);
        if self.state() == SessionState::Pairing {
            self.stop_client().await;
            self.blank_codes().await;
            self.forget_device().await;
            self.enter(SessionState::Unpaired, &reason, Details::default())
                .await;
        }
    }

    pub(super) fn finish_pairing(&mut self, step: PairStep) {
        if let Some(pairing) = self.pairing.take() {
            pairing.finish(step);
        }
    }
}
