//! Signatures that bind a device to its account: the phone's over the device, the device's over both, and the
//! phone's list of the devices that are still valid. Pure.

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use wacore_libsignal::protocol::{KeyPair, PublicKey};
use waproto::{
    buffa::Message as _,
    whatsapp::{
        ADVDeviceIdentity, ADVKeyIndexList, ADVSignedDeviceIdentity, ADVSignedDeviceIdentityHMAC,
        ADVSignedKeyIndexList,
    },
};

use crate::sandbox::{
    error::SandboxError,
    keys::{public_bytes, random},
    model::Account,
    wire,
};

/// Linked devices per account, as on the real network.
pub(super) const MAX_COMPANIONS: usize = 4;

const ACCOUNT_SIGNATURE: [u8; 2] = [6, 0];
const DEVICE_SIGNATURE: [u8; 2] = [6, 1];
const KEY_INDEX_LIST: [u8; 2] = [6, 2];

fn sign(key: &KeyPair, message: &[u8]) -> Result<Vec<u8>, SandboxError> {
    key.private_key
        .calculate_signature(message, &mut random())
        .map(|signature| signature.to_vec())
        .map_err(SandboxError::crypto)
}

/// The phone vouches for a device; only who knows the secret of the QR code can check that it came from the phone.
pub(super) fn sign_device(
    phone: &KeyPair,
    raw_id: u32,
    key_index: u32,
    identity: &[u8; 32],
    secret: &[u8; 32],
) -> Result<Vec<u8>, SandboxError> {
    let details = ADVDeviceIdentity {
        raw_id: Some(raw_id),
        timestamp: Some(wire::now()),
        key_index: Some(key_index),
        ..Default::default()
    }
    .encode_to_vec();
    let message = [&ACCOUNT_SIGNATURE[..], &details, identity].concat();
    let signed = ADVSignedDeviceIdentity {
        account_signature: Some(sign(phone, &message)?),
        account_signature_key: Some(public_bytes(&phone.public_key).to_vec()),
        details: Some(details),
        ..Default::default()
    }
    .encode_to_vec();
    let mut hmac = Hmac::<Sha256>::new_from_slice(secret).map_err(SandboxError::crypto)?;
    hmac.update(&signed);
    Ok(ADVSignedDeviceIdentityHMAC {
        hmac: Some(hmac.finalize().into_bytes().to_vec()),
        details: Some(signed),
        ..Default::default()
    }
    .encode_to_vec())
}

/// The finished identity of a device, if both signatures hold. Some clients leave out the account's key.
pub(super) fn verify_device(
    mut signed: ADVSignedDeviceIdentity,
    identity: &[u8; 32],
    account_key: &[u8; 32],
) -> Option<Vec<u8>> {
    let key = |bytes: &[u8; 32]| PublicKey::from_djb_public_key_bytes(bytes).ok();
    let details = signed.details.as_deref()?;
    let by_account = [&ACCOUNT_SIGNATURE[..], details, identity].concat();
    let by_device = [&DEVICE_SIGNATURE[..], details, identity, account_key].concat();
    let holds = key(account_key)?
        .verify_signature(&by_account, signed.account_signature.as_deref()?)
        && key(identity)?.verify_signature(&by_device, signed.device_signature.as_deref()?);
    signed.account_signature_key = Some(account_key.to_vec());
    holds.then(|| signed.encode_to_vec())
}

/// The list of an account's valid devices.
pub fn sign_key_indexes(phone: &KeyPair, account: &Account) -> Result<Vec<u8>, SandboxError> {
    let details = ADVKeyIndexList {
        raw_id: Some(account.adv_raw_id),
        timestamp: Some(account.key_index_time),
        current_index: Some(account.next_key_index.saturating_sub(1)),
        valid_indexes: account
            .devices
            .values()
            .map(|device| device.key_index)
            .collect(),
        ..Default::default()
    }
    .encode_to_vec();
    let signature = sign(phone, &[&KEY_INDEX_LIST[..], &details].concat())?;
    Ok(ADVSignedKeyIndexList {
        account_signature: Some(signature),
        account_signature_key: Some(public_bytes(&phone.public_key).to_vec()),
        details: Some(details),
    }
    .encode_to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use wacore::pair::{DeviceState, PairUtils};

    #[test]
    fn a_client_accepts_our_signature_and_we_accept_its() {
        let [phone, identity_key, noise_key] = [(); 3].map(|()| KeyPair::generate(&mut random()));
        let identity = public_bytes(&identity_key.public_key);
        let client = DeviceState {
            identity_key,
            noise_key,
            adv_secret_key: [9; 32],
        };
        let container = sign_device(&phone, 7, 3, &identity, &[9; 32]).unwrap();
        let (answer, key_index) = PairUtils::do_pair_crypto(&client, &container).unwrap();
        assert_eq!(key_index, 3);
        let account_key = public_bytes(&phone.public_key);
        let answer = ADVSignedDeviceIdentity::decode_from_slice(&answer).unwrap();
        assert!(verify_device(answer.clone(), &[1; 32], &account_key).is_none());
        let whole = verify_device(answer, &identity, &account_key).unwrap();
        assert_eq!(
            wacore::adv::validate_adv_with_identity_key(&whole, &identity, None),
            wacore::adv::AdvValidation::Valid
        );

        let wrong_secret = sign_device(&phone, 7, 3, &identity, &[8; 32]).unwrap();
        assert_eq!(
            PairUtils::do_pair_crypto(&client, &wrong_secret)
                .unwrap_err()
                .code,
            401
        );
    }
}
