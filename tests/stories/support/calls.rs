//! What stories do with calls.

use std::time::Duration;

use prost_types::FieldMask;
use tonic::Status;
use wagate::{
    proto::{
        sandbox_v1::{
            AcceptCallRequest, EndCallRequest, ListCallsRequest, PhoneCall, PhoneCallState,
            RejectCallRequest, StartCallRequest,
        },
        v1::{self, CallState, event::Payload},
    },
    sandbox::Number,
};

use super::{Api, Watcher, within};

impl Api {
    /// A phone calls a person or a group; answers with the call's id.
    pub async fn call(&self, phone: Number, to: &str, video: bool) -> String {
        self.call_for(phone, to, video, Duration::from_secs(60))
            .await
    }

    /// The same, ringing only so long.
    pub async fn call_for(&self, phone: Number, to: &str, video: bool, ring: Duration) -> String {
        let request = StartCallRequest {
            phone: phone.to_string(),
            to: to.to_owned(),
            video,
            ring_time: Some(pbjson_types::Duration {
                seconds: ring.as_secs().try_into().unwrap(),
                nanos: ring.subsec_nanos().try_into().unwrap(),
            }),
        };
        let answer = self.sandbox().start_call(request).await.unwrap();
        answer.into_inner().call.unwrap().id
    }

    pub async fn phone_answers(&self, phone: Number, call: &str) -> Result<(), Status> {
        let request = AcceptCallRequest {
            phone: phone.to_string(),
            call_id: call.to_owned(),
        };
        self.sandbox().accept_call(request).await.map(drop)
    }

    pub async fn phone_rejects(&self, phone: Number, call: &str) -> Result<(), Status> {
        let request = RejectCallRequest {
            phone: phone.to_string(),
            call_id: call.to_owned(),
        };
        self.sandbox().reject_call(request).await.map(drop)
    }

    pub async fn phone_hangs_up(&self, phone: Number, call: &str) -> Result<(), Status> {
        let request = EndCallRequest {
            phone: phone.to_string(),
            call_id: call.to_owned(),
        };
        self.sandbox().end_call(request).await.map(drop)
    }

    /// Waits until a phone sees a call so.
    pub async fn until_phone_sees(
        &self,
        phone: Number,
        call: &str,
        state: PhoneCallState,
    ) -> PhoneCall {
        within(&format!("{state:?} at a phone"), async {
            loop {
                let request = ListCallsRequest {
                    phone: phone.to_string(),
                };
                let answer = self.sandbox().list_calls(request).await.unwrap();
                let calls = answer.into_inner().calls;
                let found = calls
                    .into_iter()
                    .find(|one| one.id == call && one.state() == state);
                if let Some(found) = found {
                    return found;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await
    }

    pub async fn reject(&self, instance: &str, call: &str) -> Result<v1::Call, Status> {
        let request = v1::RejectCallRequest {
            instance: instance.to_owned(),
            call_id: call.to_owned(),
            ..Default::default()
        };
        let answer = self.calls().reject_call(request).await?;
        Ok(answer.into_inner().call.unwrap())
    }

    /// Sets whether an instance rejects calls by itself, and the text to those who call.
    pub async fn reject_all(
        &self,
        instance: &str,
        reject_calls: bool,
        text: &str,
    ) -> Result<v1::Instance, Status> {
        let request = v1::UpdateInstanceRequest {
            instance: instance.to_owned(),
            reject_calls,
            reject_calls_text: text.to_owned(),
            update_mask: Some(FieldMask {
                paths: vec!["reject_calls".to_owned(), "reject_calls_text".to_owned()],
            }),
            ..Default::default()
        };
        let answer = self.instances().update_instance(request).await?;
        Ok(answer.into_inner().instance.unwrap())
    }
}

impl Watcher {
    /// Waits until a call has entered a state.
    pub async fn until_call(&mut self, instance: &str, call: &str, state: CallState) -> v1::Call {
        self.once(&format!("{state:?} of a call"), |event| {
            told(instance, call, event).filter(|call| call.state() == state)
        })
        .await
    }

    /// The states that were told of a call so far, in order.
    pub fn call_states(&self, instance: &str, call: &str) -> Vec<CallState> {
        let told = self
            .seen
            .iter()
            .filter_map(|event| told(instance, call, event));
        told.map(|call| call.state()).collect()
    }
}

fn told(instance: &str, call: &str, event: &v1::Event) -> Option<v1::Call> {
    match &event.payload {
        Some(Payload::CallUpdated(update)) if event.instance == instance => {
            update.call.clone().filter(|one| one.id == call)
        }
        _ => None,
    }
}
