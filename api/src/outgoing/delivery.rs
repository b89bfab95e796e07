//! Takes the messages that wait in the database to their webhooks.
//!
//! Any number of replicas may run this: one of them holds the lease and does the work. Should two do it for a moment, an attempt is
//! begun in the database first, and only one of them begins it. A process that ends in the middle of an attempt has sent the message
//! or not; another attempt follows when that one is given up, under the same id.

use std::time::Duration;

use serde::Serialize;
use serde_json::{Map, Value};
use tokio::task::JoinSet;
use ureq::http::{HeaderName, HeaderValue};

use super::{OutgoingError, retry_in, signature};
use crate::http::TicketBody;
use crate::metrics;
use crate::request::{CallError, Client, Request};
use crate::rounds::{Lanes, Rounds};
use crate::storage::{
    AttemptOutcome, Delivery, DeliveryState, DueDelivery, Storage, StorageError, new_id, now, rfc3339,
};

const SECOND: i64 = 1000;
const DAY: i64 = 24 * 60 * 60 * SECOND;
/// The lease on this work, and for how long it is taken.
const LEASE: &str = "webhooks";
const LEASE_MILLISECONDS: i64 = 5 * SECOND;
/// How often the messages are looked at, and after how many looks old ones are forgotten.
const TICK: Duration = Duration::from_secs(1);
const FORGET_EVERY: u32 = 3600;
/// Milliseconds that a receiver has to answer.
const DEADLINE: u64 = 10_000;
/// After this an attempt that was begun is given up: its process must have ended.
const GIVEN_UP: i64 = 30 * SECOND;
/// Messages that are on their way to one webhook at once, each about another ticket.
const AT_ONCE: i64 = 8;
/// For how long messages are kept that were received, and that were given up.
const DONE_KEPT: i64 = 7 * DAY;
const DEAD_KEPT: i64 = 30 * DAY;
/// Largest answer that is read, in bytes. Nothing in it matters.
const LARGEST_ANSWER: u64 = 64 * 1024;

/// Whoever does it. Clones do it together.
#[derive(Clone)]
pub struct Deliverer {
    storage: Storage,
    client: Client,
    /// Tells replicas apart.
    holder: String,
}

/// What was done with messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Delivered {
    /// They were received.
    pub done: usize,
    /// They are tried again later.
    pub failed: usize,
    /// They are given up.
    pub dead: usize,
}

impl Delivered {
    fn and(self, other: Self) -> Self {
        Self { done: self.done + other.done, failed: self.failed + other.failed, dead: self.dead + other.dead }
    }
}

/// What a receiver reads.
#[derive(Serialize)]
struct Message<'a> {
    id: &'a str,
    event: &'a str,
    at: String,
    ticket: TicketBody,
    seq: i64,
    actor: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    before: &'a Map<String, Value>,
    after: &'a Map<String, Value>,
    data: &'a Value,
}

impl Deliverer {
    /// Over a database.
    pub fn new(storage: Storage) -> Self {
        Self { storage, client: Client::new(), holder: new_id() }
    }

    /// Works for as long as it is polled. What fails is told once and tried again.
    pub async fn run(&self) {
        let mut lanes = Lanes::default();
        let mut rounds = Rounds::new(TICK, "webhooks are told nothing at the moment");
        loop {
            let round = rounds.next().await;
            rounds.ended(self.tick(round % FORGET_EVERY == 1, &mut lanes).await);
        }
    }

    async fn tick(&self, forget: bool, lanes: &mut Lanes) -> Result<(), OutgoingError> {
        // Most of the time there is nothing to send, and nothing need be written for that.
        let due = self.storage.due_webhooks(now()).await?;
        if due.is_empty() && !forget {
            return Ok(());
        }
        if !self.storage.take_lease(LEASE, &self.holder, now() + LEASE_MILLISECONDS).await? {
            return Ok(());
        }
        if forget {
            self.forget(now()).await?;
        }
        for webhook_id in due {
            lanes.start(&webhook_id, self.clone().work_for(webhook_id.clone()));
        }
        Ok(())
    }

    async fn work_for(self, webhook_id: String) {
        loop {
            match self.deliver_some(&webhook_id, now()).await {
                Ok(Some(_)) => {}
                Ok(None) => return,
                Err(error) => {
                    tracing::warn!(%error, webhook_id, "messages to a webhook wait until the next look");
                    return;
                }
            }
        }
    }

    /// Sends everything whose time has come, until nothing is left to send at this moment. `now` in milliseconds since 1970: the
    /// clock of plan and signature.
    ///
    /// # Errors
    ///
    /// When the database fails. That a receiver does is no error.
    pub async fn deliver(&self, now: i64) -> Result<Delivered, OutgoingError> {
        let mut all = Delivered::default();
        loop {
            let due = self.storage.due_webhooks(now).await?;
            if due.is_empty() {
                return Ok(all);
            }
            for webhook_id in due {
                while let Some(some) = self.deliver_some(&webhook_id, now).await? {
                    all = all.and(some);
                }
            }
        }
    }

