//! Yingda 应答, the server: HTTP, the desk, storage, and the page at `/`.
//!
//! [`open_state`] opens everything, [`router`] makes the routes over it (tests call them without a port), and [`serve`] does
//! both on an address until it is told to stop. The way of one message is told in [`chat`]; what a reply is, is decided in
//! `yingda-engine`.

#![cfg_attr(test, expect(clippy::unwrap_used, reason = "a test stops at the first surprise"))]

pub mod auth;
pub mod chat;
pub mod config;
pub mod data;
pub mod desk;
pub mod error;
pub mod evaluation;
mod http;
pub mod knowledge;
pub mod live;
mod metrics;
pub mod outgoing;
pub mod questions;
mod request;
mod rounds;
pub mod rules;
pub mod storage;
pub mod users;

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use axum::Router;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::time::Instant;
use yingda_engine::{Engine, EngineError, ModelInfo};

pub use crate::config::Config;
pub use crate::http::AppState;

use crate::config::{ConfigError, SAMPLE_KNOWLEDGE};
use crate::data::{DataError, DataLock};
use crate::desk::{Dispatcher, Interventions, Surveys};
use crate::knowledge::KnowledgeError;
use crate::knowledge::base::{BaseError, KnowledgeBase};
use crate::outgoing::{Deliverer, ServiceDesks};
use crate::questions::QuestionsError;
use crate::rules::RulesError;
use crate::storage::{Storage, StorageError};
use crate::users::UserError;

