//! ContactService: reads the people that an instance has met.

use std::sync::Arc;

use tonic::{Request, Response, Status, codec::CompressionEncoding};
use uuid::Uuid;

use super::{
    access, page,
    status::{self, Reason, refuse},
};
use crate::{
    domain::{ids::ContactId, permission::Permission, recipient::Recipient},
    proto::v1::{
        self,
        contact_service_server::{ContactService, ContactServiceServer},
    },
    storage::{InstanceRow, Storage, contact::ContactKey},
    wa::contact_resource,
};

const LIST: &str = "ListContacts";

/// The service.
pub struct Contacts {
    storage: Arc<dyn Storage>,
}

impl Contacts {
    /// The service, on this store.
    pub fn server(storage: Arc<dyn Storage>) -> ContactServiceServer<Self> {
        ContactServiceServer::new(Self { storage })
            .accept_compressed(CompressionEncoding::Gzip)
            .send_compressed(CompressionEncoding::Gzip)
    }

    async fn instance<T>(&self, request: &Request<T>, name: &str) -> Result<InstanceRow, Status> {
        let caller = access::permit(request, Permission::ContactsRead)?;
        access::instance(self.storage.as_ref(), &caller, "instance", name).await
    }
}

#[tonic::async_trait]
impl ContactService for Contacts {
    async fn get_contact(
        &self,
        request: Request<v1::GetContactRequest>,
    ) -> Result<Response<v1::GetContactResponse>, Status> {
        let row = self.instance(&request, &request.get_ref().instance).await?;
        let asked = request.into_inner().contact;
        let key = key(&asked)?;
        let found = self.storage.lookup_contact(row.number, key).await?;
        let Some(contact) = found else {
            let text = "the instance has not met anybody by this name";
            return Err(refuse(Reason::ContactNotFound, text)
                .with("contact", asked)
                .into());
        };
        Ok(Response::new(v1::GetContactResponse {
            contact: Some(contact_resource(&row, &contact)),
        }))
    }

    async fn list_contacts(
        &self,
        request: Request<v1::ListContactsRequest>,
    ) -> Result<Response<v1::ListContactsResponse>, Status> {
        let row = self.instance(&request, &request.get_ref().instance).await?;
        let asked = request.into_inner();
        let size = page::size(asked.page_size)?;
        let after = page::after(LIST, &asked.page_token)?
            .map(|key| Uuid::try_parse(&key).map_err(|_| status::page_token_invalid()))
            .transpose()?
            .map(ContactId);
        let found = self.storage.list_contacts(row.number, after, size + 1);
        let (found, next_page_token) =
            page::cut(LIST, found.await?, size, |last| last.id.to_string());
        let contacts = found.iter();
        Ok(Response::new(v1::ListContactsResponse {
            contacts: contacts
                .map(|contact| contact_resource(&row, contact))
                .collect(),
            next_page_token,
        }))
    }
}

fn key(text: &str) -> Result<ContactKey, Status> {
    if let Ok(id) = Uuid::try_parse(text) {
        return Ok(ContactKey::Id(ContactId(id)));
    }
    match Recipient::parse(text) {
        Ok(Recipient::Number(number)) => Ok(ContactKey::Number(number)),
        Ok(Recipient::Lid(lid)) => Ok(ContactKey::Lid(lid)),
        Ok(Recipient::Group(_)) => Err(status::field_invalid("contact", "is a group")),
        Err(why) => Err(status::field_invalid("contact", why)),
    }
}
