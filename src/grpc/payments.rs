//! PaymentService: checks what a caller wants with requests for money, hands it to the instance, shows what is stored.

use std::{sync::Arc, time::SystemTime};

use tonic::{Request, Response, Status, codec::CompressionEncoding};

use super::{
    groups,
    messages::{self, Called, finding, options},
    page,
    requests::mark_of,
    status::{self, Reason, refuse},
};
use crate::{
    domain::{
        currency::{self, Amount},
        limits,
        permission::Permission,
        recipient::Recipient,
    },
    events::system_time,
    proto::v1::{
        self, PaymentState,
        payment_service_server::{PaymentService, PaymentServiceServer},
    },
    storage::{
        MessageRow, RequestMark, Storage,
        payment::{PaymentQuery, PaymentRow},
    },
    wa::{
        Outgoing, PaymentDemand, PaymentReply, Registry, Say, WaError, message_resource,
        payment_resource,
    },
};

const LIST: &str = "ListPayments";

/// The service.
pub struct Payments {
    storage: Arc<dyn Storage>,
    registry: Arc<Registry>,
}

impl Payments {
    /// The service, on this store and these sessions.
    pub fn server(
        storage: Arc<dyn Storage>,
        registry: Arc<Registry>,
    ) -> PaymentServiceServer<Self> {
        PaymentServiceServer::new(Self { storage, registry })
            .accept_compressed(CompressionEncoding::Gzip)
            .send_compressed(CompressionEncoding::Gzip)
    }

    async fn called<T>(
        &self,
        request: Request<T>,
        permission: Permission,
        instance: impl Fn(&T) -> &str,
    ) -> Result<Called<T>, Status> {
        Called::of(self.storage.as_ref(), request, permission, instance).await
    }

    /// The newest request with this id, in this chat if one is named.
    async fn find<T>(
        &self,
        called: &Called<T>,
        payment_id: &str,
        chat: &str,
    ) -> Result<(PaymentRow, v1::Payment), Status> {
        if payment_id.is_empty() {
            return Err(status::field_invalid("payment_id", "must not be empty"));
        }
        let storage = &self.storage;
        let found = storage.find_payments(called.row.number, payment_id, finding::SAME_ID);
        let now = SystemTime::now();
        for row in found.await? {
            let payment = payment_resource(&row, now)?;
            if chat.is_empty() || finding::is_in(&row.chat, payment.chat.as_ref(), chat) {
                return Ok((row, payment));
            }
        }
        Err(status::payment_not_found())
    }

    /// Sends an answer to a request: the message, and the request as it is then.
    async fn reply<T>(
        &self,
        called: &Called<T>,
        (payment_id, chat): (&str, &str),
        request: Option<RequestMark>,
        reply: PaymentReply,
    ) -> Result<(v1::Message, Option<v1::Payment>), Status> {
        let (kept, _) = self.find(called, payment_id, chat).await?;
        let found = self
            .storage
            .list_messages(kept.instance, &kept.message_id, finding::SAME_ID);
        let is_its = |row: &MessageRow| row.chat == kept.chat && row.sender == kept.sender;
        let about = found.await?.into_iter().find(is_its);
        let outgoing = Outgoing {
            about: Some(about.ok_or(WaError::PaymentNotFound)?),
            request,
            ..messages::saying(Say::AnswerPayment(reply), called.patience)
        };
        let sent = self.registry.send(called.row.number, outgoing).await?;
        let payment = self
            .now(&kept.message_id, &kept.chat, &kept.sender, called)
            .await?;
        Ok((message_resource(&sent)?, payment))
    }

    /// The request with this key as it is now, if there is one.
    async fn now<T>(
        &self,
        payment_id: &str,
        chat: &str,
        sender: &str,
        called: &Called<T>,
    ) -> Result<Option<v1::Payment>, Status> {
        let storage = &self.storage;
        let found = storage.find_payments(called.row.number, payment_id, finding::SAME_ID);
        let found = found.await?;
        let mut found = found.iter();
        let kept = found.find(|row| row.chat == chat && row.sender == sender);
        let payment = kept.map(|row| payment_resource(row, SystemTime::now()));
        Ok(payment.transpose()?)
    }
}

