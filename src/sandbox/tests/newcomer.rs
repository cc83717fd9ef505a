//! A client that trusts our root comes in by a full XX handshake, registers, and pairs: the way of every client
//! that is not ours. The library's own client cannot go it, because it trusts WhatsApp's root only.

use bytes::BytesMut;
use wacore::{
    companion_reg::CompanionWebClientType,
    net::{Transport, TransportEvent, TransportFactory},
    pair::{DeviceState, PairUtils},
};
use wacore_binary::{
    Node, OwnedNodeRef,
    consts::{NOISE_PATTERN_XX, WA_CONN_HEADER},
};
use wacore_libsignal::protocol::KeyPair;
use wacore_noise::{
    HandshakeUtils, NoiseCipher, NoiseHandshake,
    framing::{FrameDecoder, encode_frame},
};
use waproto::{buffa::Message as _, whatsapp::ClientPayload};

use super::*;
use crate::sandbox::keys::{public_bytes, random};

pub(super) struct Newcomer {
    transport: Arc<dyn Transport>,
    events: whatsapp_rust::async_channel::Receiver<TransportEvent>,
    decoder: FrameDecoder,
    keys: DeviceState,
    ciphers: Option<(NoiseCipher, NoiseCipher)>,
    counters: (u32, u32),
}

impl Newcomer {
    pub(super) async fn dial(sandbox: &Sandbox, push_name: &str) -> Self {
        let factory = TokioWebSocketTransportFactory::new().with_url(sandbox.ws_url());
        let (transport, events) = factory.create_transport().await.unwrap();
        let [identity_key, noise_key] = [(); 2].map(|()| KeyPair::generate(&mut random()));
        let keys = DeviceState {
            identity_key,
            noise_key,
            adv_secret_key: [5; 32],
        };
        let mut newcomer = Self {
            transport,
            events,
            decoder: FrameDecoder::new(),
            keys,
            ciphers: None,
            counters: (0, 0),
        };
        let payload = ClientPayload {
            push_name: Some(push_name.to_owned()),
            ..Default::default()
        };
        newcomer
            .shake_hands(sandbox, &payload.encode_to_vec())
            .await;
        newcomer
    }

    async fn shake_hands(&mut self, sandbox: &Sandbox, payload: &[u8]) {
        let ephemeral = KeyPair::generate(&mut random());
        let public = public_bytes(&ephemeral.public_key);
        let hello = HandshakeUtils::build_client_hello(&public).encode_to_vec();
        let intro = wacore_noise::build_handshake_header(Some(b"routing")).0;
        let frame = encode_frame(&hello, Some(&intro)).unwrap();
        self.transport.send(frame.into()).await.unwrap();

        let reply = self.frame().await;
        let (server_ephemeral, server_static, chain) =
            HandshakeUtils::parse_server_hello(&reply).unwrap();
        let mut noise = NoiseHandshake::new(NOISE_PATTERN_XX, &WA_CONN_HEADER).unwrap();
        let private = ephemeral.private_key.serialize();
        noise.authenticate(&public);
        noise.authenticate(&server_ephemeral);
        noise.mix_shared_secret(private, &server_ephemeral).unwrap();
        let server_static = noise.decrypt(&server_static).unwrap();
        assert_eq!(server_static, sandbox.static_key());
        noise.mix_shared_secret(private, &server_static).unwrap();
        noise.decrypt(&chain).unwrap();
        let own_static = noise
            .encrypt(&public_bytes(&self.keys.noise_key.public_key))
            .unwrap();
        noise
            .mix_shared_secret(
                self.keys.noise_key.private_key.serialize(),
                &server_ephemeral,
            )
            .unwrap();
        let payload = noise.encrypt(payload).unwrap();
        let finish = HandshakeUtils::build_client_finish(own_static, payload).encode_to_vec();
        let frame = encode_frame(&finish, None).unwrap();
        self.transport.send(frame.into()).await.unwrap();
        self.ciphers = Some(noise.finish().unwrap());
    }

    async fn frame(&mut self) -> BytesMut {
        loop {
            if let Some(frame) = self.decoder.decode_frame() {
                return frame;
            }
            let event = tokio::time::timeout(PATIENCE, self.events.recv()).await;
            match event.expect("nothing came").expect("hung up") {
                TransportEvent::DataReceived(data) => self.decoder.feed(&data),
                TransportEvent::Connected => {}
                _ => panic!("hung up"),
            }
        }
    }

    async fn read(&mut self) -> Node {
        let mut frame = self.frame().await;
        let (_, read) = self.ciphers.as_ref().unwrap();
        read.decrypt_in_place_with_counter(self.counters.1, &mut frame)
            .unwrap();
        self.counters.1 += 1;
        let plain = wacore_binary::util::unpack_bytes(frame).unwrap();
        OwnedNodeRef::new(plain).unwrap().to_owned_node()
    }

    async fn write(&mut self, node: &Node) {
        let plain = wacore_binary::marshal(node).unwrap();
        assert!(self.write_bytes(&plain).await, "hung up on");
    }

    /// Says any bytes under the cipher; false once it was hung up on.
    pub(super) async fn write_bytes(&mut self, plain: &[u8]) -> bool {
        let (write, _) = self.ciphers.as_ref().unwrap();
        let sealed = write.encrypt_with_counter(self.counters.0, plain).unwrap();
        self.counters.0 += 1;
        let frame = encode_frame(&sealed, None).unwrap();
        self.transport.send(frame.into()).await.is_ok()
    }

    /// Listens until it is hung up on.
    pub(super) async fn until_hung_up_on(&self) {
        let silence = async {
            while let Ok(event) = self.events.recv().await {
                if matches!(event, TransportEvent::Disconnected(_)) {
                    return;
                }
            }
        };
        tokio::time::timeout(PATIENCE, silence)
            .await
            .expect("never hung up on");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newcomer_registers_and_its_push_name_chooses_the_account() {
    let sandbox = sandbox().await;
    phone(&sandbox, "Bob").await;
    let ada = phone(&sandbox, "Ada").await;
    let mut newcomer = Newcomer::dial(&sandbox, "Ada").await;
    let offer = newcomer.read().await;
    let reference = offer
        .get_optional_child_by_tag(&["pair-device", "ref"])
        .unwrap();
    let reference = reference.content_as_string().unwrap();
    newcomer
        .write(&PairUtils::build_ack_node(&offer).unwrap())
        .await;

    let qr = PairUtils::make_qr_data(&newcomer.keys, &reference, CompanionWebClientType::Chrome);
    let network = sandbox.network.clone();
    let scan = tokio::spawn(async move { network.scan_as_anybody(&qr).await });
    let success = newcomer.read().await;
    let container = success
        .get_optional_child_by_tag(&["pair-success", "device-identity"])
        .and_then(wire::bytes)
        .unwrap();
    let (signed, key_index) = PairUtils::do_pair_crypto(&newcomer.keys, container).unwrap();
    let id = wire::text(&success, "id").unwrap();
    newcomer
        .write(&PairUtils::build_pair_success_response(
            &id, signed, key_index,
        ))
        .await;
    assert_eq!(scan.await.unwrap().unwrap(), ada.device(1));
    let last = newcomer.read().await;
    assert_eq!(last.tag, "stream:error");
    assert!(wire::is(&last, "code", "515"));
    sandbox.shutdown().await;
}
