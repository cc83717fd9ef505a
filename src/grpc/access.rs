//! What every method asks first: who calls, may they, and which instance do they mean.
//!
//! The permission is checked before anything is looked up, and an instance that a key may not see is
//! answered like one that does not exist, so nobody learns names by asking.

use tonic::{Request, Status};

use crate::{
    auth::Caller,
    domain::permission::Permission,
    grpc::status,
    storage::{InstanceRow, Storage},
};

/// The caller of a request, if their key has the permission.
pub fn permit<T>(request: &Request<T>, permission: Permission) -> Result<Caller, Status> {
    let Some(caller) = request.extensions().get::<Caller>() else {
        tracing::error!("a call reached a service without a caller");
        return Err(status::internal());
    };
    if !caller.may(permission) {
        return Err(status::permission_denied(permission));
    }
    Ok(caller.clone())
}

/// The instance with this id or name, if the caller may see it. `field` names it in the request.
pub async fn instance(
    storage: &dyn Storage,
    caller: &Caller,
    field: &str,
    id_or_name: &str,
) -> Result<InstanceRow, Status> {
    if id_or_name.is_empty() {
        return Err(status::field_invalid(field, "must not be empty"));
    }
    storage
        .lookup_instance(id_or_name)
        .await?
        .filter(|row| caller.sees(row.number))
        .ok_or_else(|| status::instance_not_found(field, id_or_name))
}

/// Who calls, the instance that they name in field `instance`, and what they ask of it.
pub async fn called<T>(
    storage: &dyn Storage,
    request: Request<T>,
    permission: Permission,
    named: impl Fn(&T) -> &str,
) -> Result<(Caller, InstanceRow, T), Status> {
    let caller = permit(&request, permission)?;
    let asked = request.into_inner();
    let row = instance(storage, &caller, "instance", named(&asked)).await?;
    Ok((caller, row, asked))
}

/// A label for people, such as a display name: at most 64 printable characters.
pub fn label(field: &str, text: &str) -> Result<(), Status> {
    let limit = crate::domain::limits::LABEL_CHARS;
    if text.chars().count() > limit {
        let description = format!("must have at most {limit} characters");
        return Err(status::field_invalid(field, description));
    }
    if text.chars().any(char::is_control) {
        return Err(status::field_invalid(field, "must be printable"));
    }
    Ok(())
}
