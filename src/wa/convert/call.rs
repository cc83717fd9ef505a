//! What WhatsApp says of calls, and how far a call may go.

use std::time::{Duration, SystemTime};

use whatsapp_rust::{
    Jid,
    wacore::types::call::{CallAction, IncomingCall, MissedCall},
};

use super::{NAME_BYTES, label};
use crate::proto::v1::CallState;

/// The reasons of an end that say how it came about.
const ANSWERED: &str = "accepted_elsewhere";
const REJECTED: &str = "rejected_elsewhere";
const RANG_OUT: &str = "timeout";

/// The reason of a device that can't take the call: its owner may, on another one.
const BUSY: &str = "busy";

/// Something that was said of a call.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    /// WhatsApp's id of the call.
    pub call_id: String,
    /// Who said it: whom an answer goes to.
    pub peer: Jid,
    /// The device that calls.
    pub creator: Jid,
    /// The caller's number, where it was said beside the hidden identity.
    pub number: Option<Jid>,
    /// The caller's display name; may be empty.
    pub name: String,
    /// When.
    pub time: SystemTime,
    /// What.
    pub news: News,
}

/// What was said.
#[derive(Clone, Debug, PartialEq)]
pub enum News {
    /// Somebody calls.
    Offer(Offer),
    /// It was answered, rejected, or rang out.
    Decided(CallState),
    /// It is over, answered or not; perhaps with how long it was talked.
    Over(Option<Duration>),
}

/// A call as it is offered.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Offer {
    /// With pictures.
    pub video: bool,
    /// To several people.
    pub group: bool,
    /// Their group, where it is said.
    pub group_id: Option<Jid>,
    /// It waited for the account to come back: it does not ring any more.
    pub waited: bool,
}

/// What a stanza says of a call; `None` where it says nothing new, or nothing that can be kept.
pub fn told(call: &IncomingCall) -> Option<Told> {
    let mut number = None;
    let news = match &call.action {
        CallAction::Offer {
            caller_pn,
            is_video,
            group_jid,
            ..
        } => {
            number = caller_pn.clone();
            News::Offer(Offer {
                video: *is_video,
                group: group_jid.is_some() || call.group.is_some(),
                group_id: group_jid.as_ref().map(Jid::to_non_ad),
                waited: call.offline,
            })
        }
        CallAction::OfferNotice {
            is_video, is_group, ..
        } => News::Offer(Offer {
            video: *is_video,
            group: *is_group,
            group_id: None,
            waited: call.offline,
        }),
        CallAction::Accept { .. } => News::Decided(CallState::Accept),
        CallAction::Reject { reason, .. } if reason.as_deref() == Some(BUSY) => return None,
        CallAction::Reject { .. } => News::Decided(CallState::Reject),
        CallAction::Terminate {
            reason,
            duration,
            audio_duration,
            ..
        } => match reason.as_deref() {
            Some(ANSWERED) => News::Decided(CallState::Accept),
            Some(REJECTED) => News::Decided(CallState::Reject),
            Some(RANG_OUT) => News::Decided(CallState::Timeout),
            _ => {
                let seconds = duration.or(*audio_duration);
                News::Over(seconds.map(|seconds| Duration::from_secs(seconds.into())))
            }
        },
        // How a call is carried is between those who talk.
        _ => return None,
    };
    kept(Told {
        call_id: call.action.call_id().to_owned(),
        peer: call.from.clone(),
        creator: call.action.call_creator().clone(),
        number,
        name: label(call.notify.as_deref().unwrap_or_default()).into_owned(),
        time: call.timestamp.into(),
        news,
    })
}

/// A call that waited for the account, in the library's words: less than its stanza says.
pub fn missed(call: &MissedCall) -> Option<Told> {
    kept(Told {
        call_id: call.call_id.clone(),
        peer: call.from.clone(),
        creator: call.from.clone(),
        number: None,
        name: String::new(),
        time: call.timestamp.into(),
        news: News::Offer(Offer {
            waited: true,
            ..Offer::default()
        }),
    })
}

/// What is named as honest servers name it.
fn kept(told: Told) -> Option<Told> {
    let person = told.creator.is_pn() || told.creator.is_lid();
    let short = [&*told.peer.user, &*told.creator.user, &*told.call_id]
        .into_iter()
        .all(|name| (1..=NAME_BYTES).contains(&name.len()));
    (person && short).then_some(told)
}

