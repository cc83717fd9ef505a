//! Pairing by code: both sides prove they know the eight characters and derive the ADV secret from the exchange.

use hkdf::Hkdf;
use sha2::Sha256;
use tokio::sync::oneshot;
use wacore::pair_code::PairCodeUtils;
use wacore_binary::{Node, builder::NodeBuilder};
use wacore_libsignal::{
    crypto::aes_256_gcm_decrypt,
    protocol::{KeyPair, PublicKey},
};

use super::{Companion, answered};
use crate::sandbox::{
    address::{DeviceAddress, Number},
    error::SandboxError,
    keys::{public_bytes, random, random_bytes},
    network::{ConnectionId, Network, State},
    wire::{self, WireError},
};

const BUNDLE_KEY: &[u8] = b"link_code_pairing_key_bundle_encryption_key";
const ADV_SECRET: &[u8] = b"adv_secret";

/// salt 32, iv 12, then the encrypted bundle of three times 32 bytes and its tag.
const BUNDLE: usize = 32 + 12 + 96 + 16;

/// A connection that shows a pairing code.
pub struct CodeRequest {
    number: Number,
    reference: Vec<u8>,
    /// The companion's ephemeral key under the code.
    wrapped: [u8; 80],
    finish: Option<oneshot::Sender<Finish>>,
}

struct Finish {
    bundle: [u8; BUNDLE],
    identity: [u8; 32],
}

impl State {
    /// `companion_hello` and `companion_finish` of a waiting connection.
    pub(super) fn handle_code_request(
        &mut self,
        connection: ConnectionId,
        request: &Node,
    ) -> Result<Vec<Node>, WireError> {
        match wire::text(request, "stage").as_deref() {
            Some("companion_hello") => self.companion_hello(connection, request),
            Some("companion_finish") => self.companion_finish(connection, request),
            _ => Err(WireError::BAD_REQUEST),
        }
    }

    fn companion_hello(
        &mut self,
        connection: ConnectionId,
        request: &Node,
    ) -> Result<Vec<Node>, WireError> {
        let jid = wire::jid(request, "jid").ok_or(WireError::BAD_REQUEST)?;
        let wrapped =
            wire::child_array(request, "link_code_pairing_wrapped_companion_ephemeral_pub")
                .ok_or(WireError::BAD_REQUEST)?;
        // Not a bad request: clients take that for being throttled and try again.
        let (account, _) = self.account_of(&jid).ok_or(WireError::FORBIDDEN)?;
        let number = account.number;
        let pairing = self
            .pairings
            .get_mut(&connection)
            .ok_or(WireError::BAD_REQUEST)?;
        if wire::child_array(request, "companion_server_auth_key_pub") != Some(pairing.noise_key) {
            return Err(WireError::BAD_REQUEST);
        }
        let reference = random_bytes::<32>().to_vec();
        pairing.code = Some(CodeRequest {
            number,
            reference: reference.clone(),
            wrapped,
            finish: None,
        });
        let reply = NodeBuilder::new("link_code_companion_reg")
            .attr("stage", "companion_hello")
            .children([wire::leaf("link_code_pairing_ref", reference)]);
        Ok(vec![reply.build()])
    }

    fn companion_finish(
        &mut self,
        connection: ConnectionId,
        request: &Node,
    ) -> Result<Vec<Node>, WireError> {
        let code = self
            .pairings
            .get_mut(&connection)
            .and_then(|pairing| pairing.code.as_mut());
        let code = code.ok_or(WireError::BAD_REQUEST)?;
        if wire::child_bytes(request, "link_code_pairing_ref") != Some(&code.reference) {
            return Err(WireError::BAD_REQUEST);
        }
        let bundle = wire::child_array(request, "link_code_pairing_wrapped_key_bundle");
        let identity = wire::child_array(request, "companion_identity_public");
        let (Some(bundle), Some(identity), Some(finish)) = (bundle, identity, code.finish.take())
        else {
            return Err(WireError::BAD_REQUEST);
        };
        let _ = finish.send(Finish { bundle, identity });
        Ok(Vec::new())
    }

    /// The newest connection that shows a code for this number.
    fn waiting_code(&self, number: Number) -> Option<(ConnectionId, [u8; 80])> {
        self.pairings
            .iter()
            .filter_map(|(connection, pairing)| {
                let code = pairing.code.as_ref().filter(|code| code.number == number)?;
                Some((*connection, code.wrapped))
            })
            .max_by_key(|(connection, _)| *connection)
    }

