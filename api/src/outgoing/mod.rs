//! What is told to systems of others. The desk and the storage know nothing of it; a ticket is told as our API tells it.
//!
//! [`Webhooks`] are addresses that are told of tickets. What is to be told is written down with the event itself, in one
//! transaction; a [`Deliverer`] takes it from there, signs it and sends it until it is received. [`ServiceDesks`] hands the tickets of
//! a team to Zendesk or Jira Service Management and brings back how they stand there.

mod delivery;
mod plan;
mod service_desk;
mod settings;
mod signing;
mod webhooks;

pub use delivery::{Delivered, Deliverer};
pub use plan::retry_in;
pub use service_desk::{Asked, HandedOver, ServiceDesks};
pub use settings::{OutgoingSettings, ServiceDeskKind, ServiceDeskSettings};
pub use signing::signature;
pub use webhooks::{Answered, EVENTS, MOST_WEBHOOKS, WebhookChange, Webhooks};

use crate::desk::DeskError;
use crate::storage::StorageError;

/// Why something cannot be told to others.
#[derive(Debug, thiserror::Error)]
pub enum OutgoingError {
    /// There is no such webhook.
    #[error("there is no webhook {0}")]
    NoWebhook(String),
    /// There is no such message.
    #[error("there is no message {0}")]
    NoDelivery(String),
    /// The message is on its way or was received.
    #[error("the message {0} was not given up: it is on its way, or was received")]
    NotDead(String),
    /// No more webhooks are allowed.
    #[error("there are {MOST_WEBHOOKS} webhooks already; remove one first")]
    TooMany,
    /// The address cannot be called.
    #[error("`address` {0}")]
    Address(&'static str),
    /// The list names a kind of event that does not exist.
    #[error("`events` names {0:?}, which is no kind of event")]
    Event(String),
    /// No secret can be made.
    #[error("{0}")]
    Secret(String),
    /// Work on a message stopped in the middle.
    #[error("the work on a message stopped: {0}")]
    Stopped(String),
    /// The desk refused.
    #[error(transparent)]
    Desk(#[from] DeskError),
    /// The database failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
}