/// What is asked for, in whole seconds and with the decimal places of its currency.
fn content(asked: &mut v1::RequestPaymentRequest) -> Result<v1::PaymentRequestContent, Status> {
    let money = asked.amount.take();
    let mut money = money.ok_or_else(|| status::field_invalid("amount", "must be set"))?;
    let places = currency::places(&money.currency).ok_or_else(|| {
        let description = "must be a code of ISO 4217 in capital letters, such as BRL";
        status::field_invalid("amount.currency", description)
    })?;
    if money.exponent.is_some_and(|exponent| exponent != places) {
        let description = format!(
            "must be {places}, which ISO 4217 has for {}",
            money.currency
        );
        return Err(status::field_invalid("amount.exponent", description));
    }
    money.exponent = Some(places);
    const UNITS: &str = "amount.minor_units";
    let amount = Amount::new(money.minor_units, places).filter(|amount| amount.units() > 0);
    let amount = amount.ok_or_else(|| status::field_invalid(UNITS, "must be more than 0"))?;
    if let Err(error) = amount.thousandths() {
        return Err(status::field_invalid(UNITS, error.to_string()));
    }
    messages::most("note", &asked.note, limits::CAPTION_CHARS)?;
    if let Some(end) = &mut asked.expire_time {
        if system_time(end).is_none() || end.seconds <= 0 {
            return Err(status::field_invalid(
                "expire_time",
                "must be a time after 1970",
            ));
        }
        end.nanos = 0;
    }
    Ok(v1::PaymentRequestContent {
        amount: Some(money),
        note: std::mem::take(&mut asked.note),
        payer: None,
        expire_time: asked.expire_time.take(),
    })
}

/// Who is to pay, which only a group has to be told.
fn payer(recipient: &Recipient, payer: &str) -> Result<Option<Recipient>, Status> {
    const FIELD: &str = "payer";
    match recipient {
        Recipient::Group(_) if payer.is_empty() => Err(status::field_invalid(
            FIELD,
            "must name who is to pay, in a group",
        )),
        Recipient::Group(_) => groups::person(FIELD, payer).map(Some),
        _ if payer.is_empty() => Ok(None),
        _ => Err(status::field_invalid(
            FIELD,
            "must be empty but in a group: the recipient is to pay",
        )),
    }
}

#[tonic::async_trait]
impl PaymentService for Payments {
    async fn request_payment(
        &self,
        request: Request<v1::RequestPaymentRequest>,
    ) -> Result<Response<v1::RequestPaymentResponse>, Status> {
        let mut called = self
            .called(request, Permission::PaymentsWrite, |asked| &asked.instance)
            .await?;
        let request = mark_of!(called.caller, called.row, called.asked, "RequestPayment")?;
        let recipient = messages::recipient(&called.asked.recipient)?;
        let payer = payer(&recipient, &called.asked.payer)?;
        options::quoted(&called.asked.quoted_message_id)?;
        let content = content(&mut called.asked)?;
        let demand = Box::new(PaymentDemand { content, payer });
        let outgoing = Outgoing {
            recipient: Some(recipient),
            quoted: std::mem::take(&mut called.asked.quoted_message_id),
            request,
            ..messages::saying(Say::RequestPayment(demand), called.patience)
        };
        let sent = self.registry.send(called.row.number, outgoing).await?;
        let payment = self.now(&sent.message_id, &sent.chat, &sent.sender, &called);
        let payment = payment.await?;
        let message = Some(message_resource(&sent)?);
        Ok(Response::new(v1::RequestPaymentResponse {
            message,
            payment,
        }))
    }

