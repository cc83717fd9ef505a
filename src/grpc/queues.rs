//! QueueService: checks mailing lists, hands them to their instance, shows what is stored of them.

use std::{collections::HashSet, sync::Arc, time::SystemTime};

use prost::Message as _;
use tokio::task::spawn_blocking;
use tonic::{Request, Response, Status, codec::CompressionEncoding};

use super::{
    access, groups,
    messages::{content, options},
    page,
    requests::{self, Requests, mark_of},
    status::{self, Reason, refuse},
};
use crate::{
    auth::Caller,
    domain::{ids::QueueId, limits, permission::Permission, recipient::Recipient, template},
    proto::v1::{
        self,
        message_content::Content,
        queue_message::Content as Listed,
        queue_service_server::{QueueService, QueueServiceServer},
        send_message_request::Content as Asked,
    },
    storage::{
        InstanceRow, Storage,
        queue::{ItemQuery, ItemState, NewItem, QueueRow},
    },
    wa::{
        NewList, Registry, content_of, filled, has_places, listed, new_item, queue_item_resource,
        queue_resource,
    },
};

const LIST: &str = "ListQueues";
const LIST_ITEMS: &str = "ListQueueItems";

/// The service.
pub struct Queues {
    storage: Arc<dyn Storage>,
    registry: Arc<Registry>,
    requests: Requests,
}

impl Queues {
    /// The service, on this store and these sessions.
    pub fn server(storage: Arc<dyn Storage>, registry: Arc<Registry>) -> QueueServiceServer<Self> {
        QueueServiceServer::new(Self {
            requests: Requests::new(storage.clone()),
            storage,
            registry,
        })
        .max_decoding_message_size(limits::QUEUE_REQUEST_BYTES)
        .accept_compressed(CompressionEncoding::Gzip)
        .send_compressed(CompressionEncoding::Gzip)
    }

    /// Who calls, and for which instance.
    async fn called<T>(
        &self,
        request: Request<T>,
        permission: Permission,
        instance: impl Fn(&T) -> &str,
    ) -> Result<(Caller, InstanceRow, T), Status> {
        access::called(self.storage.as_ref(), request, permission, instance).await
    }

    async fn find(&self, instance: &InstanceRow, id: QueueId) -> Result<QueueRow, Status> {
        let found = self.storage.lookup_queue(instance.number, id).await?;
        found.ok_or_else(|| not_found(&id.to_string()))
    }
}

fn not_found(id: &str) -> Status {
    refuse(
        Reason::QueueNotFound,
        "the instance has no mailing list with this id",
    )
    .with("queue_id", id)
    .field("queue_id", "must be the id of a mailing list")
    .into()
}

fn queue_id(text: &str) -> Result<QueueId, Status> {
    QueueId::parse(text).ok_or_else(|| not_found(text))
}

fn shown(instance: &InstanceRow, row: &QueueRow) -> Option<v1::Queue> {
    Some(queue_resource(instance, row, SystemTime::now(), true))
}

#[tonic::async_trait]
impl QueueService for Queues {
    async fn create_queue(
        &self,
        request: Request<v1::CreateQueueRequest>,
    ) -> Result<Response<v1::CreateQueueResponse>, Status> {
        let (caller, instance, mut asked) = self
            .called(request, Permission::MessagesWrite, |asked| &asked.instance)
            .await?;
        // An instance named another way is the same one.
        asked.instance = instance.id.to_string();
        let request_id = std::mem::take(&mut asked.request_id);
        // It may be a long list: long enough to keep others of this thread waiting.
        let checking = spawn_blocking(move || {
            let request = requests::mark(&caller, "CreateQueue", &request_id, &asked)?;
            let new = new_list(asked)?;
            Ok::<_, Status>(NewList { request, ..new })
        });
        let new = checking.await.map_err(|_| status::internal())??;
        let now = SystemTime::now();
        let wrong = new.items.iter().enumerate();
        let wrong = wrong.filter(|(_, item)| item.state != ItemState::Waiting);
        let rejected = wrong
            .take(limits::QUEUE_REJECTED)
            .map(|(position, item)| new_item(position, item, now))
            .collect();
        let row = self.registry.create_queue(instance.number, new).await?;
        Ok(Response::new(v1::CreateQueueResponse {
            queue: shown(&instance, &row),
            rejected,
        }))
    }

