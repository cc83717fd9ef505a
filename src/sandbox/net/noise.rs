//! The responder of the Noise handshake: XX for newcomers, IK for those who know our key, XXfallback for
//! those who know an old one; then the ciphers of the connection.
//!
//! Speaks in messages, never in sockets.

use bytes::BytesMut;
use wacore_binary::consts::{
    NOISE_PATTERN_IK, NOISE_PATTERN_XX, NOISE_PATTERN_XXFALLBACK, WA_CONN_HEADER,
};
use wacore_libsignal::protocol::KeyPair;
use wacore_noise::{HandshakeError, NoiseCipher, NoiseError, NoiseHandshake};
use waproto::{
    buffa::{Message as _, MessageField},
    whatsapp::{HandshakeMessage, handshake_message::ClientHello, handshake_message::ServerHello},
};

use crate::sandbox::keys::{NetworkKeys, public_bytes, random};

/// Who came in: the key they proved and the payload they sent under it.
pub struct Admitted {
    /// The client's static key.
    pub static_key: [u8; 32],
    /// The encoded `ClientPayload`.
    pub payload: Vec<u8>,
    /// The ciphers from here on.
    pub ciphers: Ciphers,
}

/// A handshake after the client's first message.
pub enum Greeted {
    /// IK: the reply ends it.
    Resumed {
        /// The ServerHello to send.
        reply: Vec<u8>,
        /// The client.
        admitted: Box<Admitted>,
    },
    /// XX or XXfallback: the client's ClientFinish is still to come.
    Finishing {
        /// The ServerHello to send.
        reply: Vec<u8>,
        /// What reads the ClientFinish.
        finishing: Box<Finishing>,
    },
}

/// An XX handshake that waits for the ClientFinish.
pub struct Finishing {
    noise: NoiseHandshake,
    ephemeral: KeyPair,
}

/// Reads the client's first message.
pub fn greet(keys: &NetworkKeys, hello: &[u8]) -> Result<Greeted, HandshakeError> {
    let hello = HandshakeMessage::decode_from_slice(hello)?
        .client_hello
        .into_option()
        .ok_or(HandshakeError::IncompleteResponse)?;
    let ephemeral = key(hello.ephemeral.as_deref())?;
    if hello.r#static.is_none() {
        return full(keys, NOISE_PATTERN_XX, &ephemeral);
    }
    match resume(keys, &ephemeral, &hello) {
        Ok((reply, admitted)) => Ok(Greeted::Resumed {
            reply,
            admitted: Box::new(admitted),
        }),
        // The client knows another static key than ours: start over with the ephemeral it has sent.
        Err(HandshakeError::Noise(NoiseError::Decrypt(_))) => {
            full(keys, NOISE_PATTERN_XXFALLBACK, &ephemeral)
        }
        Err(error) => Err(error),
    }
}

fn full(
    keys: &NetworkKeys,
    pattern: &str,
    client_ephemeral: &[u8; 32],
) -> Result<Greeted, HandshakeError> {
    let mut noise = NoiseHandshake::new(pattern, &WA_CONN_HEADER)?;
    let ephemeral = KeyPair::generate(&mut random());
    let ephemeral_public = public_bytes(&ephemeral.public_key);
    noise.authenticate(client_ephemeral);
    noise.authenticate(&ephemeral_public);
    noise.mix_shared_secret(ephemeral.private_key.serialize(), client_ephemeral)?;
    let encrypted_static = noise.encrypt(&keys.static_public())?;
    noise.mix_shared_secret(keys.static_pair.private_key.serialize(), client_ephemeral)?;
    let encrypted_chain = noise.encrypt(&keys.chain)?;
    Ok(Greeted::Finishing {
        reply: server_hello(&ephemeral_public, Some(encrypted_static), encrypted_chain),
        finishing: Box::new(Finishing { noise, ephemeral }),
    })
}

