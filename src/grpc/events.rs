//! EventService. Mounted by hand, because its answers are made of events that are encoded already.

use std::{
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures::{Stream, future::BoxFuture};
use prost::Message;
use tokio::time::{Instant, sleep_until};
use tonic::{
    Request, Response, Status,
    body::Body,
    codec::CompressionEncoding,
    server::{Grpc, NamedService},
};
use uuid::Uuid;

use crate::{
    auth::{Caller, Keys},
    domain::{ids::EventId, permission::Permission},
    events::{Batch, Log, ReadError, Run, Start, timestamp},
    grpc::{
        access,
        codec::{Encoded, Pieces},
        deadline::Deadline,
        filter::{self, Filter},
        page,
        status::{self, Reason, refuse},
        subscribe::{Batching, Slots, StreamLimits, Subscription},
    },
    lifecycle::Shutdown,
    proto::v1,
    storage::Storage,
};

const BATCH_EVENTS: usize = 100;
const BATCH_BYTES: usize = 1 << 20;
const BATCH_BYTES_MAX: usize = 3 << 20;
const BATCH_DELAY_MAX: Duration = Duration::from_secs(5);
const LIST_WAIT_MAX: Duration = Duration::from_secs(60);
/// What a caller is told to wait where a drain refuses a new call.
const DRAIN_RETRY: Duration = Duration::from_secs(1);

/// The service.
#[derive(Clone)]
pub(super) struct Events {
    pub storage: Arc<dyn Storage>,
    pub log: Log,
    pub keys: Keys,
    pub shutdown: Shutdown,
    pub limits: Arc<StreamLimits>,
    pub slots: Slots,
}

impl Events {
    async fn subscribe(
        self,
        request: Request<v1::SubscribeRequest>,
    ) -> Result<Response<impl Stream<Item = Result<Pieces, Status>> + Send + 'static>, Status> {
        let caller = access::permit(&request, Permission::EventsRead)?;
        if self.shutdown.has_begun() {
            return Err(status::draining(DRAIN_RETRY));
        }
        let deadline = request.extensions().get::<Deadline>().copied();
        let request = request.into_inner();
        access::label("client_id", &request.client_id)?;
        let batching = batching(request.batch.unwrap_or_default())?;
        let start = filter::start(request.start.into(), Start::Latest)?;
        let skips_gaps = filter::skips_gaps(request.on_gap)?;
        let slot = self.slots.take(caller.key(), self.limits.per_key)?;
        // Before the filter: whoever is deleted after being found there is deleted after this place.
        let opening = self.log.open(start).await?;
        let filter = Filter::resolve(
            &*self.storage,
            &caller,
            &request.instances,
            &request.event_types,
        )
        .await?;
        if let Some(gap) = &opening.gap
            && !skips_gaps
        {
            return Err(filter::gap_refused(&self.log, gap));
        }
        tracing::debug!(client_id = request.client_id, "a stream of events opens");
        let subscription = Subscription {
            heartbeat: self.heartbeat(request.heartbeat_interval),
            log: self.log,
            keys: self.keys,
            shutdown: self.shutdown,
            limits: StreamLimits::clone(&self.limits),
            slot,
            key: caller.key().clone(),
            filter,
            until: request.stop_when_caught_up.then_some(opening.head),
            opening,
            skips_gaps,
            batching,
            deadline: deadline.map(|Deadline(deadline)| deadline),
        };
        Ok(Response::new(subscription.start()))
    }

    /// The nearest interval that is offered.
    fn heartbeat(&self, asked: Option<pbjson_types::Duration>) -> Duration {
        match asked.map(Duration::try_from) {
            None => self.limits.heartbeat_default,
            Some(Err(_)) => self.limits.heartbeat_min,
            Some(Ok(asked)) => asked.clamp(self.limits.heartbeat_min, self.limits.heartbeat_max),
        }
    }

    async fn list_events(
        self,
        request: Request<v1::ListEventsRequest>,
    ) -> Result<Response<Pieces>, Status> {
        let caller = access::permit(&request, Permission::EventsRead)?;
        let request = request.into_inner();
        let start = filter::start(request.start.into(), Start::Earliest)?;
        let skips_gaps = filter::skips_gaps(request.on_gap)?;
        let limit = page::event_size(request.page_size)?;
        let wait = bounded("wait", request.wait, LIST_WAIT_MAX)?;
        let wait_until = Instant::now() + wait;
        let opening = self.log.open(start).await?;
        let filter = Filter::resolve(
            &*self.storage,
            &caller,
            &request.instances,
            &request.event_types,
        )
        .await?;
        let mut gap = opening.gap;
        let mut reader = self.log.reader(opening.position);
        let mut batch = Batch::new();
        let mut next = opening.position;
        let mut caught_up = false;
        while batch.is_empty() {
            if gap.is_some_and(|_| !skips_gaps) {
                break;
            }
            let head = self.log.head();
            match reader
                .read(&filter.wanted, None, limit, BATCH_BYTES_MAX)
                .await
            {
                Ok(events) => {
                    next = reader.position();
                    caught_up = next >= head;
                    let mut last = opening.position;
                    for event in events.iter() {
                        if !batch.push(event, BATCH_BYTES_MAX) {
                            (next, caught_up) = (last, false);
                            break;
                        }
                        last = event.position();
                    }
                }
                Err(ReadError::Storage(error)) => return Err(error.into()),
                Err(ReadError::Gap(found)) => {
                    reader.skip_to(found.earliest);
                    next = found.earliest;
                    gap = Some(found);
                    continue;
                }
            }
            if !batch.is_empty() || reader.is_behind() {
                continue;
            }
            tokio::select! {
                () = reader.wait() => {}
                () = sleep_until(wait_until) => break,
                () = self.shutdown.begun() => break,
                revoked = self.keys.revoked(caller.key()) => {
                    return Err(status::revoked(revoked));
                }
            }
        }
        if let Some(gap) = &gap
            && !skips_gaps
        {
            return Err(filter::gap_refused(&self.log, gap));
        }
        let rest = v1::ListEventsResponse {
            events: Vec::new(),
            next_cursor: self.log.cursor(next).to_string(),
            caught_up,
            gap: gap.map(|gap| filter::told(&self.log, &gap)),
        };
        let mut answer = batch.take();
        answer.push(rest.encode_to_vec().into());
        Ok(Response::new(answer))
    }

    async fn get_event(
        self,
        request: Request<v1::GetEventRequest>,
    ) -> Result<Response<Pieces>, Status> {
        let caller = access::permit(&request, Permission::EventsRead)?;
        let text = request.into_inner().event_id;
        let id = Uuid::try_parse(&text)
            .map_err(|_| status::field_invalid("event_id", "must be the id of an event"))?;
        let event = self
            .storage
            .lookup_event(EventId(id))
            .await?
            .filter(|event| filter::may_see(&caller, event))
            .ok_or_else(|| {
                refuse(
                    Reason::EventNotFound,
                    "there is no such event, or retention removed it",
                )
                .field("event_id", "must be the id of an event that is kept")
            })?;
        let run = Run::seal(self.log.epoch(), &[event]);
        Ok(Response::new(vec![run.into_bytes()]))
    }

    async fn get_event_log_info(
        self,
        request: Request<v1::GetEventLogInfoRequest>,
    ) -> Result<Response<Pieces>, Status> {
        let caller = access::permit(&request, Permission::EventsRead)?;
        let bounds = self.log.bounds().await?;
        let info = v1::GetEventLogInfoResponse {
            log_epoch: self.log.epoch().to_string(),
            earliest_cursor: self.log.cursor(bounds.compacted).to_string(),
            head_cursor: self.log.cursor(bounds.head).to_string(),
            earliest_time: bounds.earliest_time.map(timestamp),
            head_time: bounds.head_time.map(timestamp),
            event_count: bounds.count,
            size_bytes: bounds.bytes,
            retention_age: Some(self.log.retention().age.into()),
            retention_bytes: self.log.retention().max_bytes,
            instances: self.instance_heads(&caller).await?,
        };
        Ok(Response::new(vec![info.encode_to_vec().into()]))
    }

    async fn instance_heads(&self, caller: &Caller) -> Result<Vec<v1::InstanceHead>, Status> {
        const PAGE: usize = 1_000;
        let only = caller.instances().map(|bound| bound.to_vec());
        let heads = self.storage.instance_heads(only.clone()).await?;
        let heads: std::collections::HashMap<_, _> = heads.into_iter().collect();
        let mut told = Vec::new();
        let mut after = None;
        loop {
            let rows = self
                .storage
                .list_instances(after, only.clone(), PAGE)
                .await?;
            after = rows.last().map(|row| row.number);
            let full = rows.len() == PAGE;
            told.extend(rows.into_iter().map(|row| v1::InstanceHead {
                instance: row.id.to_string(),
                instance_sequence: heads.get(&row.number).copied().unwrap_or(0),
            }));
            if !full {
                return Ok(told);
            }
        }
    }
}

