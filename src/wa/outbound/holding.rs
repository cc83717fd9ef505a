//! WhatsApp's limits on writing to people who never wrote to the account.
//!
//! Owns until when such sends are held, over restarts too: until the time that WhatsApp states where it is asked
//! and states one, else for a while that grows with each refusal. Chats in which somebody wrote to the account, and
//! groups, go on. Never sends a message and never fails one that was sent.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::{
    sync::{Mutex, OnceCell, watch},
    time::timeout,
};
use whatsapp_rust::{
    Client, Jid,
    features::{MexError, MexRequest},
    wacore::iq::mex_operations::fetch_new_chat_message_capping_info as capping,
    wacore_binary::JidExt as _,
};

use super::refusals::Limit;
use crate::{
    storage::{InstanceRow, Storage, queue::HoldRow},
    wa::{addresses::Address, error::WaError},
};

/// The first hold where WhatsApp states no time; each that follows is twice as long, …
const FIRST: Duration = Duration::from_secs(15 * 60);

/// … but no longer than this. A day without one, and the next is the first again.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// The longest that WhatsApp is believed.
const BELIEVED: Duration = Duration::from_secs(90 * 24 * 60 * 60);

/// How long WhatsApp may take to say how it limits the account.
const ANSWER_TIME: Duration = Duration::from_secs(10);

/// Sends to strangers wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::wa) struct Hold {
    /// Until when.
    pub(in crate::wa) until: SystemTime,
    /// Why, with WhatsApp's code.
    pub(in crate::wa) reason: String,
    /// WhatsApp is being asked until when.
    pub(in crate::wa) asking: bool,
    strikes: u32,
}

/// The limits of one instance.
pub(in crate::wa) struct Holds {
    storage: Arc<dyn Storage>,
    instance: watch::Receiver<InstanceRow>,
    client: watch::Receiver<Option<Arc<Client>>>,
    known: watch::Sender<Option<Hold>>,
    loaded: OnceCell<()>,
    /// Held while one is decided.
    deciding: Mutex<()>,
}

impl Holds {
    pub(super) fn new(
        storage: Arc<dyn Storage>,
        instance: watch::Receiver<InstanceRow>,
        client: watch::Receiver<Option<Arc<Client>>>,
    ) -> Arc<Self> {
        Arc::new(Self {
            storage,
            instance,
            client,
            known: watch::Sender::default(),
            loaded: OnceCell::new(),
            deciding: Mutex::default(),
        })
    }

    /// Is told when a hold begins or ends at another time.
    pub(in crate::wa) fn watch(&self) -> watch::Receiver<Option<Hold>> {
        self.known.subscribe()
    }

    /// The hold, while there is one.
    pub(in crate::wa) async fn current(&self) -> Result<Option<Hold>, WaError> {
        self.load().await?;
        let now = SystemTime::now();
        Ok(self.known.borrow().clone().filter(|hold| hold.until > now))
    }

    /// Refuses to write to a stranger while that is held.
    pub(super) async fn check(&self, to: &Address) -> Result<(), WaError> {
        let Some(hold) = self.current().await? else {
            return Ok(());
        };
        let names = [Some(&to.to), to.other.as_ref()];
        let names: Vec<&Jid> = names.into_iter().flatten().collect();
        if to.to.is_group() || self.is_own(&names) {
            return Ok(());
        }
        let chats = names.iter().map(ToString::to_string).collect();
        let number = self.instance.borrow().number;
        if self.storage.has_received(number, chats).await? {
            return Ok(());
        }
        Err(WaError::NewChatsHeld {
            until: hold.until,
            reason: hold.reason,
        })
    }

    fn is_own(&self, names: &[&Jid]) -> bool {
        let row = self.instance.borrow();
        names
            .iter()
            .any(|jid| (jid.is_pn() && jid.user == row.phone_number) || jid.to_string() == row.lid)
    }

    /// WhatsApp has refused a message for a limit.
    pub(super) async fn begin(self: &Arc<Self>, limit: Limit, reason: &str) {
        let _deciding = self.deciding.lock().await;
        if let Err(error) = self.load().await {
            tracing::warn!(%error, "an earlier limit can't be read");
        }
        let now = SystemTime::now();
        let known = self.known.borrow().clone();
        if known.as_ref().is_some_and(|hold| hold.until > now) {
            // It was under way when the limit came.
            return;
        }
        let lately = known.filter(|hold| now < hold.until + LONGEST);
        let strikes = lately.map_or(0, |hold| hold.strikes).saturating_add(1);
        let asks = matches!(limit, Limit::Strangers | Limit::NewChats);
        let client = self.client.borrow().clone().filter(|_| asks);
        let hold = Hold {
            until: at_second(now + guess(strikes)),
            reason: reason.to_owned(),
            asking: client.is_some(),
            strikes,
        };
        tracing::warn!(
            instance = %self.instance.borrow().number, reason, strikes,
            "WhatsApp limits whom the account may write to"
        );
        self.keep(hold.clone()).await;
        if let Some(client) = client {
            tokio::spawn(self.clone().ask(client, limit, hold));
        }
    }