fn resume(
    keys: &NetworkKeys,
    client_ephemeral: &[u8; 32],
    hello: &ClientHello,
) -> Result<(Vec<u8>, Admitted), HandshakeError> {
    let (Some(encrypted_static), Some(encrypted_payload)) = (&hello.r#static, &hello.payload)
    else {
        return Err(HandshakeError::IncompleteResponse);
    };
    let static_private = keys.static_pair.private_key.serialize();
    let mut noise = NoiseHandshake::new(NOISE_PATTERN_IK, &WA_CONN_HEADER)?;
    noise.authenticate(&keys.static_public());
    noise.authenticate(client_ephemeral);
    noise.mix_shared_secret(static_private, client_ephemeral)?;
    let static_key = key(Some(&noise.decrypt(encrypted_static)?))?;
    noise.mix_shared_secret(static_private, &static_key)?;
    let payload = noise.decrypt(encrypted_payload)?;

    let ephemeral = KeyPair::generate(&mut random());
    let ephemeral_public = public_bytes(&ephemeral.public_key);
    noise.authenticate(&ephemeral_public);
    noise.mix_shared_secret(ephemeral.private_key.serialize(), client_ephemeral)?;
    noise.mix_shared_secret(ephemeral.private_key.serialize(), &static_key)?;
    let encrypted_chain = noise.encrypt(&keys.chain)?;
    let admitted = Admitted {
        static_key,
        payload,
        ciphers: Ciphers::of(noise)?,
    };
    Ok((
        server_hello(&ephemeral_public, None, encrypted_chain),
        admitted,
    ))
}

impl Finishing {
    /// Reads the ClientFinish.
    pub fn finish(mut self, finish: &[u8]) -> Result<Admitted, HandshakeError> {
        let finish = HandshakeMessage::decode_from_slice(finish)?
            .client_finish
            .into_option()
            .ok_or(HandshakeError::IncompleteResponse)?;
        let (Some(encrypted_static), Some(encrypted_payload)) = (&finish.r#static, &finish.payload)
        else {
            return Err(HandshakeError::IncompleteResponse);
        };
        let static_key = key(Some(&self.noise.decrypt(encrypted_static)?))?;
        self.noise
            .mix_shared_secret(self.ephemeral.private_key.serialize(), &static_key)?;
        let payload = self.noise.decrypt(encrypted_payload)?;
        Ok(Admitted {
            static_key,
            payload,
            ciphers: Ciphers::of(self.noise)?,
        })
    }
}

fn key(bytes: Option<&[u8]>) -> Result<[u8; 32], HandshakeError> {
    bytes
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or(HandshakeError::InvalidKeyLength)
}

fn server_hello(
    ephemeral: &[u8; 32],
    encrypted_static: Option<Vec<u8>>,
    payload: Vec<u8>,
) -> Vec<u8> {
    HandshakeMessage {
        server_hello: MessageField::some(ServerHello {
            ephemeral: Some(ephemeral.to_vec()),
            r#static: encrypted_static,
            payload: Some(payload),
            ..Default::default()
        }),
        ..Default::default()
    }
    .encode_to_vec()
}

/// One cipher and one counter per direction.
pub struct Ciphers {
    write: NoiseCipher,
    written: u32,
    read: NoiseCipher,
    received: u32,
}

impl Ciphers {
    fn of(noise: NoiseHandshake) -> Result<Self, HandshakeError> {
        // `finish` names the keys as the initiator sees them.
        let (read, write) = noise.finish()?;
        Ok(Self {
            write,
            written: 0,
            read,
            received: 0,
        })
    }

    /// Encrypts the next outgoing frame.
    pub fn seal(&mut self, mut frame: Vec<u8>) -> Result<Vec<u8>, NoiseError> {
        self.write
            .encrypt_in_place_with_counter(self.written, &mut frame)?;
        self.written = self
            .written
            .checked_add(1)
            .ok_or(NoiseError::CounterExhausted)?;
        Ok(frame)
    }

    /// Decrypts the next incoming frame.
    pub fn open(&mut self, mut frame: BytesMut) -> Result<BytesMut, NoiseError> {
        self.read
            .decrypt_in_place_with_counter(self.received, &mut frame)?;
        self.received = self
            .received
            .checked_add(1)
            .ok_or(NoiseError::CounterExhausted)?;
        Ok(frame)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wacore_noise::{
        IkHandshakeState, IkServerHelloOutcome, XxFallbackHandshakeState, XxHandshakeState,
    };

    fn exchange(mut ciphers: Ciphers, client_write: NoiseCipher, client_read: NoiseCipher) {
        for counter in 0..3 {
            let up = client_write.encrypt_with_counter(counter, b"up").unwrap();
            assert_eq!(&ciphers.open(BytesMut::from(&up[..])).unwrap()[..], b"up");
            let mut down = ciphers.seal(b"down".to_vec()).unwrap();
            client_read
                .decrypt_in_place_with_counter(counter, &mut down)
                .unwrap();
            assert_eq!(down, b"down");
        }
    }

    #[test]
    fn a_client_that_knows_the_key_resumes() {
        let keys = NetworkKeys::generate().unwrap();
        let client = KeyPair::generate(&mut random());
        let static_key = public_bytes(&client.public_key);
        let mut state = IkHandshakeState::new(
            client,
            keys.static_public(),
            b"payload".to_vec(),
            &WA_CONN_HEADER,
        )
        .unwrap();
        let hello = state.build_client_hello().unwrap();
        let Greeted::Resumed { reply, admitted } = greet(&keys, &hello).unwrap() else {
            panic!("expected IK");
        };
        assert_eq!(admitted.payload, b"payload");
        assert_eq!(admitted.static_key, static_key);
        let IkServerHelloOutcome::Continue(outcome) = state.read_server_hello(&reply).unwrap()
        else {
            panic!("expected no fallback");
        };
        exchange(admitted.ciphers, outcome.write_cipher, outcome.read_cipher);
    }

    /// The library accepts WhatsApp's root only, so its initiator gets as far as our certificate: the refusal
    /// by the signature proves that everything before it decrypted.
    #[test]
    fn an_unmodified_client_refuses_our_root_by_xx() {
        let keys = NetworkKeys::generate().unwrap();
        let mut state = XxHandshakeState::new(
            KeyPair::generate(&mut random()),
            b"payload".to_vec(),
            &WA_CONN_HEADER,
        )
        .unwrap();
        let Greeted::Finishing { reply, .. } =
            greet(&keys, &state.build_client_hello().unwrap()).unwrap()
        else {
            panic!("expected XX");
        };
        let error = state
            .read_server_hello_and_build_client_finish(&reply)
            .unwrap_err();
        assert!(
            error.to_string().contains("intermediate signature"),
            "{error}"
        );
    }

    #[test]
    fn a_client_with_an_old_key_is_offered_the_fallback() {
        let keys = NetworkKeys::generate().unwrap();
        let old = NetworkKeys::generate().unwrap();
        let client = KeyPair::generate(&mut random());
        let mut state = IkHandshakeState::new(
            client,
            old.static_public(),
            b"payload".to_vec(),
            &WA_CONN_HEADER,
        )
        .unwrap();
        let Greeted::Finishing { reply, .. } =
            greet(&keys, &state.build_client_hello().unwrap()).unwrap()
        else {
            panic!("expected XXfallback");
        };
        let IkServerHelloOutcome::Fallback(inputs) = state.read_server_hello(&reply).unwrap()
        else {
            panic!("expected the client to fall back");
        };
        let mut state =
            XxFallbackHandshakeState::from_ik_failure(*inputs, &WA_CONN_HEADER).unwrap();
        let error = state.build_client_finish().unwrap_err();
        assert!(
            error.to_string().contains("intermediate signature"),
            "{error}"
        );
    }

    /// A whole XX with an initiator that trusts our root.
    #[test]
    fn a_client_that_trusts_our_root_finishes_xx() {
        let keys = NetworkKeys::generate().unwrap();
        let client = KeyPair::generate(&mut random());
        let ephemeral = KeyPair::generate(&mut random());
        let ephemeral_public = public_bytes(&ephemeral.public_key);
        let hello =
            wacore_noise::HandshakeUtils::build_client_hello(&ephemeral_public).encode_to_vec();
        let Greeted::Finishing { reply, finishing } = greet(&keys, &hello).unwrap() else {
            panic!("expected XX");
        };

        let (server_ephemeral, server_static, chain) =
            wacore_noise::HandshakeUtils::parse_server_hello(&reply).unwrap();
        let mut noise = NoiseHandshake::new(NOISE_PATTERN_XX, &WA_CONN_HEADER).unwrap();
        let private = ephemeral.private_key.serialize();
        noise.authenticate(&ephemeral_public);
        noise.authenticate(&server_ephemeral);
        noise.mix_shared_secret(private, &server_ephemeral).unwrap();
        let server_static = noise.decrypt(&server_static).unwrap();
        assert_eq!(server_static, keys.static_public());
        noise.mix_shared_secret(private, &server_static).unwrap();
        assert_eq!(noise.decrypt(&chain).unwrap(), keys.chain);
        let encrypted_static = noise.encrypt(&public_bytes(&client.public_key)).unwrap();
        noise
            .mix_shared_secret(client.private_key.serialize(), &server_ephemeral)
            .unwrap();
        let encrypted_payload = noise.encrypt(b"payload").unwrap();
        let finish =
            wacore_noise::HandshakeUtils::build_client_finish(encrypted_static, encrypted_payload)
                .encode_to_vec();

        let admitted = finishing.finish(&finish).unwrap();
        assert_eq!(admitted.payload, b"payload");
        assert_eq!(admitted.static_key, public_bytes(&client.public_key));
        let (write, read) = noise.finish().unwrap();
        exchange(admitted.ciphers, write, read);
    }

    #[test]
    fn junk_is_an_error() {
        let keys = NetworkKeys::generate().unwrap();
        for junk in [&b""[..], b"\xff\xff\xff", &[0; 200], b"\x12\x02\x0a\x00"] {
            assert!(greet(&keys, junk).is_err());
        }
    }
}
