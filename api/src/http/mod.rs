//! The HTTP side: one router, the wrapping that every request gets, and what handlers share.

mod admin;
mod agents;
mod alerts;
mod attachments;
mod chat;
mod console;
mod extract;
mod health;
mod knowledge;
mod live;
mod login;
mod openapi;
mod organisations;
mod page;
mod reports;
mod scope;
mod search;
mod sessions;
mod surveys;
mod tickets;
mod tuning;
mod understand;
mod users;
mod webhooks;

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use axum::Router;
use axum::extract::{DefaultBodyLimit, MatchedPath, Request, State};
use axum::http::{HeaderName, HeaderValue, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError};
use tower_http::catch_panic::CatchPanicLayer;
use tracing::Instrument;
use yingda_engine::{Engine, rules::PATIENCE_MINUTES};

use crate::chat::Chat;
use crate::config::Config;
use crate::data::DataLock;
use crate::desk::{Desk, Surveys};
use crate::error::{ApiError, ErrorDetail};
use crate::knowledge::base::KnowledgeBase;
use crate::live::Live;
use crate::metrics;
use crate::outgoing::Webhooks;
use crate::storage::{Storage, now};
use crate::users::Users;
use crate::users::addresses::Addresses;

pub(crate) use tickets::TicketBody;

/// Largest body that is read.
const MAX_BODY: usize = 256 * 1024;
/// Most sockets that are open at once.
const MAX_SOCKETS: u32 = 20_000;
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Everything that a request may need. Cheap to clone.
#[derive(Clone)]
pub struct AppState(Arc<Inner>);

struct Inner {
    config: Config,
    engine: Engine,
    storage: Storage,
    chat: Chat,
    desk: Desk,
    live: Live,
    surveys: Surveys,
    base: KnowledgeBase,
    users: Users,
    webhooks: Webhooks,
    addresses: Addresses,
    prometheus: PrometheusHandle,
    /// One permit per accepted piece of work; whoever holds all of them knows that nothing is in work.
    permits: Arc<Semaphore>,
    /// One permit per open socket.
    sockets: Arc<Semaphore>,
    stopping: AtomicBool,
    model_stopped: AtomicBool,
    _lock: Option<DataLock>,
}

/// How long the words of people of the desk are kept as they wrote them.
const SAID_MILLISECONDS: i64 = 30 * 24 * 60 * 60 * 1000;

impl AppState {
    pub(crate) fn new(
        config: Config,
        engine: Engine,
        storage: Storage,
        base: KnowledgeBase,
        prometheus: PrometheusHandle,
        lock: Option<DataLock>,
    ) -> Self {
        Self(Arc::new(Inner {
            chat: Chat::new(engine.clone(), storage.clone()),
            desk: Desk::with_surveys(storage.clone(), config.desk.survey.clone()),
            live: Live::new(storage.clone()),
            surveys: Surveys::new(storage.clone(), config.desk.survey.clone()),
            base,
            users: Users::new(storage.clone()),
            webhooks: Webhooks::new(storage.clone()),
            addresses: Addresses::default(),
            permits: Arc::new(Semaphore::new(config.max_in_flight)),
            sockets: Arc::new(Semaphore::new(MAX_SOCKETS as usize)),
            config,
            engine,
            storage,
            prometheus,
            stopping: AtomicBool::new(false),
            model_stopped: AtomicBool::new(false),
            _lock: lock,
        }))
    }

    /// The engine that is served.
    pub fn engine(&self) -> &Engine {
        &self.0.engine
    }

    /// The database that is used.
    pub fn storage(&self) -> &Storage {
        &self.0.storage
    }

    /// All settings.
    pub fn config(&self) -> &Config {
        &self.0.config
    }

    /// The knowledge with its history.
    pub fn base(&self) -> &KnowledgeBase {
        &self.0.base
    }

    /// Those who follow sessions.
    pub fn live(&self) -> &Live {
        &self.0.live
    }

    /// The accounts of people.
    pub fn users(&self) -> &Users {
        &self.0.users
    }

