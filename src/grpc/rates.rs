//! How often a key may call.
//!
//! Owns one bucket per key that has called lately. Never sees what is called: every call counts once,
//! a stream when it is opened.

use std::{
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{body::Body, extract::State, middleware::Next};
use governor::{
    Quota, RateLimiter,
    clock::{Clock as _, DefaultClock},
    state::keyed::HashMapStateStore,
};
use http::{Request, Response};

use crate::{auth::Caller, domain::ids::ApiKeyId, grpc::status};

/// Calls after which full buckets are forgotten: they are like those of keys never seen.
const SWEEP_EVERY: u64 = 10_000;

/// How often a key may call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// Calls per second in the long run.
    pub per_second: NonZeroU32,
    /// Calls at once after a rest.
    pub burst: NonZeroU32,
}

type Limiter = RateLimiter<ApiKeyId, HashMapStateStore<ApiKeyId>, DefaultClock>;

/// The buckets of all keys; without a limit there is none.
#[derive(Clone, Default)]
pub(super) struct Rates(Option<Arc<(Limiter, AtomicU64)>>);

impl Rates {
    pub fn new(limit: Option<RateLimit>) -> Self {
        Self(limit.map(|limit| {
            let quota = Quota::per_second(limit.per_second).allow_burst(limit.burst);
            Arc::new((RateLimiter::hashmap(quota), AtomicU64::new(0)))
        }))
    }

    /// Counts a call of this key, or says how long it has to wait.
    fn count(&self, key: &ApiKeyId) -> Result<(), Duration> {
        let Some(buckets) = &self.0 else {
            return Ok(());
        };
        let (limiter, calls) = &**buckets;
        if calls.fetch_add(1, Ordering::Relaxed) % SWEEP_EVERY == SWEEP_EVERY - 1 {
            limiter.retain_recent();
        }
        limiter
            .check_key(key)
            .map_err(|refused| refused.wait_time_from(limiter.clock().now()))
    }
}

/// Refuses callers that call too often. Calls without a caller, such as health, are not counted.
pub(super) async fn limit(
    State(rates): State<Rates>,
    request: Request<Body>,
    next: Next,
) -> Response<Body> {
    if let Some(caller) = request.extensions().get::<Caller>()
        && let Err(wait) = rates.count(caller.key())
    {
        return status::rate_limited(wait).into_http();
    }
    next.run(request).await
}
