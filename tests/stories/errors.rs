//! Bad input: each its own code and reason, the field named, nothing half created.

use tonic::{Code, Request, Status};
use wagate::proto::v1::{self, send_message_request::Content};

use crate::support::{Api, Stage, info, violated_field};

fn told(status: &Status) -> (Code, String) {
    (status.code(), info(status))
}

async fn sent(api: &Api, recipient: &str, content: Option<&str>) -> Status {
    let request = v1::SendMessageRequest {
        instance: "one".to_owned(),
        recipient: recipient.to_owned(),
        content: content.map(|text| {
            Content::Text(v1::TextContent {
                text: text.to_owned(),
                ..Default::default()
            })
        }),
        ..Default::default()
    };
    api.messages().send_message(request).await.unwrap_err()
}

#[tokio::test(flavor = "multi_thread")]
async fn messages() {
    let stage = Stage::new().await;
    let api = stage.api().await;
    let nobody = sent(&api, "15550001111", Some("hello")).await;
    assert_eq!(told(&nobody), (Code::NotFound, "INSTANCE_NOT_FOUND".into()));
    assert_eq!(violated_field(&nobody), "instance");

    api.create("one").await;
    let unpaired = sent(&api, "15550001111", Some("hello")).await;
    assert_eq!(
        told(&unpaired),
        (Code::FailedPrecondition, "INSTANCE_NOT_PAIRED".into())
    );
    assert_eq!(violated_field(&unpaired), "instance");
    for recipient in [
        "",
        "somebody",
        "x@g.us",
        "1@newsletter",
        "status@broadcast",
        "0155",
    ] {
        let refused = sent(&api, recipient, Some("hello")).await;
        assert_eq!(
            told(&refused),
            (Code::InvalidArgument, "RECIPIENT_INVALID".into()),
            "{recipient:?}"
        );
        assert_eq!(violated_field(&refused), "recipient");
    }
    let empty = sent(&api, "15550001111", Some("  ")).await;
    assert_eq!(told(&empty), (Code::InvalidArgument, "TEXT_EMPTY".into()));
    assert_eq!(violated_field(&empty), "text.text");
    let long = sent(&api, "15550001111", Some(&"x".repeat(65_537))).await;
    assert_eq!(told(&long), (Code::InvalidArgument, "TEXT_TOO_LONG".into()));
    assert_eq!(violated_field(&long), "text.text");
    let nothing = sent(&api, "15550001111", None).await;
    assert_eq!(
        told(&nothing),
        (Code::InvalidArgument, "FIELD_INVALID".into())
    );
    assert_eq!(violated_field(&nothing), "content");

    let request = v1::GetMessageRequest {
        instance: "one".to_owned(),
        message_id: "3EB0".to_owned(),
        chat: String::new(),
    };
    let missing = api.messages().get_message(request).await.unwrap_err();
    assert_eq!(told(&missing), (Code::NotFound, "MESSAGE_NOT_FOUND".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn instances() {
    let stage = Stage::new().await;
    let api = stage.api().await;
    api.create("one").await;
    let create = |name: &str, request_id: &str| v1::CreateInstanceRequest {
        name: name.to_owned(),
        request_id: request_id.to_owned(),
        ..Default::default()
    };
    let taken = api
        .instances()
        .create_instance(create("one", ""))
        .await
        .unwrap_err();
    assert_eq!(
        told(&taken),
        (Code::AlreadyExists, "INSTANCE_NAME_TAKEN".into())
    );
    assert_eq!(violated_field(&taken), "name");
    let odd = api
        .instances()
        .create_instance(create("No Name", ""))
        .await
        .unwrap_err();
    assert_eq!(told(&odd), (Code::InvalidArgument, "FIELD_INVALID".into()));
    assert_eq!(violated_field(&odd), "name");
    let network = v1::CreateInstanceRequest {
        network: 77,
        ..Default::default()
    };
    let network = api.instances().create_instance(network).await.unwrap_err();
    assert_eq!(violated_field(&network), "network");

    // A retry is answered with what the first try made.
    let first = api.instances().create_instance(create("two", "r")).await;
    let again = api.instances().create_instance(create("two", "r")).await;
    let id = |response: Result<tonic::Response<v1::CreateInstanceResponse>, Status>| {
        response.unwrap().into_inner().instance.unwrap().id
    };
    assert_eq!(id(first), id(again));
    let other = api
        .instances()
        .create_instance(create("three", "r"))
        .await
        .unwrap_err();
    assert_eq!(
        told(&other),
        (Code::InvalidArgument, "REQUEST_ID_REUSED".into())
    );
    let list = v1::ListInstancesRequest::default();
    let list = api.instances().list_instances(list).await.unwrap();
    assert_eq!(list.into_inner().instances.len(), 2, "nothing half created");

    stage.open_instance(&api, "open").await;
    let pair = v1::PairInstanceRequest {
        instance: "open".to_owned(),
        ..Default::default()
    };
    let paired = api.instances().pair_instance(pair).await.unwrap_err();
    assert_eq!(
        told(&paired),
        (Code::FailedPrecondition, "INSTANCE_ALREADY_PAIRED".into())
    );
    assert_eq!(violated_field(&paired), "instance");
    let pair = || v1::PairInstanceRequest {
        instance: "two".to_owned(),
        ..Default::default()
    };
    let _pairing = api.instances().pair_instance(pair()).await.unwrap();
    let second = api.instances().pair_instance(pair()).await.unwrap_err();
    assert_eq!(
        told(&second),
        (Code::FailedPrecondition, "PAIRING_IN_PROGRESS".into())
    );
    assert_eq!(violated_field(&second), "instance");
    let pair = v1::PairInstanceRequest {
        instance: "one".to_owned(),
        phone_number: "x".to_owned(),
    };
    let number = api.instances().pair_instance(pair).await.unwrap_err();
    assert_eq!(violated_field(&number), "phone_number");
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_page() {
    let stage = Stage::new().await;
    let api = stage.api().await;
    for name in ["a", "b", "c"] {
        api.create(name).await;
    }
    let mut names = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = v1::ListInstancesRequest {
            page_size: 2,
            page_token,
        };
        let page = api.instances().list_instances(request).await.unwrap();
        let page = page.into_inner();
        names.extend(page.instances.into_iter().map(|one| one.name));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(names, ["a", "b", "c"]);
    let request = v1::ListInstancesRequest {
        page_token: "made-up".to_owned(),
        ..Default::default()
    };
    let odd = api.instances().list_instances(request).await.unwrap_err();
    assert_eq!(
        told(&odd),
        (Code::InvalidArgument, "PAGE_TOKEN_INVALID".into())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn keys() {
    let stage = Stage::new().await;
    let list = v1::ListInstancesRequest::default;
    let without = Api::connect(stage.address(), None).await;
    let missing = without
        .instances()
        .list_instances(list())
        .await
        .unwrap_err();
    assert_eq!(
        told(&missing),
        (Code::Unauthenticated, "API_KEY_MISSING".into())
    );
    let wrong = stage.key().to_owned();
    let wrong = wrong[..wrong.len() - 2].to_owned() + "xx";
    let wrong = Api::connect(stage.address(), Some(&wrong)).await;
    let invalid = wrong.instances().list_instances(list()).await.unwrap_err();
    assert_eq!(
        told(&invalid),
        (Code::Unauthenticated, "API_KEY_INVALID".into())
    );

    // Both other headers are as good.
    for header in ["apikey", "x-api-key"] {
        let mut request = Request::new(list());
        let key = stage.key().parse().unwrap();
        request.metadata_mut().insert(header, key);
        without.instances().list_instances(request).await.unwrap();
    }

    // A key bound to one instance knows no other.
    let api = stage.api().await;
    api.create("mine").await;
    api.create("other").await;
    let create = v1::CreateApiKeyRequest {
        display_name: "reader".to_owned(),
        permissions: vec!["instances:read".to_owned(), "events:read".to_owned()],
        instances: vec!["mine".to_owned()],
        ..Default::default()
    };
    let created = api
        .keys()
        .create_api_key(create)
        .await
        .unwrap()
        .into_inner();
    let reader = Api::connect(stage.address(), Some(&created.secret)).await;
    assert_eq!(reader.instance("mine").await.name, "mine");
    let get = |name: &str| v1::GetInstanceRequest {
        instance: name.to_owned(),
    };
    let hidden = reader
        .instances()
        .get_instance(get("other"))
        .await
        .unwrap_err();
    let unknown = reader
        .instances()
        .get_instance(get("none"))
        .await
        .unwrap_err();
    assert_eq!(told(&hidden), told(&unknown));
    let send = reader
        .send("mine", "15550001111", "hello")
        .await
        .unwrap_err();
    assert_eq!(
        told(&send),
        (Code::PermissionDenied, "PERMISSION_DENIED".into())
    );

    let id = created.api_key.unwrap().id;
    let revoke = v1::RevokeApiKeyRequest {
        api_key_id: id,
        ..Default::default()
    };
    api.keys().revoke_api_key(revoke).await.unwrap();
    let revoked = reader
        .instances()
        .get_instance(get("mine"))
        .await
        .unwrap_err();
    assert_eq!(
        told(&revoked),
        (Code::Unauthenticated, "API_KEY_INVALID".into())
    );
    let own = stage.key().split('_').nth(1).unwrap().to_owned();
    let revoke = v1::RevokeApiKeyRequest {
        api_key_id: own,
        ..Default::default()
    };
    let last = api.keys().revoke_api_key(revoke).await.unwrap_err();
    assert_eq!(
        told(&last),
        (Code::FailedPrecondition, "API_KEY_LAST_ADMIN".into())
    );
}
