//! The network's own long-lived keys: the Noise static key and the certificate chain that vouches for it.
//!
//! Owns their creation and their stored form. Never touches an account's keys.

use rand::{SeedableRng, rngs::StdRng};
use serde::{Deserialize, Serialize};
use wacore_libsignal::protocol::{KeyPair, PrivateKey, PublicKey};
use waproto::{
    buffa::{Message as _, MessageField},
    whatsapp::{CertChain, cert_chain::NoiseCertificate, cert_chain::noise_certificate::Details},
};

use super::{
    error::SandboxError,
    store::{Batch, Records, base64_bytes},
};

const RECORD: &str = "network/keys";

/// Certificates never expire while anybody could still be testing with them: 2100-01-01.
const NOT_AFTER: u64 = 4_102_444_800;

/// A generator for keys and signatures that may be held across an await.
pub fn random() -> StdRng {
    StdRng::from_rng(&mut rand::rng())
}

/// Random bytes.
pub fn random_bytes<const N: usize>() -> [u8; N] {
    rand::random()
}

/// The 32 bytes of a Curve25519 public key.
pub fn public_bytes(key: &PublicKey) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(key.public_key_bytes());
    bytes
}

/// A key pair as stored: the private half alone.
#[derive(Clone, Serialize, Deserialize)]
pub struct StoredKey(#[serde(with = "base64_bytes")] [u8; 32]);

impl StoredKey {
    /// The stored form of a pair.
    pub fn of(pair: &KeyPair) -> Self {
        Self(*pair.private_key.serialize())
    }

    /// The pair.
    pub fn pair(&self) -> Result<KeyPair, SandboxError> {
        let private_key = PrivateKey::deserialize(&self.0).map_err(SandboxError::crypto)?;
        let public_key = private_key.public_key().map_err(SandboxError::crypto)?;
        Ok(KeyPair::new(public_key, private_key))
    }
}

#[derive(Serialize, Deserialize)]
struct Stored {
    static_key: StoredKey,
    #[serde(with = "base64_bytes")]
    root_public: [u8; 32],
    #[serde(with = "base64_bytes")]
    chain: Vec<u8>,
}

/// What the listener proves itself with.
pub struct NetworkKeys {
    /// The Noise static key. Clients that resume by IK trust exactly this one.
    pub static_pair: KeyPair,
    /// The public half of the root that signed the chain.
    pub root_public: [u8; 32],
    /// The encoded `CertChain`.
    pub chain: Vec<u8>,
}

impl NetworkKeys {
    /// The stored keys, or new ones.
    pub fn load(records: &Records, batch: &mut Batch) -> Result<Self, SandboxError> {
        if let Some(stored) = records.get::<Stored>(RECORD)? {
            return Ok(Self {
                static_pair: stored.static_key.pair()?,
                root_public: stored.root_public,
                chain: stored.chain,
            });
        }
        let keys = Self::generate()?;
        batch.put(
            RECORD,
            &Stored {
                static_key: StoredKey::of(&keys.static_pair),
                root_public: keys.root_public,
                chain: keys.chain.clone(),
            },
        );
        Ok(keys)
    }

    /// Root signs intermediate, intermediate signs the static key. The two issuers are not needed again.
    pub fn generate() -> Result<Self, SandboxError> {
        let mut random = random();
        let [root, intermediate, static_pair] = [(); 3].map(|()| KeyPair::generate(&mut random));
        let mut certificate = |serial, issuer_serial, subject: &KeyPair, issuer: &KeyPair| {
            let details = Details {
                serial: Some(serial),
                issuer_serial: Some(issuer_serial),
                key: Some(public_bytes(&subject.public_key).to_vec()),
                not_before: Some(0),
                not_after: Some(NOT_AFTER),
            }
            .encode_to_vec();
            let signature = issuer
                .private_key
                .calculate_signature(&details, &mut random)
                .map_err(SandboxError::crypto)?;
            Ok::<_, SandboxError>(NoiseCertificate {
                details: Some(details),
                signature: Some(signature.to_vec()),
            })
        };
        let chain = CertChain {
            leaf: MessageField::some(certificate(2, 1, &static_pair, &intermediate)?),
            intermediate: MessageField::some(certificate(1, 0, &intermediate, &root)?),
        };
        Ok(Self {
            root_public: public_bytes(&root.public_key),
            chain: chain.encode_to_vec(),
            static_pair,
        })
    }

    /// The public half of the static key.
    pub fn static_public(&self) -> [u8; 32] {
        public_bytes(&self.static_pair.public_key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chain_verifies_from_the_root_to_the_static_key() {
        let keys = NetworkKeys::generate().unwrap();
        let chain = CertChain::decode_from_slice(&keys.chain).unwrap();
        let (leaf, intermediate) = (&chain.leaf, &chain.intermediate);
        let signed_by = |issuer: &[u8], certificate: &NoiseCertificate| {
            PublicKey::from_djb_public_key_bytes(issuer)
                .unwrap()
                .verify_signature(
                    certificate.details.as_deref().unwrap(),
                    certificate.signature.as_deref().unwrap(),
                )
        };
        let subject = Details::decode_from_slice(intermediate.details.as_deref().unwrap())
            .unwrap()
            .key
            .unwrap();
        assert!(signed_by(&keys.root_public, intermediate));
        assert!(signed_by(&subject, leaf));
        let leaf = Details::decode_from_slice(leaf.details.as_deref().unwrap()).unwrap();
        assert_eq!(leaf.key.unwrap(), keys.static_public());
    }

    #[test]
    fn keys_survive_in_the_store() {
        let folder = tempfile::tempdir().unwrap();
        let first = {
            let (store, records) = super::super::store::Store::open(Some(folder.path())).unwrap();
            let mut batch = Batch::default();
            let keys = NetworkKeys::load(&records, &mut batch).unwrap();
            store.commit(&batch).unwrap();
            keys
        };
        let (_store, records) = super::super::store::Store::open(Some(folder.path())).unwrap();
        let mut batch = Batch::default();
        let second = NetworkKeys::load(&records, &mut batch).unwrap();
        assert!(batch.is_empty());
        assert_eq!(first.static_public(), second.static_public());
        assert_eq!(first.chain, second.chain);
    }
}
