//! What `wagate sandbox` shows: an account pairs, a message arrives, an answer goes out.
//!
//! Owns the script of that conversation. Does nothing that a user could not do with grpcurl: it talks
//! to the server that was just started, over gRPC.

use tonic::{Code, Streaming};

use super::{connection::Gateway, failure::Failure, format, output::Output};
use crate::proto::{
    sandbox_v1::{self, Phone},
    v1::{
        self, InstanceState, event::Payload, message_content::Content,
        pair_instance_response::Step, subscribe_response::Frame,
    },
};

/// The instance of the demonstration.
pub const INSTANCE: &str = "demo";

const GREETING: &str = "Hello from Bob's phone!";

/// Plays the conversation, then prints events for ever. `hint` is what to try next.
pub async fn run(
    gateway: &Gateway,
    output: &mut Output,
    hint: impl FnOnce(&Phone) -> String,
) -> Result<(), Failure> {
    let request = v1::SubscribeRequest {
        client_id: "wagate-demo".to_owned(),
        ..Default::default()
    };
    let stream = gateway.events().subscribe(request).await?.into_inner();
    let mut events = Events { stream, output };
    events.opened().await?;

    let (owner, peer) = phones(gateway, &mut events).await?;
    let instance = open_instance(gateway, &mut events, &owner).await?;
    // A user may have paired it with another phone, even the one that is to write.
    let peer = match instance.phone_number == peer.number {
        true => owner,
        false => peer,
    };

    events.say(&format!("{}'s phone writes to {INSTANCE}", peer.push_name))?;
    gateway
        .sandbox()
        .send_text(sandbox_v1::SendTextRequest {
            phone: peer.number.clone(),
            to: instance.phone_number,
            text: GREETING.to_owned(),
            ..Default::default()
        })
        .await?;
    let greeting = events
        .until(|event| match &event.payload {
            Some(Payload::MessageReceived(received)) if event.instance == instance.id => {
                received.message.clone()
            }
            _ => None,
        })
        .await?;

    events.say(&format!("{INSTANCE} echoes it with SendMessage"))?;
    let text = match greeting.content.and_then(|content| content.content) {
        Some(Content::Text(text)) => text.text,
        _ => GREETING.to_owned(),
    };
    let request = v1::SendMessageRequest {
        instance: INSTANCE.to_owned(),
        recipient: greeting.chat.map(|chat| chat.id).unwrap_or_default(),
        content: Some(v1::send_message_request::Content::Text(v1::TextContent {
            text: format!("You said: {text}"),
            link_preview: None,
        })),
        ..Default::default()
    };
    let answer = gateway.messages().send_message(request).await?.into_inner();
    let id = answer.message.map(|message| message.id).unwrap_or_default();
    events
        .until(|event| match &event.payload {
            Some(Payload::MessageStatus(update))
                if event.instance == instance.id && update.message_id == id =>
            {
                (update.status() >= v1::MessageStatus::Received).then_some(())
            }
            _ => None,
        })
        .await?;
    let seen = shown(gateway, &peer, &id).await?;
    events.say(&format!(
        "{}'s phone shows: {}",
        peer.push_name,
        format::plain(&seen)
    ))?;

    let hint = hint(&peer);
    events.output.line(&hint)?;
    events.rest().await
}

/// The instance, paired if it has to be, and open.
async fn open_instance(
    gateway: &Gateway,
    events: &mut Events<'_>,
    owner: &Phone,
) -> Result<v1::Instance, Failure> {
    use InstanceState::{Connecting, LoggedOut, Open, Pairing, Unpaired};
    let mut instance = found_or_created(gateway).await?;
    if matches!(instance.state(), Unpaired | LoggedOut | Pairing) {
        pair(gateway, events, owner).await?;
        instance = found_or_created(gateway).await?;
    }
    // The state decides, an event only says when to ask again: a state is committed before its event
    // is streamed, and the stream was opened before. So what comes after an answer is news.
    loop {
        match instance.state() {
            Open => return Ok(instance),
            Connecting => {}
            state => return Err(not_open(state)),
        }
        events
            .until(|event| match &event.payload {
                Some(Payload::ConnectionUpdated(_)) if event.instance == instance.id => Some(()),
                _ => None,
            })
            .await?;
        instance = found_or_created(gateway).await?;
    }
}

fn not_open(state: InstanceState) -> Failure {
    let state = format::state(state);
    Failure::Outcome(format!(
        "the demonstration needs instance {INSTANCE} to be open, but it is {state}: \
         `wagate instance show {INSTANCE}` tells why, `wagate instance connect {INSTANCE}` tries again"
    ))
}

