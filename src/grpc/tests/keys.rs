//! ApiKeyService.

use super::*;

fn wanted(permissions: &[&str], instances: &[&str]) -> v1::CreateApiKeyRequest {
    v1::CreateApiKeyRequest {
        display_name: "new".to_owned(),
        permissions: permissions.iter().map(ToString::to_string).collect(),
        instances: instances.iter().map(ToString::to_string).collect(),
        ..Default::default()
    }
}

#[tokio::test]
async fn a_new_key_works_at_once_and_is_listed() {
    let running = start().await;
    let mut admin = running.api_keys_as(&running.admin).await;
    let created = within(admin.create_api_key(wanted(&["events:read"], &["instance-2"])))
        .await
        .unwrap()
        .into_inner();
    let key = created.api_key.unwrap();
    assert_eq!(
        key.instances,
        [fake::instance(InstanceNumber(2)).id.to_string()]
    );
    let mut events = running.events_as(&created.secret).await;
    within(events.list_events(v1::ListEventsRequest::default()))
        .await
        .unwrap();

    let mut seen = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = v1::ListApiKeysRequest {
            page_size: 1,
            page_token,
        };
        let page = within(admin.list_api_keys(request))
            .await
            .unwrap()
            .into_inner();
        seen.extend(page.api_keys.into_iter().map(|key| key.id));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(seen.len(), 2);
    assert_eq!(seen[1], key.id);
    let request = v1::ListApiKeysRequest {
        page_token: "nonsense".to_owned(),
        ..Default::default()
    };
    let outcome = within(admin.list_api_keys(request)).await;
    refused(outcome, Code::InvalidArgument, "PAGE_TOKEN_INVALID");
}

#[tokio::test]
async fn a_key_grants_no_more_than_it_has() {
    let running = start().await;
    let permissions = [Permission::KeysWrite, Permission::EventsRead];
    let (_, bound) = running.key(&permissions, &[2]).await;
    let mut client = running.api_keys_as(&bound).await;
    within(client.create_api_key(wanted(&["events:read"], &["instance-2"])))
        .await
        .unwrap();
    for (request, code, reason) in [
        (
            wanted(&["*"], &["instance-2"]),
            Code::PermissionDenied,
            "PERMISSION_DENIED",
        ),
        (
            wanted(&["messages:read"], &["instance-2"]),
            Code::PermissionDenied,
            "PERMISSION_DENIED",
        ),
        (
            wanted(&["events:read"], &[]),
            Code::PermissionDenied,
            "PERMISSION_DENIED",
        ),
        (
            wanted(&["events:read"], &["instance-1"]),
            Code::NotFound,
            "INSTANCE_NOT_FOUND",
        ),
        (
            wanted(&["events"], &["instance-2"]),
            Code::InvalidArgument,
            "FIELD_INVALID",
        ),
        (
            wanted(&[], &["instance-2"]),
            Code::InvalidArgument,
            "FIELD_INVALID",
        ),
    ] {
        refused(within(client.create_api_key(request)).await, code, reason);
    }
    let listed = within(client.list_api_keys(v1::ListApiKeysRequest::default()))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(listed.api_keys.len(), 2, "those it covers");

    let admin_id = running.admin[3..19].to_owned();
    let request = v1::RevokeApiKeyRequest {
        api_key_id: admin_id.clone(),
        ..Default::default()
    };
    let outcome = within(client.revoke_api_key(request.clone())).await;
    refused(outcome, Code::NotFound, "API_KEY_NOT_FOUND");
}

#[tokio::test]
async fn the_last_key_that_manages_keys_stays() {
    let running = start().await;
    let mut admin = running.api_keys_as(&running.admin).await;
    let request = v1::RevokeApiKeyRequest {
        api_key_id: running.admin[3..19].to_owned(),
        ..Default::default()
    };
    let outcome = within(admin.revoke_api_key(request)).await;
    refused(outcome, Code::FailedPrecondition, "API_KEY_LAST_ADMIN");
    for id in ["x", "0123456789abcdef"] {
        let request = v1::RevokeApiKeyRequest {
            api_key_id: id.to_owned(),
            ..Default::default()
        };
        let outcome = within(admin.revoke_api_key(request)).await;
        refused(outcome, Code::NotFound, "API_KEY_NOT_FOUND");
    }
}
