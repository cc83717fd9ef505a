//! Where media are left and fetched.

use wacore::{
    iq::mediaconn::{HostType, MediaConnHostExtended, MediaConnResponseExtended},
    protocol::ProtocolNode as _,
};
use wacore_binary::Node;

use crate::sandbox::network::State;

/// Seconds for which the answer holds.
const TTL: u64 = 3_600;

/// One host for everything.
pub(super) fn connection(state: &State) -> Vec<Node> {
    let mut host =
        MediaConnHostExtended::simple(state.media.authority().to_owned(), HostType::Primary);
    host.upload = true;
    host.download = true;
    let auth = state.media.auth().to_owned();
    vec![MediaConnResponseExtended::mock(auth, TTL, vec![host]).into_node()]
}