/// Two phones: those of an earlier run, or new ones.
async fn phones(gateway: &Gateway, events: &mut Events<'_>) -> Result<(Phone, Phone), Failure> {
    let mut sandbox = gateway.sandbox();
    let known = sandbox
        .list_phones(sandbox_v1::ListPhonesRequest {})
        .await?;
    let mut known = known.into_inner().phones.into_iter();
    let mut phones = Vec::new();
    for name in ["Alice", "Bob"] {
        if let Some(phone) = known.find(|phone| phone.push_name == name) {
            phones.push(phone);
            continue;
        }
        let request = sandbox_v1::CreatePhoneRequest {
            push_name: name.to_owned(),
            ..Default::default()
        };
        let created = sandbox.create_phone(request).await?.into_inner().phone;
        let phone =
            created.ok_or_else(|| Failure::Outcome("the sandbox created no phone".into()))?;
        events.say(&format!("created {name}'s phone, number {}", phone.number))?;
        phones.push(phone);
    }
    match <[Phone; 2]>::try_from(phones) {
        Ok([owner, peer]) => Ok((owner, peer)),
        Err(_) => Err(Failure::Outcome("the sandbox has too few phones".into())),
    }
}

async fn found_or_created(gateway: &Gateway) -> Result<v1::Instance, Failure> {
    let request = v1::GetInstanceRequest {
        instance: INSTANCE.to_owned(),
    };
    let instance = match gateway.instances().get_instance(request).await {
        Ok(found) => found.into_inner().instance,
        Err(status) if status.code() == Code::NotFound => {
            let request = v1::CreateInstanceRequest {
                name: INSTANCE.to_owned(),
                network: v1::Network::Sandbox.into(),
                ..Default::default()
            };
            let created = gateway.instances().create_instance(request).await?;
            created.into_inner().instance
        }
        Err(status) => return Err(status.into()),
    };
    Ok(instance.unwrap_or_default())
}

async fn pair(gateway: &Gateway, events: &mut Events<'_>, owner: &Phone) -> Result<(), Failure> {
    let request = v1::PairInstanceRequest {
        instance: INSTANCE.to_owned(),
        ..Default::default()
    };
    let mut steps = gateway
        .instances()
        .pair_instance(request)
        .await?
        .into_inner();
    loop {
        let response = tokio::select! {
            response = steps.message() => response?,
            printed = events.batch() => {
                printed?;
                continue;
            }
        };
        match response.and_then(|response| response.step) {
            Some(Step::QrCode(code)) => {
                events.say(&format!("{}'s phone scans the QR", owner.push_name))?;
                gateway
                    .sandbox()
                    .scan_qr(sandbox_v1::ScanQrRequest {
                        phone: owner.number.clone(),
                        qr: code.text,
                    })
                    .await?;
            }
            Some(Step::Paired(_)) => return Ok(()),
            Some(Step::Refused(refused)) => return Err(Failure::Outcome(refused.detail)),
            Some(Step::Expired(_)) | None => break,
            Some(Step::PairingCode(_)) => {}
        }
    }
    Err(Failure::Outcome("the pairing did not end well".into()))
}

/// The text of a message as a phone has it.
async fn shown(gateway: &Gateway, phone: &Phone, id: &str) -> Result<String, Failure> {
    let request = sandbox_v1::StreamInboxRequest {
        phone: phone.number.clone(),
        after_sequence: 0,
    };
    let mut inbox = gateway.sandbox().stream_inbox(request).await?.into_inner();
    while let Some(response) = inbox.message().await? {
        match response.message {
            Some(message) if message.id == id => return Ok(message.text),
            _ => {}
        }
    }
    Err(Failure::Outcome("the phone never saw the answer".into()))
}

/// The stream of events, printed as it passes.
struct Events<'a> {
    stream: Streaming<v1::SubscribeResponse>,
    output: &'a mut Output,
}

impl Events<'_> {
    fn say(&mut self, text: &str) -> Result<(), Failure> {
        self.output.line(&format!("  - {text}"))
    }

    async fn opened(&mut self) -> Result<(), Failure> {
        self.batch().await.map(drop)
    }

    /// The next frame's events, printed; none where it has none.
    async fn batch(&mut self) -> Result<Vec<v1::Event>, Failure> {
        let ended = || Failure::Outcome("the stream of events ended".into());
        let frame = self.stream.message().await?.ok_or_else(ended)?;
        let Some(Frame::Batch(batch)) = frame.frame else {
            return Ok(Vec::new());
        };
        for event in &batch.events {
            self.output.show(event, format::event)?;
        }
        Ok(batch.events)
    }

    /// Prints on until an event is the one.
    async fn until<T>(
        &mut self,
        mut wanted: impl FnMut(&v1::Event) -> Option<T>,
    ) -> Result<T, Failure> {
        loop {
            // The rest of the batch is printed already and nobody waits for it.
            if let Some(found) = self.batch().await?.iter().find_map(&mut wanted) {
                return Ok(found);
            }
        }
    }

    async fn rest(&mut self) -> Result<(), Failure> {
        loop {
            self.batch().await?;
        }
    }
}