/// The batch options in force.
fn batching(asked: v1::BatchOptions) -> Result<Batching, Status> {
    let number = |field: &str, asked: i32, default: usize, most: usize| match usize::try_from(asked)
    {
        Ok(0) => Ok(default),
        Ok(asked) if asked <= most => Ok(asked),
        _ => Err(status::field_invalid(
            field,
            format!("must be between 1 and {most}"),
        )),
    };
    let events_max = crate::domain::limits::EVENTS_MAX;
    Ok(Batching {
        max_events: number(
            "batch.max_events",
            asked.max_events,
            BATCH_EVENTS,
            events_max,
        )?,
        max_bytes: number(
            "batch.max_bytes",
            asked.max_bytes,
            BATCH_BYTES,
            BATCH_BYTES_MAX,
        )?,
        max_delay: bounded("batch.max_delay", asked.max_delay, BATCH_DELAY_MAX)?,
    })
}

/// A duration from 0, the default, to a limit.
fn bounded(
    field: &str,
    asked: Option<pbjson_types::Duration>,
    most: Duration,
) -> Result<Duration, Status> {
    match asked.map(Duration::try_from) {
        None => Ok(Duration::ZERO),
        Some(Ok(asked)) if asked <= most => Ok(asked),
        Some(_) => Err(status::field_invalid(
            field,
            format!("must be between 0 and {} s", most.as_secs()),
        )),
    }
}

