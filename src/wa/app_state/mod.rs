//! What the devices of an account share and nobody else knows: stars, and messages deleted for the account alone.
//!
//! Owns how they are shared (WhatsApp calls it app state) and how what is shared changes what is stored. Follows the
//! order in which WhatsApp took what the devices did: what this one did is read back and applied with the rest. Never
//! believes its own request before WhatsApp has taken it.

mod catching_up;
mod change;
mod echoes;
mod errors;

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use prost::Message;
use tokio::{
    sync::{Mutex, watch},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use whatsapp_rust::{
    Client, Jid,
    chrono::{DateTime, Utc},
    schemas::{self, Schema},
    types::events::Event,
    wacore_binary::JidExt as _,
};

use self::{
    catching_up::CatchingUp,
    change::{Mark, Marking},
    echoes::Echoes,
};
use super::{
    addresses::other_name,
    convert::{NAME_BYTES, ids, rows},
    error::WaError,
    once::in_turn,
};
use crate::{
    proto::v1::{self, MessageStatus, message_content::Content},
    storage::{InstanceRow, MessageRecord, MessageRow, RequestMark, Storage},
};

pub(super) use self::change::{media_of, noted};
pub use self::errors::AppStateFault;

/// How long WhatsApp may take to answer about app state: a patch that others outran is made anew up to five times.
const ANSWER_TIME: Duration = Duration::from_secs(30);

/// How long what was taken may take to be read back.
const ECHO_TIME: Duration = Duration::from_secs(3);

/// Pause before what could not be stored is stored again.
const STORE_AGAIN: Duration = Duration::from_secs(1);

/// How old a mark may be that is kept for a message that is not here: WhatsApp keeps messages no longer for a device
/// that is away.
const NOTED_FOR: Duration = Duration::from_secs(30 * 86_400);

/// Most messages with one id that are looked through: two are rare.
const SAME_ID: usize = 100;

/// The app state of one instance.
pub struct AppState {
    storage: Arc<dyn Storage>,
    instance: watch::Receiver<InstanceRow>,
    client: watch::Receiver<Option<Arc<Client>>>,
    /// One patch at a time.
    turns: Arc<Mutex<()>>,
    echoes: Echoes,
    catching_up: Arc<CatchingUp>,
    stop: CancellationToken,
}

/// A mark as another device, or this one, made it.
struct Told<'t> {
    chat: &'t Jid,
    participant: Option<&'t Jid>,
    message_id: &'t str,
    from_me: bool,
    time: DateTime<Utc>,
    mark: Mark,
    /// It was read with all that there is, not because it is new.
    is_past: bool,
}

impl AppState {
    pub(super) fn new(
        storage: Arc<dyn Storage>,
        instance: watch::Receiver<InstanceRow>,
        client: watch::Receiver<Option<Arc<Client>>>,
        stop: CancellationToken,
    ) -> Arc<Self> {
        Arc::new(Self {
            storage,
            instance,
            client,
            turns: Arc::default(),
            echoes: Echoes::default(),
            catching_up: Arc::default(),
            stop,
        })
    }

    fn row(&self) -> InstanceRow {
        self.instance.borrow().clone()
    }

    /// Stars a stored message, or no longer; `None` is one that is not stored, or no longer.
    pub async fn star(
        self: &Arc<Self>,
        about: Option<MessageRow>,
        starred: bool,
        request: Option<RequestMark>,
    ) -> Result<v1::StarMessageResponse, WaError> {
        self.once(request, async move |state, _| {
            let row = about.ok_or(WaError::NoSuchMessage("message_id"))?;
            state.share(&row, Mark::Starred(starred)).await?;
            let now = state
                .storage
                .lookup_message(row.instance, &row.message_id, Some(&row.chat));
            let now = now.await?.ok_or(WaError::NoSuchMessage("message_id"))?;
            Ok(v1::StarMessageResponse {
                message: Some(rows::message(&now)?),
            })
        })
        .await
    }