    /// Forgets messages that nobody needs any more. `now` in milliseconds since 1970. Returns how many those were.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn forget(&self, now: i64) -> Result<u64, OutgoingError> {
        Ok(self.storage.forget_deliveries(now - DONE_KEPT, now - DEAD_KEPT).await?)
    }

    /// Sends to one webhook what may be sent at once; `None` when there is nothing.
    async fn deliver_some(&self, webhook_id: &str, now: i64) -> Result<Option<Delivered>, OutgoingError> {
        let due = self.storage.due_deliveries(webhook_id, now, AT_ONCE).await?;
        if due.is_empty() {
            return Ok(None);
        }
        let mut sending = JoinSet::new();
        for message in due {
            let deliverer = self.clone();
            sending.spawn(async move { deliverer.attempt(message, now).await });
        }
        let mut all = Delivered::default();
        while let Some(ended) = sending.join_next().await {
            all = all.and(ended.map_err(|error| OutgoingError::Stopped(error.to_string()))??);
        }
        Ok(Some(all))
    }

    async fn attempt(&self, due: DueDelivery, now: i64) -> Result<Delivered, OutgoingError> {
        let DueDelivery { delivery, address, secret } = due;
        if !self.storage.begin_delivery_attempt(&delivery.id, delivery.attempts, now + GIVEN_UP).await? {
            return Ok(Delivered::default());
        }
        let attempt = delivery.attempts + 1;
        let answer = match self.message(&delivery).await? {
            Some(body) => post(&self.client, &address, &secret, &delivery.event, &delivery.id, body, now).await,
            None => Err(CallError::Unreachable("its ticket is gone".to_owned())),
        };
        let (status, problem) = judged(&answer);
        let (state, next_at) = match (problem, retry_in(attempt, &delivery.id)) {
            (None, _) => (DeliveryState::Done, now),
            (Some(_), Some(wait)) => (DeliveryState::Pending, now + wait),
            (Some(_), None) => (DeliveryState::Dead, now),
        };
        let outcome = AttemptOutcome { state, status, problem, next_at, at: now };
        let mut tx = self.storage.begin().await?;
        tx.finish_attempt(&delivery.webhook_id, &delivery.id, attempt, &outcome).await?;
        tx.commit().await?;
        metrics::webhook_attempted(problem.is_none());
        let count = |of| usize::from(state == of);
        let (done, failed) = (count(DeliveryState::Done), count(DeliveryState::Pending));
        Ok(Delivered { done, failed, dead: count(DeliveryState::Dead) })
    }

    /// The message about an event, with the ticket as it is now.
    async fn message(&self, delivery: &Delivery) -> Result<Option<String>, StorageError> {
        let Some(ticket) = self.storage.ticket(&delivery.ticket_id).await? else { return Ok(None) };
        let Some(event) = self.storage.ticket_event(&delivery.ticket_id, delivery.seq).await? else { return Ok(None) };
        let message = Message {
            id: &delivery.id,
            event: &event.kind,
            at: rfc3339(event.at),
            ticket: ticket.into(),
            seq: event.seq,
            actor: &event.actor,
            reason: event.reason.as_deref(),
            before: &event.before,
            after: &event.after,
            data: &event.data,
        };
        Ok(serde_json::to_string(&message).ok())
    }
}

/// Signs a message and posts it; gives the HTTP status. `now` in milliseconds since 1970.
///
/// # Errors
///
/// When none came back.
pub(super) async fn post(
    client: &Client,
    address: &str,
    secret: &str,
    event: &str,
    id: &str,
    body: String,
    now: i64,
) -> Result<u16, CallError> {
    let header = |name: &'static str, text: &str| {
        let value = HeaderValue::from_str(text);
        let value = value.map_err(|_| CallError::Token(format!("{name} would hold what no header may hold")));
        value.map(|value| (HeaderName::from_static(name), value))
    };
    let headers = vec![
        header("x-yingda-event", event)?,
        header("x-yingda-delivery", id)?,
        header("x-yingda-signature", &signature(secret, now.div_euclid(SECOND), &body))?,
    ];
    let address = address.to_owned();
    let request = Request { address, headers, body: Some(body), deadline: DEADLINE, largest: LARGEST_ANSWER };
    Ok(client.send(request).await?.status)
}

/// The status that came back, and what was wrong, in one word.
pub(super) fn judged(answer: &Result<u16, CallError>) -> (Option<u16>, Option<&'static str>) {
    match answer {
        Ok(status) if (200..300).contains(status) => (Some(*status), None),
        Ok(status) => (Some(*status), Some("status")),
        Err(CallError::Late(_)) => (None, Some("late")),
        Err(_) => (None, Some("unreachable")),
    }
}