    /// From now on nothing new is accepted, and `/readyz` says so.
    pub(crate) fn stop_accepting(&self) {
        self.0.stopping.store(true, Ordering::Relaxed);
    }

    /// Waits until all accepted work is done; whoever comes later is refused.
    pub(crate) async fn finish_accepted(&self) {
        let all = u32::try_from(self.0.config.max_in_flight).unwrap_or(u32::MAX);
        // An error means that the semaphore is closed already: nothing is in work.
        if let Ok(permits) = self.0.permits.acquire_many(all).await {
            permits.forget();
        }
        self.0.permits.close();
    }

    /// Asks all sockets to close, and waits until they have.
    pub(crate) async fn close_sockets(&self) {
        self.0.live.stop();
        if let Ok(permits) = self.0.sockets.acquire_many(MAX_SOCKETS).await {
            permits.forget();
        }
    }

    /// Finishes what was accepted, then closes engine and database.
    pub async fn close(&self) {
        self.stop_accepting();
        self.0.live.stop();
        if tokio::time::timeout(self.0.config.shutdown, self.finish_accepted()).await.is_err() {
            tracing::warn!("some accepted messages were not finished in time");
        }
        self.0.engine.close().await;
        self.0.storage.close().await;
    }

    pub(crate) fn run_upkeep(&self) {
        self.0.prometheus.run_upkeep();
    }

    /// Forgets what customers gave to flows that they did not end.
    pub(crate) async fn forget_flows(&self) {
        let before = now() - PATIENCE_MINUTES * 60_000;
        if let Err(error) = self.0.storage.forget_flows(before).await {
            tracing::warn!(%error, "flows that wait no longer are not forgotten yet");
        }
    }

    /// Forgets what people of the desk wrote to customers a month ago, but for what masking left of it.
    pub(crate) async fn forget_said(&self) {
        if let Err(error) = self.0.storage.forget_said(now() - SAID_MILLISECONDS).await {
            tracing::warn!(%error, "what people wrote a month ago is not masked yet");
        }
    }

    /// Counts the turns of hours that are over, for the reports.
    pub(crate) async fn count_finished_hours(&self) {
        if let Err(error) = self.0.storage.count_finished_hours().await {
            tracing::warn!(%error, "hours that are over are not counted yet");
        }
    }

    /// Forgets logins that have expired.
    pub(crate) async fn forget_logins(&self) {
        if let Err(error) = self.0.users.forget(now()).await {
            tracing::warn!(%error, "logins that have expired are not forgotten yet");
        }
    }

    /// The right to do one piece of work to its end, also when its caller leaves.
    fn accept(&self) -> Result<OwnedSemaphorePermit, ApiError> {
        if self.0.stopping.load(Ordering::Relaxed) {
            return Err(ApiError::Stopping);
        }
        Arc::clone(&self.0.permits).try_acquire_owned().map_err(|error| match error {
            TryAcquireError::NoPermits => ApiError::Busy,
            TryAcquireError::Closed => ApiError::Stopping,
        })
    }

    /// Does accepted work to its end, also when the caller leaves or the request times out.
    async fn finish<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, ApiError>> + Send + 'static,
    ) -> Result<T, ApiError> {
        let permit = self.accept()?;
        let work = async move {
            let _permit = permit;
            work.await
        };
        match tokio::spawn(work.in_current_span()).await {
            Ok(result) => result,
            // The panic itself is in the log; its words may hold what a customer wrote and are not repeated.
            Err(_) => Err(ApiError::Internal("the work on a request panicked".to_owned())),
        }
    }

    fn in_work(&self) -> usize {
        self.0.config.max_in_flight.saturating_sub(self.0.permits.available_permits())
    }
}

/// All routes over a state. Tests call it without a port.
pub(crate) fn router(state: AppState) -> Router {
    let (routes, api) = openapi::routes(state.0.config.desk.attachments.max_bytes);
    let layers = state.clone();
    routes
        .merge(openapi::pages(api))
        .merge(page::routes())
        .merge(console::routes())
        .merge(surveys::routes())
        .fallback(async || ApiError::RouteNotFound)
        .method_not_allowed_fallback(async || ApiError::MethodNotAllowed)
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(middleware::from_fn_with_state(layers.clone(), limit_time))
        .layer(middleware::from_fn_with_state(layers.clone(), local_names_only))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(middleware::from_fn_with_state(layers, observe))
        .with_state(state)
}

