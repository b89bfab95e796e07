//! The addresses that are told of tickets.

use std::time::Instant;

use serde_json::json;

use super::delivery::{judged, post};
use super::{OutgoingError, signing};
use crate::auth;
use crate::request::{Client, check_address};
use crate::storage::{Delivery, Storage, WebhookRecord, new_id, rfc3339};

/// The kinds of events that a webhook can be told of.
pub const EVENTS: [&str; 28] = [
    "opened",
    "escalated_again",
    "customer_message",
    "taken",
    "accepted",
    "assigned",
    "returned",
    "transferred",
    "agent_reply",
    "waiting",
    "resolved",
    "closed",
    "reopened",
    "merged",
    "merged_here",
    "note",
    "amended",
    "linked",
    "rated",
    "service_level",
    "external_status",
    "survey_sent",
    "intervention",
    "alert",
    "alert_acknowledged",
    "coupon",
    "shared",
    "unshared",
];

/// Most webhooks of a service: every event is written down once for each.
pub const MOST_WEBHOOKS: i64 = 20;

/// What to change of a webhook. What is `None` stays.
#[derive(Clone, Debug, Default)]
pub struct WebhookChange {
    /// Where messages go.
    pub address: Option<String>,
    /// The kinds of events that it is told; empty: all.
    pub events: Option<Vec<String>>,
    /// Whether anything is sent.
    pub active: Option<bool>,
}

/// What came back for a test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answered {
    /// The HTTP status, if there was one.
    pub status: Option<u16>,
    /// What was wrong: `status`, `late` or `unreachable`.
    pub problem: Option<&'static str>,
    /// How long it took.
    pub milliseconds: u64,
}

/// What admins do with webhooks.
#[derive(Clone, Debug)]
pub struct Webhooks {
    storage: Storage,
    client: Client,
}

fn checked(events: Vec<String>) -> Result<Vec<String>, OutgoingError> {
    let mut kept: Vec<String> = Vec::new();
    for event in events {
        if !EVENTS.contains(&event.as_str()) {
            return Err(OutgoingError::Event(event));
        }
        if !kept.contains(&event) {
            kept.push(event);
        }
    }
    Ok(kept)
}

impl Webhooks {
    /// Over a database.
    pub fn new(storage: Storage) -> Self {
        Self { storage, client: Client::new() }
    }

    /// Makes a webhook that is told of these kinds of events, or of all when there are none. Its secret is in what it gives.
    ///
    /// # Errors
    ///
    /// When the address cannot be called, a kind does not exist, there are too many, or the database fails.
    pub async fn create(&self, address: &str, events: Vec<String>) -> Result<WebhookRecord, OutgoingError> {
        check_address(address).map_err(OutgoingError::Address)?;
        let events = checked(events)?;
        let random = auth::secret().map_err(|error| OutgoingError::Secret(error.to_string()))?;
        let mut tx = self.storage.begin().await?;
        tx.lock_webhooks().await?;
        if tx.count_webhooks().await? >= MOST_WEBHOOKS {
            return Err(OutgoingError::TooMany);
        }
        let record = tx.add_webhook(address, &format!("{}{random}", signing::PREFIX), &events).await?;
        tx.commit().await?;
        Ok(record)
    }

    /// Changes a webhook. One that is switched on or gets another address begins without failures. `now` in milliseconds since 1970.
    ///
    /// # Errors
    ///
    /// When it does not exist, the address cannot be called, a kind does not exist, or the database fails.
    pub async fn change(&self, id: &str, change: WebhookChange, now: i64) -> Result<WebhookRecord, OutgoingError> {
        let missing = || OutgoingError::NoWebhook(id.to_owned());
        let mut record = self.storage.webhook(id).await?.ok_or_else(missing)?;
        if let Some(address) = change.address {
            check_address(&address).map_err(OutgoingError::Address)?;
            record.failures = if address == record.address { record.failures } else { 0 };
            record.address = address;
        }
        if let Some(events) = change.events {
            record.events = checked(events)?;
        }
        if let Some(active) = change.active {
            record.failures = if active && !record.active { 0 } else { record.failures };
            record.active = active;
        }
        record.changed_at = now;
        let mut tx = self.storage.begin().await?;
        if !tx.update_webhook(&record).await? {
            return Err(missing());
        }
        tx.commit().await?;
        Ok(record)
    }

    /// Removes a webhook with all that was meant for it.
    ///
    /// # Errors
    ///
    /// When it does not exist or the database fails.
    pub async fn remove(&self, id: &str) -> Result<(), OutgoingError> {
        let mut tx = self.storage.begin().await?;
        if !tx.remove_webhook(id).await? {
            return Err(OutgoingError::NoWebhook(id.to_owned()));
        }
        tx.commit().await?;
        Ok(())
    }

    /// Sends a `ping` now, once, whether the webhook is on or not. `now` in milliseconds since 1970.
    ///
    /// # Errors
    ///
    /// When it does not exist or the database fails. That the receiver does is no error.
    pub async fn test(&self, id: &str, now: i64) -> Result<Answered, OutgoingError> {
        let record = self.storage.webhook(id).await?.ok_or_else(|| OutgoingError::NoWebhook(id.to_owned()))?;
        let message = new_id();
        let body = json!({ "id": message, "event": "ping", "at": rfc3339(now), "data": { "webhook_id": id } });
        let started = Instant::now();
        let answer = post(&self.client, &record.address, &record.secret, "ping", &message, body.to_string(), now).await;
        let (status, problem) = judged(&answer);
        let milliseconds = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        Ok(Answered { status, problem, milliseconds })
    }

    /// Sends a message that was given up again, from the beginning of the plan. `now` in milliseconds since 1970.
    ///
    /// # Errors
    ///
    /// When it does not exist or was not given up, or the database fails.
    pub async fn retry(&self, id: &str, now: i64) -> Result<Delivery, OutgoingError> {
        let retried = self.storage.retry_delivery(id, now).await?;
        let delivery = self.storage.delivery(id).await?.ok_or_else(|| OutgoingError::NoDelivery(id.to_owned()))?;
        if retried { Ok(delivery) } else { Err(OutgoingError::NotDead(id.to_owned())) }
    }

    /// Sends everything that was given up again, or what was meant for one webhook. Returns how many messages that are. `now` in
    /// milliseconds since 1970.
    ///
    /// # Errors
    ///
    /// When the webhook does not exist or the database fails.
    pub async fn retry_dead(&self, webhook_id: Option<&str>, now: i64) -> Result<u64, OutgoingError> {
        if let Some(id) = webhook_id
            && self.storage.webhook(id).await?.is_none()
        {
            return Err(OutgoingError::NoWebhook(id.to_owned()));
        }
        Ok(self.storage.retry_dead(webhook_id, now).await?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desk::Action;

    #[test]
    fn every_move_is_an_event_that_can_be_asked_for() {
        for action in Action::ALL {
            assert!(EVENTS.contains(&action.event()), "{action}");
        }
    }

    #[test]
    fn kinds_are_kept_once_and_must_exist() {
        let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert_eq!(checked(list(&["opened", "rated", "opened"])).unwrap(), ["opened", "rated"]);
        assert!(matches!(checked(list(&["opend"])), Err(OutgoingError::Event(name)) if name == "opend"));
    }
}
