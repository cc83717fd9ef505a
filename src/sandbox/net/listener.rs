//! The listener: WhatsApp's WebSocket at any path that ends in `/ws/chat`, the media host, pictures of groups, and
//! the route by which tests of other projects let a phone scan a QR code.

use std::sync::Arc;

use axum::{
    Router,
    extract::{DefaultBodyLimit, FromRequestParts, Path, Request, State, ws::WebSocketUpgrade},
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use tokio::sync::Semaphore;

use super::{connection, frames::MAX_MESSAGE, incoming::Incoming};
use crate::sandbox::{error::SandboxError, group::GroupId, media, network::Network};

const SCAN_ROUTE: &str = "/admin/mock-phone/scan-qr";
const PICTURE_ROUTE: &str = "/pictures/{group}/{picture}";
const SOCKET_PATH: &str = "/ws/chat";
const MAX_QR_TEXT: usize = 4 << 10;
const MAX_CONNECTIONS: usize = 8_192;

#[derive(Clone)]
struct Listener {
    network: Arc<Network>,
    free: Arc<Semaphore>,
}

/// Serves until the network stops.
pub async fn serve(listener: Incoming, network: Arc<Network>) -> std::io::Result<()> {
    let stop = network.stop.clone();
    let media = media::routes(network.media.clone());
    let state = Listener {
        network,
        free: Arc::new(Semaphore::new(MAX_CONNECTIONS)),
    };
    let routes = Router::new()
        .route(SCAN_ROUTE, post(scan))
        .route(PICTURE_ROUTE, get(picture))
        .layer(DefaultBodyLimit::max(MAX_QR_TEXT))
        .fallback(socket)
        .with_state(state)
        .merge(media);
    axum::serve(listener, routes)
        .with_graceful_shutdown(stop.cancelled_owned())
        .await
}

async fn socket(State(listener): State<Listener>, request: Request) -> Response {
    if !request.uri().path().ends_with(SOCKET_PATH) {
        return (
            StatusCode::NOT_FOUND,
            "WhatsApp's WebSocket is at /ws/chat\n",
        )
            .into_response();
    }
    let Ok(permit) = listener.free.clone().try_acquire_owned() else {
        return (StatusCode::SERVICE_UNAVAILABLE, "too many connections\n").into_response();
    };
    let (mut parts, _) = request.into_parts();
    match WebSocketUpgrade::from_request_parts(&mut parts, &listener).await {
        Ok(upgrade) => upgrade
            .max_message_size(MAX_MESSAGE)
            .max_frame_size(MAX_MESSAGE)
            .on_upgrade(move |socket| async move {
                let network = listener.network;
                network
                    .tasks
                    .clone()
                    .track_future(connection::serve(socket, network))
                    .await;
                drop(permit);
            }),
        Err(rejection) => rejection.into_response(),
    }
}

/// The picture of a group, while it has this one. Whoever was told the address may see it, as with WhatsApp.
async fn picture(
    State(listener): State<Listener>,
    Path((group, picture)): Path<(String, u64)>,
) -> Response {
    let found = group.parse::<GroupId>().ok().and_then(|id| {
        let state = listener.network.lock();
        let shown = state.groups.get(&id)?.picture.as_ref()?;
        (shown.id == picture).then(|| shown.jpeg.clone())
    });
    match found {
        Some(jpeg) => ([(CONTENT_TYPE, "image/jpeg")], jpeg).into_response(),
        None => (StatusCode::NOT_FOUND, "there is no such picture\n").into_response(),
    }
}

/// The account is the one that has the push name the device registered with; without one, a new dormant account.
async fn scan(State(listener): State<Listener>, qr: String) -> Response {
    match listener.network.scan_as_anybody(&qr).await {
        Ok(device) => format!("{device}\n").into_response(),
        Err(error) => {
            let status = match error {
                SandboxError::Invalid { .. } => StatusCode::BAD_REQUEST,
                SandboxError::NothingToPair { .. } => StatusCode::NOT_FOUND,
                SandboxError::Refused(_) => StatusCode::CONFLICT,
                SandboxError::TimedOut => StatusCode::GATEWAY_TIMEOUT,
                SandboxError::Exhausted(_) => StatusCode::TOO_MANY_REQUESTS,
                _ => StatusCode::INTERNAL_SERVER_ERROR,
            };
            (status, format!("{error}\n")).into_response()
        }
    }
}