    /// Deletes a stored message for the account alone; `None` is one that is not stored, or no longer.
    pub async fn delete_for_me(
        self: &Arc<Self>,
        about: Option<MessageRow>,
        media: bool,
        request: Option<RequestMark>,
    ) -> Result<v1::DeleteMessageForMeResponse, WaError> {
        self.once(request, async move |state, begun| {
            let Some(row) = about else {
                // An earlier try of the same request has done it, and never heard so.
                return match begun {
                    Some(_) => Ok(v1::DeleteMessageForMeResponse {}),
                    None => Err(WaError::NoSuchMessage("message_id")),
                };
            };
            state.share(&row, Mark::Deleted { media }).await?;
            Ok(v1::DeleteMessageForMeResponse {})
        })
        .await
    }

    /// Does something once per request, to its end also if its caller leaves.
    async fn once<T, Work>(
        self: &Arc<Self>,
        request: Option<RequestMark>,
        work: impl FnOnce(Arc<Self>, Option<SystemTime>) -> Work + Send + 'static,
    ) -> Result<T, WaError>
    where
        T: Message + Default + 'static,
        Work: Future<Output = Result<T, WaError>> + Send + 'static,
    {
        let (storage, number) = (self.storage.clone(), self.row().number);
        let (turns, state) = (self.turns.clone(), self.clone());
        let work = move |begun| work(state, begun);
        in_turn(turns, storage, number, request, work).await
    }

    /// Has WhatsApp take a mark, then sees that it is applied here.
    async fn share(&self, row: &MessageRow, mark: Mark) -> Result<(), WaError> {
        let known = rows::message(row)?;
        markable(row, &known, mark)?;
        let chat: Jid =
            (row.chat.parse()).map_err(|_| WaError::Unchangeable("its chat is of a newer kind"))?;
        let client = self.client.borrow().clone();
        let client = client.ok_or_else(|| WaError::not_open(self.row()))?;
        let backend = client.persistence_manager().backend();
        if !matches!(backend.get_latest_sync_key_id().await, Ok(Some(_))) {
            return Err(WaError::AppState(AppStateFault::KeysMissing));
        }
        let marking = Marking {
            instance: self.row(),
            mark,
            message_id: row.message_id.clone(),
            chats: vec![row.chat.clone()],
            chat: known.chat.unwrap_or_default(),
            from_me: row.from_me,
            sender: None,
            time: in_millis(SystemTime::now()),
        };
        let many = chat.is_group() || chat.is_status_broadcast();
        let participant = (many && !row.from_me).then_some(&*row.sender);
        let index = [
            &*row.chat,
            &*row.message_id,
            if row.from_me { "1" } else { "0" },
            participant.unwrap_or("0"),
        ];
        let value = mark.value(marking.millis(), row.time);
        let echo = self.echoes.expect(&row.message_id, marking.millis());
        let sharing = client.send_app_state_action(schema(mark), &index, &value);
        match timeout(ANSWER_TIME, sharing).await {
            Ok(taken) => taken.map_err(errors::explain)?,
            Err(_) => return Err(WaError::Timeout("no answer about app state".to_owned())),
        }
        if timeout(ECHO_TIME, echo.heard()).await.is_err() {
            // It is read back with what comes next, and changes nothing then.
            self.storage
                .change_message(row.instance, marking.change())
                .await?;
        }
        Ok(())
    }

    /// Applies what a device of the account did; tries until it works or wagate stops.
    pub(super) async fn observe(&self, client: &Arc<Client>, event: &Event) {
        let told = match event {
            Event::StarUpdate(star) => Told {
                chat: &star.chat_jid,
                participant: star.participant_jid.as_ref(),
                message_id: &star.message_id,
                from_me: star.from_me,
                time: star.timestamp,
                mark: Mark::Starred(star.action.starred == Some(true)),
                is_past: star.from_full_sync,
            },
            Event::DeleteMessageForMeUpdate(deletion) => Told {
                chat: &deletion.chat_jid,
                participant: deletion.participant_jid.as_ref(),
                message_id: &deletion.message_id,
                from_me: deletion.from_me,
                time: deletion.timestamp,
                mark: Mark::deletion(&deletion.action),
                is_past: deletion.from_full_sync,
            },
            Event::AppStateSyncFailed(failed) => {
                let passed_over = &failed.skipped;
                return self.catching_up.read(client, passed_over, &self.stop);
            }
            _ => return,
        };
        if is_named(&told) {
            self.apply(client, &told).await;
        }
        self.echoes
            .tell(told.message_id, told.time.timestamp_millis());
    }