/// Whether a call in one state may enter the other. It only goes forward, so no state is entered twice.
pub fn may_become(from: CallState, to: CallState) -> bool {
    use CallState::{Accept, Ended, Offer, Reject, Ringing, Timeout, Unspecified};
    match from {
        Unspecified => !matches!(to, Unspecified | Ringing | Ended),
        Offer => !matches!(to, Unspecified | Offer | Ended),
        Ringing => !matches!(to, Unspecified | Offer | Ringing | Ended),
        Accept => to == Ended,
        Reject | Timeout | CallState::Missed | Ended => false,
    }
}

/// Whether the end of a call in this state is still to be told.
pub fn is_open(state: CallState) -> bool {
    may_become(state, CallState::Timeout)
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    const STATES: [CallState; 8] = [
        CallState::Unspecified,
        CallState::Offer,
        CallState::Ringing,
        CallState::Accept,
        CallState::Reject,
        CallState::Timeout,
        CallState::Missed,
        CallState::Ended,
    ];

    fn call(action: CallAction) -> IncomingCall {
        IncomingCall::builder()
            .from(Jid::lid("900001"))
            .stanza_id("1".to_owned())
            .maybe_notify(Some("Ada".to_owned()))
            .timestamp(UNIX_EPOCH.into())
            .offline(false)
            .action(action)
            .build()
    }

    fn offer(is_video: bool, group_jid: Option<Jid>) -> CallAction {
        CallAction::Offer {
            call_id: "C".to_owned(),
            call_creator: Jid::lid("900001").with_device(3),
            caller_pn: Some(Jid::pn("15550001111")),
            caller_country_code: None,
            device_class: None,
            joinable: false,
            is_video,
            audio: Vec::new(),
            group_jid,
        }
    }

    fn end(reason: Option<&str>, duration: Option<u32>) -> CallAction {
        CallAction::Terminate {
            call_id: "C".to_owned(),
            call_creator: Jid::lid("900001"),
            reason: reason.map(str::to_owned),
            duration,
            audio_duration: None,
        }
    }

    fn news(action: CallAction) -> Option<News> {
        told(&call(action)).map(|told| told.news)
    }

    #[test]
    fn an_offer_says_who_calls_and_how() {
        let group = Jid::group("1203630001");
        let said = told(&call(offer(true, Some(group.clone())))).unwrap();
        assert_eq!(said.call_id, "C");
        assert_eq!(said.creator, Jid::lid("900001").with_device(3));
        assert_eq!(said.number, Some(Jid::pn("15550001111")));
        assert_eq!(said.name, "Ada");
        let offer = Offer {
            video: true,
            group: true,
            group_id: Some(group),
            waited: false,
        };
        assert_eq!(said.news, News::Offer(offer));
    }

    #[test]
    fn an_end_says_how_it_came_about() {
        let decided = |state| Some(News::Decided(state));
        assert_eq!(news(end(Some(ANSWERED), None)), decided(CallState::Accept));
        assert_eq!(news(end(Some(REJECTED), None)), decided(CallState::Reject));
        assert_eq!(news(end(Some(RANG_OUT), None)), decided(CallState::Timeout));
        for reason in [None, Some("group_call_ended"), Some("whatever comes next")] {
            assert_eq!(news(end(reason, None)), Some(News::Over(None)));
        }
        let minute = Duration::from_secs(60);
        assert_eq!(news(end(None, Some(60))), Some(News::Over(Some(minute))));
        let busy = CallAction::Reject {
            call_id: "C".to_owned(),
            call_creator: Jid::lid("900001"),
            reason: Some(BUSY.to_owned()),
        };
        assert_eq!(news(busy), None);
    }

    #[test]
    fn what_no_honest_server_says_is_not_kept() {
        let mut nameless = call(offer(false, None));
        nameless.from = Jid::pn("");
        assert_eq!(told(&nameless), None);
        let endless = CallAction::Accept {
            call_id: "C".repeat(NAME_BYTES + 1),
            call_creator: Jid::lid("900001"),
            audio: Vec::new(),
        };
        assert_eq!(news(endless), None);
        let strange = CallAction::Accept {
            call_id: "C".to_owned(),
            call_creator: Jid::group("1203630001"),
            audio: Vec::new(),
        };
        assert_eq!(news(strange), None);
    }

    #[test]
    fn a_call_enters_each_state_once() {
        fn walk(path: &mut Vec<CallState>) {
            let last = path[path.len() - 1];
            for next in STATES.into_iter().filter(|next| may_become(last, *next)) {
                assert!(!path.contains(&next), "{path:?} and again {next:?}");
                path.push(next);
                walk(path);
                path.pop();
            }
        }
        walk(&mut vec![CallState::Unspecified]);
        let open = STATES.into_iter().filter(|state| is_open(*state));
        assert_eq!(open.collect::<Vec<_>>(), STATES[..3]);
    }
}