    /// Asks WhatsApp until when, and keeps what it says.
    async fn ask(self: Arc<Self>, client: Arc<Client>, limit: Limit, hold: Hold) {
        let stated = match limit {
            Limit::Strangers => timeout(ANSWER_TIME, timelock(&client)).await,
            _ => timeout(ANSWER_TIME, quota(&client)).await,
        };
        let stated = match stated {
            Ok(Ok(stated)) => stated,
            Ok(Err(error)) => {
                tracing::debug!(%error, "WhatsApp does not say until when");
                None
            }
            Err(_) => None,
        };
        let now = SystemTime::now();
        let until = stated.filter(|until| *until > now && *until < now + BELIEVED);
        let _deciding = self.deciding.lock().await;
        if *self.known.borrow() != Some(hold.clone()) {
            // The account is another one by now.
            return;
        }
        self.keep(Hold {
            until: until.unwrap_or(hold.until),
            asking: false,
            ..hold
        })
        .await;
    }

    /// The account is another one.
    pub(super) async fn forget(&self) {
        let _deciding = self.deciding.lock().await;
        // Its row goes with the device.
        self.loaded.set(()).ok();
        self.known.send_replace(None);
    }

    async fn keep(&self, hold: Hold) {
        let row = HoldRow {
            until: hold.until,
            reason: hold.reason.clone(),
            strikes: hold.strikes,
        };
        let number = self.instance.borrow().number;
        if let Err(error) = self.storage.store_hold(number, row).await {
            tracing::warn!(instance = %number, %error, "a limit is kept in memory only");
        }
        self.known.send_replace(Some(hold));
    }

    async fn load(&self) -> Result<(), WaError> {
        let loading = self.loaded.get_or_try_init(async || {
            let number = self.instance.borrow().number;
            let row = self.storage.lookup_hold(number).await?;
            self.known.send_replace(row.map(|row| Hold {
                until: row.until,
                reason: row.reason,
                asking: false,
                strikes: row.strikes,
            }));
            Ok::<(), WaError>(())
        });
        loading.await.map(|_| ())
    }
}

/// How long a hold is where nobody says: this one after so many.
fn guess(strikes: u32) -> Duration {
    let doubled = strikes.saturating_sub(1).min(16);
    (FIRST * (1 << doubled)).min(LONGEST)
}

/// Until when WhatsApp lets the account write to nobody whom it does not know.
async fn timelock(client: &Client) -> Result<Option<SystemTime>, MexError> {
    let told = client.mex().fetch_reachout_timelock().await?;
    let ends = told.time_enforcement_ends.as_deref().unwrap_or_default();
    let active = told.is_active == Some(true);
    Ok(ends.parse().ok().and_then(at).filter(|_| active))
}

/// When the account may begin chats again.
async fn quota(client: &Client) -> Result<Option<SystemTime>, MexError> {
    let input = capping::Input {
        r#type: Some("INDIVIDUAL_NEW_CHAT_MSG".to_owned()),
    };
    let variables = capping::Variables { input: Some(input) };
    let request = MexRequest::new(capping::NAME, capping::DOC_ID, variables);
    let told = client.mex().query(request).await?;
    let told: Option<capping::Response> = told
        .data
        .map(serde_json::from_value)
        .transpose()
        .map_err(MexError::Json)?;
    let info = told.and_then(|told| told.xwa2_message_capping_info);
    Ok(info.and_then(|info| at(info.cycle_end_timestamp?)))
}

/// The beginning of its second: as exact as WhatsApp itself, and the same wherever it is stored.
fn at_second(time: SystemTime) -> SystemTime {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    UNIX_EPOCH + Duration::from_secs(since.as_secs())
}

fn at(seconds: i64) -> Option<SystemTime> {
    let seconds = u64::try_from(seconds).ok().filter(|seconds| *seconds > 0)?;
    UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hold_grows_up_to_a_day() {
        let minutes: Vec<u64> = (1..10).map(|strike| guess(strike).as_secs() / 60).collect();
        assert_eq!(minutes, [15, 30, 60, 120, 240, 480, 960, 1_440, 1_440]);
        assert_eq!(guess(u32::MAX), LONGEST);
    }
}