/// Why the service does not start, or stopped.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A setting.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The data folder.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The model or the reply store.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The knowledge file.
    #[error(transparent)]
    Knowledge(#[from] KnowledgeError),
    /// The knowledge base.
    #[error(transparent)]
    Base(BaseError),
    /// A file of labelled questions.
    #[error(transparent)]
    Questions(#[from] QuestionsError),
    /// The rules file.
    #[error(transparent)]
    Rules(#[from] RulesError),
    /// The sample's knowledge file.
    #[error("--sample looks for {SAMPLE_KNOWLEDGE}, which is not there: run yingda in the repository root")]
    NoSample,
    /// The database.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The first key.
    #[error("the first key cannot be made: {0}")]
    Key(#[from] auth::KeyError),
    /// An account.
    #[error(transparent)]
    User(UserError),
    /// The metrics.
    #[error("the metrics cannot be set up: {0}")]
    Metrics(String),
    /// The address.
    #[error(
        "cannot listen on {address}: {source}. Choose another address with --listen, or stop the program that uses it"
    )]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The server itself.
    #[error("the server stopped: {0}")]
    Serve(std::io::Error),
}

impl From<BaseError> for StartError {
    fn from(error: BaseError) -> Self {
        match error {
            BaseError::Engine(error) => Self::Engine(error),
            BaseError::Storage(error) => Self::Storage(error),
            error => Self::Base(error),
        }
    }
}

impl From<UserError> for StartError {
    fn from(error: UserError) -> Self {
        match error {
            UserError::Storage(error) => Self::Storage(error),
            error => Self::User(error),
        }
    }
}

impl StartError {
    /// Whether whoever started it can put it right (exit code 2), as opposed to a fault (exit code 1).
    pub fn is_users(&self) -> bool {
        match self {
            Self::Config(_)
            | Self::Data(_)
            | Self::Knowledge(_)
            | Self::Questions(_)
            | Self::Rules(_)
            | Self::Base(_)
            | Self::NoSample
            | Self::Listen { .. } => true,
            Self::Engine(error) => !matches!(error, EngineError::Store { .. } | EngineError::WorkerStopped),
            Self::Storage(error) => matches!(error, StorageError::Open { .. }),
            Self::User(error) => !matches!(error, UserError::Random(_) | UserError::Hash(_)),
            Self::Key(_) | Self::Metrics(_) | Self::Serve(_) => false,
        }
    }
}

/// All routes over an open state. Tests call it without a port.
pub fn router(state: AppState) -> Router {
    http::router(state)
}

/// Takes the data folder if anything of ours lies in it.
///
/// # Errors
///
/// When another process has it or it cannot be written.
pub fn lock_data(config: &Config, uses_database: bool) -> Result<Option<DataLock>, DataError> {
    let needed = config.store_is_local() || (uses_database && config.database_is_local());
    needed.then(|| DataLock::take(&config.data)).transpose()
}

/// Opens model and reply store. With `--sample`, an empty store is filled with the sample shop's knowledge.
///
/// # Errors
///
/// When the model folder, the store or the sample's knowledge cannot be used.
pub async fn open_engine(config: &Config) -> Result<Engine, StartError> {
    let engine = Engine::open(config.engine()).await?;
    if config.sample && engine.info().knowledge_entries == 0 {
        let storage = Storage::open(&config.database_url()).await?;
        fill_with_sample(&KnowledgeBase::new(engine.clone(), storage.clone())).await?;
        storage.close().await;
    }
    Ok(engine)
}

async fn fill_with_sample(base: &KnowledgeBase) -> Result<(), StartError> {
    let path = Path::new(SAMPLE_KNOWLEDGE);
    if !path.is_file() {
        return Err(StartError::NoSample);
    }
    let entries = knowledge::read(path)?;
    tracing::info!(entries = entries.len(), "filling the empty reply store with the sample shop's knowledge");
    let begun = base.begin_replace(&entries, "yingda", "the sample shop").await?;
    base.finish(begun, |_, _| {}).await?;
    Ok(())
}

/// Opens everything that serving needs.
///
/// # Errors
///
/// When anything of it cannot be used; the error says what to do.
pub async fn open_state(config: Config) -> Result<AppState, StartError> {
    config.outgoing.check_tokens().map_err(ConfigError::Value)?;
    let lock = lock_data(&config, true)?;
    let prometheus = metrics::install().map_err(StartError::Metrics)?;
    let storage = Storage::open(&config.database_url()).await?;
    let engine = Engine::open(config.engine()).await?;
    let base = KnowledgeBase::new(engine.clone(), storage.clone());
    base.reconcile().await?;
    if config.sample && engine.info().knowledge_entries == 0 {
        fill_with_sample(&base).await?;
    }
    rules::put_to_use(rules::load(&config, &engine)?, &engine);
    Ok(AppState::new(config, engine, storage, base, prometheus, lock))
}

/// What is known when the service is ready.
#[derive(Clone, Debug)]
pub struct Ready {
    /// The address that it listens on; its real port where 0 was asked for.
    pub address: SocketAddr,
    /// What is served.
    pub model: ModelInfo,
    /// Whether no key is asked for.
    pub open: bool,
    /// The admin key that was made because there was none. It can be read nowhere else.
    pub first_key: Option<String>,
}

/// Serves until `shutdown` comes, then finishes what was accepted, within the time that the settings allow.
///
/// # Errors
///
/// When it cannot start, or the listener fails.
pub async fn serve(
    config: Config,
    shutdown: impl Future<Output = ()> + Send,
    on_ready: impl FnOnce(&Ready) + Send,
) -> Result<(), StartError> {
    let limit = config.shutdown;
    let address = config.listen;
    let open = config.open;
    let state = open_state(config).await?;
    let listening = async {
        let listener = TcpListener::bind(address).await?;
        Ok((listener.local_addr()?, listener))
    };
    let (address, listener) = listening.await.map_err(|source| StartError::Listen { address, source })?;
    // After the address is ours: a key that is made and then not shown would be lost.
    let first_key = if open { None } else { auth::first_key(state.storage()).await? };
    on_ready(&Ready { address, model: state.engine().info(), open, first_key });

    let (stop, stopped) = oneshot::channel::<()>();
    let service = router(state.clone()).into_make_service_with_connect_info::<SocketAddr>();
    let server = axum::serve(listener, service).with_graceful_shutdown(async {
        let _ = stopped.await;
    });
    let mut server = tokio::spawn(server.into_future());
    let upkeep = tokio::spawn({
        let state = state.clone();
        async move {
            let mut ticks = tokio::time::interval(Duration::from_secs(5));
            let mut minutes = tokio::time::interval(Duration::from_secs(60));
            loop {
                tokio::select! {
                    _ = ticks.tick() => state.run_upkeep(),
                    _ = minutes.tick() => {
                        state.forget_flows().await;
                        state.forget_said().await;
                        state.count_finished_hours().await;
                        state.forget_logins().await;
                    }
                }
            }
        }
    });

    let dispatching = tokio::spawn({
        let dispatcher = Dispatcher::new(state.storage().clone(), state.config().desk.clone());
        async move { dispatcher.run().await }
    });

    let surveying = tokio::spawn({
        let surveys = Surveys::new(state.storage().clone(), state.config().desk.survey.clone());
        async move { surveys.run().await }
    });

    let intervening = tokio::spawn({
        let interventions = Interventions::new(state.storage().clone(), &state.config().desk);
        async move { interventions.run().await }
    });

    let handing_out = tokio::spawn({
        let deliverer = Deliverer::new(state.storage().clone());
        let service_desks = ServiceDesks::new(state.storage().clone(), &state.config().outgoing);
        async move { tokio::join!(deliverer.run(), service_desks.run()) }
    });

    let following = tokio::spawn({
        let state = state.clone();
        async move { state.base().follow().await }
    });

    let telling = tokio::spawn({
        let live = state.live().clone();
        async move { live.run().await }
    });

    let result = tokio::select! {
        ended = &mut server => ended.map_err(std::io::Error::other).flatten().map_err(StartError::Serve),
        () = shutdown => {
            tracing::info!(limit_seconds = limit.as_secs(), "stopping: nothing new is accepted, what was accepted is finished");
            let deadline = Instant::now() + limit;
            let _ = stop.send(());
            let sockets = tokio::time::timeout_at(deadline, state.close_sockets()).await;
            let connections = tokio::time::timeout_at(deadline, &mut server).await;
            state.stop_accepting();
            let work = tokio::time::timeout_at(deadline, state.finish_accepted()).await;
            if sockets.is_err() || connections.is_err() || work.is_err() {
                tracing::warn!("the time for stopping is over; some requests were not finished");
                server.abort();
            }
            Ok(())
        }
    };
    // They hold copies of the state, and with it the lock on the data folder.
    handing_out.abort();
    let _ = handing_out.await;
    for task in [upkeep, dispatching, surveying, intervening, following, telling] {
        task.abort();
        let _ = task.await;
    }
    state.engine().close().await;
    state.storage().close().await;
    tracing::info!("stopped");
    result
}