    async fn apply(&self, client: &Client, told: &Told<'_>) {
        let chat = told.chat.to_non_ad();
        let other = match chat.is_group() {
            true => None,
            false => other_name(client, &chat).await,
        };
        let sender = match told.participant.filter(|_| !told.from_me) {
            Some(jid) => Some(ids::party(
                [Some(jid), other_name(client, jid).await.as_ref()],
                "",
            )),
            None => None,
        };
        let names = [Some(&chat), other.as_ref()];
        let marking = Marking {
            instance: self.row(),
            mark: told.mark,
            message_id: told.message_id.to_owned(),
            chats: names.into_iter().flatten().map(Jid::to_string).collect(),
            chat: ids::chat(&chat, other.as_ref(), ""),
            from_me: told.from_me,
            sender,
            time: told.time.into(),
        };
        while let Err(error) = self.store(&marking, told.is_past).await {
            tracing::warn!(instance = %marking.instance.number, %error, "app state waits for the database");
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = sleep(STORE_AGAIN) => {}
            }
        }
    }

    async fn store(&self, marking: &Marking, is_past: bool) -> Result<(), WaError> {
        let instance = marking.instance.number;
        let same_id = self
            .storage
            .list_messages(instance, &marking.message_id, SAME_ID)
            .await?;
        let change = marking.clone().change();
        if same_id.iter().any(|row| marking.chats.contains(&row.chat)) {
            self.storage.change_message(instance, change).await?;
            return Ok(());
        }
        // Of a message from before the pairing, which does not come any more.
        let age = SystemTime::now().duration_since(marking.time);
        let is_old = age.is_ok_and(|age| age > NOTED_FOR);
        if is_past || is_old || marking.time < marking.instance.create_time {
            return Ok(());
        }
        // Once: it has the key of what was noted before.
        let mut note = MessageRecord::new(marking.note(), Vec::new());
        note.effects.changes.push(change);
        self.storage.record_messages(vec![note]).await?;
        Ok(())
    }
}

fn schema(mark: Mark) -> &'static Schema {
    match mark {
        Mark::Starred(_) => &schemas::STAR,
        Mark::Deleted { .. } => &schemas::DELETE_MESSAGE_FOR_ME,
    }
}

/// Whether other devices have the message at all, and as one that stands for itself.
fn markable(row: &MessageRow, known: &v1::Message, mark: Mark) -> Result<(), WaError> {
    let content = known.content.as_ref();
    let gone = matches!(
        content.and_then(|content| content.content.as_ref()),
        Some(Content::Deleted(_))
    );
    let why = if !row.listed {
        "it only does something to another message"
    } else if row.status == MessageStatus::Pending as i32 {
        "WhatsApp has not confirmed it yet"
    } else if row.status == MessageStatus::Error as i32 {
        "WhatsApp did not take it"
    } else if gone && mark == Mark::Starred(true) {
        "it is deleted"
    } else {
        return Ok(());
    };
    Err(WaError::Unchangeable(why))
}

/// Whether it names a message that could be here.
fn is_named(told: &Told<'_>) -> bool {
    let id = told.message_id.len();
    (1..=NAME_BYTES).contains(&id) && told.chat.to_string().len() <= NAME_BYTES
}

/// WhatsApp counts milliseconds.
fn in_millis(time: SystemTime) -> SystemTime {
    let millis = time
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_millis();
    UNIX_EPOCH + Duration::from_millis(u64::try_from(millis).unwrap_or_default())
}