/// Gives every request an id, a line in the log and its place in the metrics. Texts, ids of sessions and keys are not logged.
async fn observe(State(state): State<AppState>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let id = request
        .headers()
        .get(&REQUEST_ID)
        .filter(|id| id.len() <= 128 && id.to_str().is_ok_and(|id| !id.is_empty()))
        .cloned()
        .unwrap_or_else(|| {
            HeaderValue::from_str(&uuid::Uuid::now_v7().to_string()).unwrap_or(HeaderValue::from_static("unknown"))
        });
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map_or_else(|| "unmatched".to_owned(), |path| path.as_str().to_owned());
    let method = known_method(request.method());
    let span = tracing::info_span!("request", id = id.to_str().unwrap_or_default(), method, route);
    async move {
        let mut response = next.run(request).await;
        response.headers_mut().insert(REQUEST_ID, id);
        // Whatever a customer wrote, no browser takes it for a page.
        let nosniff = HeaderValue::from_static("nosniff");
        response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, nosniff);
        let status = response.status().as_u16();
        let took = started.elapsed();
        let milliseconds = took.as_secs_f64() * 1000.0;
        match response.extensions().get::<ErrorDetail>() {
            Some(detail) => {
                if detail.model_stopped {
                    state.0.model_stopped.store(true, Ordering::Relaxed);
                }
                tracing::error!(status, milliseconds, detail = %detail.text);
            }
            // Probes and scrapes come every few seconds.
            None if matches!(route.as_str(), "/healthz" | "/readyz" | "/metrics") => {
                tracing::debug!(status, milliseconds)
            }
            None => tracing::info!(status, milliseconds),
        }
        metrics::request(route, method, status, took);
        response
    }
    .instrument(span)
    .await
}

/// Callers may invent methods; metrics may not grow with them.
fn known_method(method: &axum::http::Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "POST" => "POST",
        "PUT" => "PUT",
        "DELETE" => "DELETE",
        "HEAD" => "HEAD",
        "OPTIONS" => "OPTIONS",
        "PATCH" => "PATCH",
        _ => "other",
    }
}

/// Without keys, a page of another site could reach this service through a name of its own that points to 127.0.0.1 (DNS
/// rebinding). Its name stands in `Host`: only the names of this machine are served.
async fn local_names_only(State(state): State<AppState>, request: Request, next: Next) -> Response {
    if state.0.config.open
        && let Some(host) = request.headers().get(header::HOST)
    {
        let host = host.to_str().unwrap_or_default();
        let name = match host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
            _ => host,
        };
        let name = name.trim_start_matches('[').trim_end_matches(']');
        let local = name.eq_ignore_ascii_case("localhost")
            || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
        if !local {
            return ApiError::HostRefused(host.chars().take(128).collect()).into_response();
        }
    }
    // A page of another site may send what a form could send, without asking first. Its browser says where it comes from.
    if state.0.config.open
        && let Some(origin) = request.headers().get(header::ORIGIN)
    {
        let origin = origin.to_str().unwrap_or_default();
        let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
        if origin.split_once("://").is_none_or(|(_, from)| !from.eq_ignore_ascii_case(host)) {
            return ApiError::HostRefused(origin.chars().take(128).collect()).into_response();
        }
    }
    next.run(request).await
}

async fn limit_time(State(state): State<AppState>, request: Request, next: Next) -> Response {
    match tokio::time::timeout(state.0.config.request_timeout, next.run(request)).await {
        Ok(response) => response,
        Err(_) => ApiError::Timeout.into_response(),
    }
}

/// A bug of ours. The caller learns that it is one and nothing more.
fn panicked(panic: Box<dyn Any + Send + 'static>) -> Response {
    let text = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no message");
    ApiError::Internal(format!("a handler panicked: {text}")).into_response()
}