    async fn get_queue(
        &self,
        request: Request<v1::GetQueueRequest>,
    ) -> Result<Response<v1::GetQueueResponse>, Status> {
        let (_, instance, asked) = self
            .called(request, Permission::MessagesRead, |asked| &asked.instance)
            .await?;
        let row = self.find(&instance, queue_id(&asked.queue_id)?).await?;
        Ok(Response::new(v1::GetQueueResponse {
            queue: shown(&instance, &row),
        }))
    }

    async fn list_queues(
        &self,
        request: Request<v1::ListQueuesRequest>,
    ) -> Result<Response<v1::ListQueuesResponse>, Status> {
        let (_, instance, asked) = self
            .called(request, Permission::MessagesRead, |asked| &asked.instance)
            .await?;
        let size = page::size(asked.page_size)?;
        let after = page::after(LIST, &asked.page_token)?
            .map(|key| QueueId::parse(&key).ok_or_else(status::page_token_invalid))
            .transpose()?;
        let found = self.storage.list_queues(instance.number, after, size + 1);
        let (found, next_page_token) =
            page::cut(LIST, found.await?, size, |last| last.id.to_string());
        let now = SystemTime::now();
        let queues = found.iter();
        Ok(Response::new(v1::ListQueuesResponse {
            queues: queues
                .map(|row| queue_resource(&instance, row, now, false))
                .collect(),
            next_page_token,
        }))
    }

    async fn list_queue_items(
        &self,
        request: Request<v1::ListQueueItemsRequest>,
    ) -> Result<Response<v1::ListQueueItemsResponse>, Status> {
        let (_, instance, asked) = self
            .called(request, Permission::MessagesRead, |asked| &asked.instance)
            .await?;
        let id = queue_id(&asked.queue_id)?;
        self.find(&instance, id).await?;
        let size = page::size(asked.page_size)?;
        let after = page::after(LIST_ITEMS, &asked.page_token)?
            .map(|key| key.parse().map_err(|_| status::page_token_invalid()))
            .transpose()?;
        let state = match asked.state {
            0 => None,
            number => Some(
                ItemState::from_number(number)
                    .ok_or_else(|| status::field_invalid("state", "must be a state"))?,
            ),
        };
        let query = ItemQuery {
            state,
            after,
            limit: size + 1,
        };
        let found = self.storage.list_items(instance.number, id, query).await?;
        let (found, next_page_token) =
            page::cut(LIST_ITEMS, found, size, |last| last.position.to_string());
        let items = found.iter().map(queue_item_resource);
        Ok(Response::new(v1::ListQueueItemsResponse {
            items: items.collect::<Result<_, _>>()?,
            next_page_token,
        }))
    }

    async fn pause_queue(
        &self,
        request: Request<v1::PauseQueueRequest>,
    ) -> Result<Response<v1::PauseQueueResponse>, Status> {
        let (caller, instance, asked) = self
            .called(request, Permission::MessagesWrite, |asked| &asked.instance)
            .await?;
        let mark = mark_of!(caller, instance, asked, "PauseQueue")?;
        let id = queue_id(&asked.queue_id)?;
        let registry = self.registry.clone();
        let done = self.requests.once(instance.number, mark, async move {
            let row = registry.pause_queue(instance.number, id).await?;
            Ok(v1::PauseQueueResponse {
                queue: shown(&instance, &row),
            })
        });
        Ok(Response::new(done.await?))
    }

    async fn resume_queue(
        &self,
        request: Request<v1::ResumeQueueRequest>,
    ) -> Result<Response<v1::ResumeQueueResponse>, Status> {
        let (caller, instance, asked) = self
            .called(request, Permission::MessagesWrite, |asked| &asked.instance)
            .await?;
        let mark = mark_of!(caller, instance, asked, "ResumeQueue")?;
        let id = queue_id(&asked.queue_id)?;
        let registry = self.registry.clone();
        let done = self.requests.once(instance.number, mark, async move {
            let row = registry.resume_queue(instance.number, id).await?;
            Ok(v1::ResumeQueueResponse {
                queue: shown(&instance, &row),
            })
        });
        Ok(Response::new(done.await?))
    }

