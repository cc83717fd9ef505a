//! A codec that sends bytes which are encoded already: events leave the log as they entered it.

use std::marker::PhantomData;

use bytes::{BufMut as _, Bytes};
use prost::Message;
use tonic::{
    Status,
    codec::{Codec, EncodeBuf, Encoder},
};
use tonic_prost::ProstDecoder;

/// One encoded message, in pieces that follow one another.
pub(super) type Pieces = Vec<Bytes>;

/// Takes requests of one type and sends encoded answers.
pub(super) struct Encoded<Req>(PhantomData<Req>);

impl<Req> Default for Encoded<Req> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<Req: Message + Default + 'static> Codec for Encoded<Req> {
    type Encode = Pieces;
    type Decode = Req;
    type Encoder = Verbatim;
    type Decoder = ProstDecoder<Req>;

    fn encoder(&mut self) -> Verbatim {
        Verbatim
    }

    fn decoder(&mut self) -> ProstDecoder<Req> {
        ProstDecoder::default()
    }
}

/// Copies.
pub(super) struct Verbatim;

impl Encoder for Verbatim {
    type Item = Pieces;
    type Error = Status;

    fn encode(&mut self, item: Pieces, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        into.reserve(item.iter().map(Bytes::len).sum());
        for piece in item {
            into.put(piece);
        }
        Ok(())
    }
}