    /// Sends `primary_hello`; the companion's answer comes by the returned channel.
    fn primary_hello(
        &mut self,
        connection: ConnectionId,
        wrapped: [u8; 80],
        phone_identity: [u8; 32],
    ) -> Result<oneshot::Receiver<Finish>, SandboxError> {
        let id = self.fresh_id();
        let gone = SandboxError::NothingToPair { field: "code" };
        let pairing = self.pairings.get_mut(&connection).ok_or(gone)?;
        let line = pairing.line.clone();
        let code = pairing
            .code
            .as_mut()
            .ok_or(SandboxError::NothingToPair { field: "code" })?;
        let (finish, finished) = oneshot::channel();
        code.finish = Some(finish);
        let hello = NodeBuilder::new("link_code_companion_reg")
            .attr("stage", "primary_hello")
            .children([
                wire::leaf("link_code_pairing_wrapped_primary_ephemeral_pub", wrapped),
                wire::leaf("primary_identity_pub", phone_identity),
                wire::leaf("link_code_pairing_ref", code.reference.clone()),
            ])
            .build();
        let notification =
            wire::notification("link_code_companion_reg", wire::server(), &id, vec![hello]).build();
        self.transmit(&line, DeviceAddress::UNREGISTERED, notification);
        Ok(finished)
    }
}

impl Network {
    pub(super) async fn exchange_code(
        &self,
        number: Number,
        code: &str,
    ) -> Result<Companion, SandboxError> {
        let code = code.replace(['-', ' '], "").to_ascii_uppercase();
        if !PairCodeUtils::validate_code(&code) {
            return Err(SandboxError::invalid(
                "code",
                "expected 8 letters and digits without 0, I, O and U",
            ));
        }
        let (phone, waiting) = {
            let state = self.lock();
            let phone = state.phones.get(&number).cloned();
            (
                phone.ok_or(SandboxError::NoSuchPhone(number))?,
                state.waiting_code(number),
            )
        };
        let (connection, wrapped) = waiting.ok_or(SandboxError::NothingToPair { field: "code" })?;
        let ephemeral = KeyPair::generate(&mut random());
        let ephemeral_public = public_bytes(&ephemeral.public_key);
        // Twice 131,072 rounds of hashing: not on a thread that serves others.
        let (companion_ephemeral, wrapped) = tokio::task::spawn_blocking(move || {
            let companion = PairCodeUtils::decrypt_primary_ephemeral_pub(&wrapped, &code);
            (
                companion,
                PairCodeUtils::encrypt_ephemeral_pub(&ephemeral_public, &code),
            )
        })
        .await
        .map_err(SandboxError::crypto)?;
        let companion_ephemeral = companion_ephemeral.map_err(SandboxError::crypto)?;

        let finished = self.lock().primary_hello(
            connection,
            wrapped,
            public_bytes(&phone.identity().public_key),
        )?;
        let finish = answered(finished).await?;
        let adv_secret = open_bundle(&phone.identity(), &ephemeral, &companion_ephemeral, &finish)
            .ok_or(SandboxError::WrongCode)?;
        Ok(Companion {
            connection,
            identity: finish.identity,
            adv_secret,
        })
    }
}

/// The ADV secret, if the companion used the same code.
fn open_bundle(
    phone: &KeyPair,
    ephemeral: &KeyPair,
    companion_ephemeral: &[u8; 32],
    finish: &Finish,
) -> Option<[u8; 32]> {
    let key = |bytes: &[u8]| PublicKey::from_djb_public_key_bytes(bytes).ok();
    let ephemeral_shared = ephemeral
        .calculate_agreement(&key(companion_ephemeral)?)
        .ok()?;
    let identity_shared = phone.calculate_agreement(&key(&finish.identity)?).ok()?;
    let (salt, rest) = finish.bundle.split_at(32);
    let (iv, sealed) = rest.split_at(12);
    let bundle_key = derive(Some(salt), &ephemeral_shared, BUNDLE_KEY)?;
    let mut bundle = Vec::new();
    aes_256_gcm_decrypt(&bundle_key, iv.try_into().ok()?, b"", sealed, &mut bundle).ok()?;
    let (identities, random) = bundle.split_at_checked(64)?;
    let expected = [finish.identity, public_bytes(&phone.public_key)].concat();
    if identities != expected {
        return None;
    }
    derive(
        None,
        &[&ephemeral_shared[..], &identity_shared, random].concat(),
        ADV_SECRET,
    )
}

fn derive(salt: Option<&[u8]>, secret: &[u8], info: &[u8]) -> Option<[u8; 32]> {
    let mut key = [0; 32];
    Hkdf::<Sha256>::new(salt, secret)
        .expand(info, &mut key)
        .ok()?;
    Some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_derive_the_same_secret() {
        let [phone, ephemeral, companion, companion_ephemeral] =
            [(); 4].map(|()| KeyPair::generate(&mut random()));
        let (bundle, secret) = PairCodeUtils::prepare_key_bundle(
            &companion_ephemeral,
            &public_bytes(&ephemeral.public_key),
            &public_bytes(&phone.public_key),
            &companion,
        )
        .unwrap();
        let finish = Finish {
            bundle: bundle.try_into().unwrap(),
            identity: public_bytes(&companion.public_key),
        };
        let open = |key: &KeyPair| {
            open_bundle(&phone, &ephemeral, &public_bytes(&key.public_key), &finish)
        };
        assert_eq!(open(&companion_ephemeral), Some(secret));
        // Who typed another code has decrypted another key.
        assert_eq!(open(&companion), None);
    }
}