    async fn delete_queue(
        &self,
        request: Request<v1::DeleteQueueRequest>,
    ) -> Result<Response<v1::DeleteQueueResponse>, Status> {
        let (caller, instance, asked) = self
            .called(request, Permission::MessagesWrite, |asked| &asked.instance)
            .await?;
        let mark = mark_of!(caller, instance, asked, "DeleteQueue")?;
        let id = queue_id(&asked.queue_id)?;
        let registry = self.registry.clone();
        let done = self.requests.once(instance.number, mark, async move {
            registry.delete_queue(instance.number, id).await?;
            Ok(v1::DeleteQueueResponse {})
        });
        Ok(Response::new(done.await?))
    }
}

/// The list that a caller wants, with every recipient looked at.
fn new_list(asked: v1::CreateQueueRequest) -> Result<NewList, Status> {
    access::label("name", &asked.name)?;
    let count = asked.recipients.len();
    let limit = limits::QUEUE_RECIPIENTS;
    if !(1..=limit).contains(&count) {
        let description = format!("must name 1 to {limit} recipients");
        return Err(status::field_invalid("recipients", description));
    }
    let pacing = pacing(asked.pacing.unwrap_or_default())?;
    let Some(message) = asked.message else {
        return Err(status::field_invalid("message", "must say something"));
    };
    let message = checked(message).map_err(|error| status::inside("message", &error))?;
    let proof = Proof::of(&message);
    let mut seen = HashSet::with_capacity(count);
    let items = asked
        .recipients
        .into_iter()
        .map(|recipient| proof.item(recipient, &mut seen))
        .collect();
    Ok(NewList {
        name: asked.name,
        message,
        pacing,
        items,
        request: None,
    })
}

/// What a list says, within WhatsApp's limits as far as they don't depend on the recipient.
fn checked(message: v1::QueueMessage) -> Result<v1::QueueMessage, Status> {
    options::quoted(&message.quoted_message_id)?;
    options::ephemeral(message.ephemeral_seconds)?;
    if let Some(mentions) = &message.mentions {
        groups::people("mentions.mentioned", mentions.mentioned.clone())?;
    }
    let content = message.content.map(|said| asked(content_of(said)));
    let content = listed(content::checked(content.flatten(), "")?);
    Ok(v1::QueueMessage { content, ..message })
}

/// What a list says, as somebody would say it to one.
fn asked(content: Content) -> Option<Asked> {
    Some(match content {
        Content::Text(said) => Asked::Text(said),
        Content::GroupInvite(said) => Asked::GroupInvite(said),
        Content::Location(said) => Asked::Location(said),
        Content::LiveLocation(said) => Asked::LiveLocation(said),
        Content::Contacts(said) => Asked::Contacts(said),
        Content::Poll(said) => Asked::Poll(said),
        Content::EventInvitation(said) => Asked::EventInvitation(said),
        Content::List(said) => Asked::List(said),
        Content::Buttons(said) => Asked::Buttons(said),
        Content::Interactive(said) => Asked::Interactive(said),
        Content::Image(said) => Asked::Image(said),
        Content::Video(said) => Asked::Video(said),
        Content::Audio(said) => Asked::Audio(said),
        Content::Document(said) => Asked::Document(said),
        Content::Sticker(said) => Asked::Sticker(said),
        _ => return None,
    })
}