impl NamedService for Events {
    const NAME: &'static str = "wagate.v1.EventService";
}

impl tower::Service<http::Request<Body>> for Events {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let service = self.clone();
        Box::pin(async move {
            Ok(match request.uri().path() {
                "/wagate.v1.EventService/Subscribe" => {
                    let call = tower::service_fn(|request| service.clone().subscribe(request));
                    grpc().server_streaming(call, request).await
                }
                "/wagate.v1.EventService/ListEvents" => {
                    let call = tower::service_fn(|request| service.clone().list_events(request));
                    grpc().unary(call, request).await
                }
                "/wagate.v1.EventService/GetEvent" => {
                    let call = tower::service_fn(|request| service.clone().get_event(request));
                    grpc().unary(call, request).await
                }
                "/wagate.v1.EventService/GetEventLogInfo" => {
                    let call =
                        tower::service_fn(|request| service.clone().get_event_log_info(request));
                    grpc().unary(call, request).await
                }
                path => status::method_unknown(path).into_http(),
            })
        })
    }
}

fn grpc<Req: Message + Default + 'static>() -> Grpc<Encoded<Req>> {
    Grpc::new(Encoded::default())
        .accept_compressed(CompressionEncoding::Gzip)
        .send_compressed(CompressionEncoding::Gzip)
}