    async fn decline_payment(
        &self,
        request: Request<v1::DeclinePaymentRequest>,
    ) -> Result<Response<v1::DeclinePaymentResponse>, Status> {
        let called = self
            .called(request, Permission::PaymentsWrite, |asked| &asked.instance)
            .await?;
        let mark = mark_of!(called.caller, called.row, called.asked, "DeclinePayment")?;
        let named = (&*called.asked.payment_id, &*called.asked.chat);
        let replied = self.reply(&called, named, mark, PaymentReply::Decline);
        let (message, payment) = replied.await?;
        let message = Some(message);
        Ok(Response::new(v1::DeclinePaymentResponse {
            message,
            payment,
        }))
    }

    async fn cancel_payment(
        &self,
        request: Request<v1::CancelPaymentRequest>,
    ) -> Result<Response<v1::CancelPaymentResponse>, Status> {
        let called = self
            .called(request, Permission::PaymentsWrite, |asked| &asked.instance)
            .await?;
        let mark = mark_of!(called.caller, called.row, called.asked, "CancelPayment")?;
        let named = (&*called.asked.payment_id, &*called.asked.chat);
        let replied = self.reply(&called, named, mark, PaymentReply::Cancel);
        let (message, payment) = replied.await?;
        let message = Some(message);
        Ok(Response::new(v1::CancelPaymentResponse {
            message,
            payment,
        }))
    }

    async fn send_payment(
        &self,
        request: Request<v1::SendPaymentRequest>,
    ) -> Result<Response<v1::SendPaymentResponse>, Status> {
        self.called(request, Permission::PaymentsWrite, |asked| &asked.instance)
            .await?;
        let sentence =
            "a linked device can't move money: pay on the phone, and payment.sent tells of it";
        Err(refuse(Reason::PaymentNotSendable, sentence).into())
    }

    async fn get_payment(
        &self,
        request: Request<v1::GetPaymentRequest>,
    ) -> Result<Response<v1::GetPaymentResponse>, Status> {
        let called = self
            .called(request, Permission::PaymentsRead, |asked| &asked.instance)
            .await?;
        let asked = &called.asked;
        let (_, payment) = self.find(&called, &asked.payment_id, &asked.chat).await?;
        Ok(Response::new(v1::GetPaymentResponse {
            payment: Some(payment),
        }))
    }

    async fn list_payments(
        &self,
        request: Request<v1::ListPaymentsRequest>,
    ) -> Result<Response<v1::ListPaymentsResponse>, Status> {
        let called = self
            .called(request, Permission::PaymentsRead, |asked| &asked.instance)
            .await?;
        let (instance, asked) = (called.row.number, called.asked);
        let state = PaymentState::try_from(asked.state)
            .map_err(|_| status::field_invalid("state", "must be a PaymentState"))?;
        let now = SystemTime::now();
        let requested = Some(PaymentState::Requested.into());
        let (state, is_over) = match state {
            PaymentState::Unspecified => (None, None),
            PaymentState::Requested => (requested, Some((false, now))),
            PaymentState::Expired => (requested, Some((true, now))),
            state => (Some(state.into()), None),
        };
        let size = page::size(asked.page_size)?;
        let before = page::after(LIST, &asked.page_token)?;
        let before = before.map(|key| finding::place(&key).ok_or_else(status::page_token_invalid));
        let query = PaymentQuery {
            instance,
            chats: finding::chats(self.storage.as_ref(), instance, &asked.chat).await?,
            state,
            is_over,
            before: before.transpose()?,
            // One more than asked for tells whether there is a next page.
            limit: size + 1,
        };
        let found = self.storage.query_payments(query).await?;
        let (found, next_page_token) =
            page::cut(LIST, found, size, |(last, _)| finding::key(*last));
        let payments = found.iter().map(|(_, row)| payment_resource(row, now));
        Ok(Response::new(v1::ListPaymentsResponse {
            payments: payments.collect::<Result<_, _>>()?,
            next_page_token,
        }))
    }
}