fn pacing(pacing: v1::QueuePacing) -> Result<v1::QueuePacing, Status> {
    let within = |field: &str, fine: bool, description: String| match fine {
        true => Ok(()),
        false => Err(status::field_invalid(field, description)),
    };
    let most = limits::QUEUE_DELAY_MS;
    let (least, longest) = (pacing.delay_min_ms, pacing.delay_max_ms);
    let field = "pacing.delay_min_ms";
    within(field, least <= most, format!("must be at most {most}"))?;
    within(
        "pacing.delay_max_ms",
        longest == 0 || (least..=most).contains(&longest),
        format!("must be at least delay_min_ms and at most {most}"),
    )?;
    within(
        "pacing.presence",
        v1::ChatActivity::try_from(pacing.presence).is_ok(),
        "must be COMPOSING or RECORDING".to_owned(),
    )?;
    let rate = pacing.messages_per_minute.unwrap_or(limits::QUEUE_RATE);
    within(
        "pacing.messages_per_minute",
        rate <= limits::QUEUE_RATE_MAX,
        format!("must be at most {}", limits::QUEUE_RATE_MAX),
    )?;
    if let Some(window) = &pacing.window {
        let field = |name| format!("pacing.window.{name}");
        within(
            &field("start_minute"),
            window.start_minute < 1_440,
            "must be 0 to 1439".to_owned(),
        )?;
        within(
            &field("end_minute"),
            (1..=1_440).contains(&window.end_minute) && window.end_minute != window.start_minute,
            "must be 1 to 1440, and another than start_minute".to_owned(),
        )?;
        within(
            &field("utc_offset_minutes"),
            (-720..=840).contains(&window.utc_offset_minutes),
            "must be -720 to 840".to_owned(),
        )?;
    }
    Ok(v1::QueuePacing {
        messages_per_minute: Some(rate),
        delay_max_ms: longest.max(least),
        ..pacing
    })
}

/// What is said, where it has to be looked at for every recipient.
struct Proof(Option<Content>);

impl Proof {
    fn of(message: &v1::QueueMessage) -> Self {
        let content: Option<Listed> = message.content.clone();
        Self(content.map(content_of).filter(has_places))
    }

    /// A recipient of the list, or what is wrong with it.
    fn item(&self, given: v1::QueueRecipient, seen: &mut HashSet<Recipient>) -> NewItem {
        let v1::QueueRecipient {
            recipient,
            variables,
        } = given;
        let looked_at = match Recipient::parse(&recipient) {
            Err(why) => Err((ItemState::Invalid, format!("the recipient {why}"))),
            Ok(named) => match self.look_at(&variables) {
                Err(reason) => Err((ItemState::Invalid, reason)),
                Ok(()) if seen.insert(named) => Ok(()),
                Ok(()) => {
                    let reason = "named before in the list".to_owned();
                    Err((ItemState::Duplicate, reason))
                }
            },
        };
        let (state, reason) = match looked_at {
            Ok(()) => (ItemState::Waiting, String::new()),
            Err(wrong) => wrong,
        };
        // Nobody needs more of what is no recipient than to find it again.
        let recipient = recipient.chars().take(limits::LABEL_CHARS).collect();
        let kept = v1::QueueRecipient {
            recipient: String::new(),
            variables: match variables_fit(&variables) {
                true => variables,
                false => Default::default(),
            },
        };
        NewItem {
            recipient,
            variables: kept.encode_to_vec().into(),
            state,
            reason,
        }
    }

    fn look_at(&self, variables: &template::Variables) -> Result<(), String> {
        if !variables_fit(variables) {
            return Err(format!(
                "has more than {} variables, a name of more than {} characters, or more than {} bytes",
                limits::QUEUE_VARIABLES,
                limits::QUEUE_VARIABLE_CHARS,
                limits::QUEUE_VARIABLES_BYTES
            ));
        }
        let Some(content) = &self.0 else {
            return Ok(());
        };
        let content =
            filled(content, variables).map_err(|name| format!("the variable {name} is missing"))?;
        let fits = content::checked(asked(content), "");
        fits.map(|_| ()).map_err(|error| error.message().to_owned())
    }
}

fn variables_fit(variables: &template::Variables) -> bool {
    let bytes: usize = variables
        .iter()
        .map(|(name, value)| name.len() + value.len())
        .sum();
    variables.len() <= limits::QUEUE_VARIABLES
        && bytes <= limits::QUEUE_VARIABLES_BYTES
        && variables.keys().all(|name| template::is_name(name))
}

#[cfg(test)]
mod tests;
