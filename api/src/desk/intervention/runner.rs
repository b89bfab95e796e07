//! Does what the rules say.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use serde_json::{Value, json};
use time::OffsetDateTime;
use tokio::task::JoinSet;

use super::{Coupon, Facts, Measure, Rule, When, judge};
use crate::desk::work::Locked;
use crate::desk::{Actor, Desk, DeskError, DeskSettings, Move, Priority, Ticket};
use crate::request::Client;
use crate::rounds::Rounds;
use crate::storage::{NewEvent, Storage, StorageError, new_id, now};

const SECOND: i64 = 1000;
/// The lease on this work, and for how long it is taken.
const LEASE: &str = "interventions";
const LEASE_MILLISECONDS: i64 = 30 * SECOND;
/// How often it is looked for work.
const TICK: Duration = Duration::from_secs(5);
/// Milliseconds in which a rating is looked at: a new rule does not reach back further.
const RATED_WITHIN: i64 = 24 * 3600 * SECOND;
/// Coupons that are asked for at once, and the deadline of each call in milliseconds.
const AT_ONCE: i64 = 20;
const DEADLINE: u64 = 8_000;
/// Milliseconds until it is tried again after each attempt; longer than the deadline. When they are used up it has failed.
const PAUSES: [i64; 4] = [10 * SECOND, 30 * SECOND, 120 * SECOND, 600 * SECOND];
/// How far China is ahead of UTC: budgets are for Chinese months.
const CHINA_SECONDS: i64 = 8 * 3600;

/// An intervention to be noted.
#[derive(Clone, Debug)]
pub struct NewIntervention<'a> {
    /// Its id, which a service that is called knows it by.
    pub id: String,
    /// The ticket.
    pub ticket_id: &'a str,
    /// The rule.
    pub rule: &'a str,
    /// What is done, stable snake case.
    pub action: &'static str,
    /// `done`, or `pending` for what is still to be called.
    pub state: &'static str,
    /// The customer, if they are known.
    pub user_id: Option<&'a str>,
    /// What it costs, in fen.
    pub amount_fen: i64,
    /// The month whose budget pays.
    pub month: &'a str,
    /// When.
    pub at: i64,
}

/// A coupon that was set aside and is still to be asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    /// Id of the intervention.
    pub id: String,
    /// The ticket.
    pub ticket_id: String,
    /// The rule.
    pub rule: String,
    /// The customer.
    pub user_id: String,
    /// What it costs, in fen.
    pub amount_fen: i64,
    /// The month whose budget pays.
    pub month: String,
    /// How often it was asked for.
    pub attempts: i64,
}

/// Why a coupon is not given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The month's budget is used up.
    Budget,
    /// The customer has got all that they may in this month.
    CustomerLimit,
    /// Nobody knows who the customer is.
    NoCustomer,
}

impl Refusal {
    /// The stable name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Budget => "budget",
            Self::CustomerLimit => "customer_limit",
            Self::NoCustomer => "no_customer",
        }
    }
}

/// Something that a supervisor should see.
#[derive(Clone, Debug, PartialEq)]
pub struct Alert {
    /// Its id.
    pub id: String,
    /// The rule that told it.
    pub rule: String,
    /// The ticket.
    pub ticket: Ticket,
    /// When it was told, in milliseconds since 1970.
    pub created_at: i64,
    /// Who has seen it.
    pub acknowledged_by: Option<String>,
}

/// Why an alert cannot be acknowledged.
#[derive(Debug, thiserror::Error)]
pub enum InterventionError {
    /// There is no such alert.
    #[error("there is no alert {0}")]
    NotFound(String),
    /// Somebody was faster.
    #[error("the alert was acknowledged by {0}")]
    Acknowledged(String),
    /// The ticket cannot be read or written.
    #[error(transparent)]
    Desk(#[from] DeskError),
}

impl From<StorageError> for InterventionError {
    fn from(error: StorageError) -> Self {
        Self::Desk(error.into())
    }
}

/// The Chinese month of a moment, such as `2026-01`.
pub fn month(at: i64) -> String {
    let local = OffsetDateTime::from_unix_timestamp(at.div_euclid(SECOND) + CHINA_SECONDS);
    let local = local.unwrap_or(OffsetDateTime::UNIX_EPOCH);
    format!("{:04}-{:02}", local.year(), u8::from(local.month()))
}

/// Looks which rules hold, and does what they say.
pub struct Interventions {
    storage: Storage,
    desk: Desk,
    rules: Vec<Rule>,
    client: Client,
    /// Tells replicas apart.
    holder: String,
}

impl Interventions {
    /// Of settings that have no [`DeskSettings::problems`].
    pub fn new(storage: Storage, settings: &DeskSettings) -> Self {
        let desk = Desk::with_surveys(storage.clone(), settings.survey.clone());
        let rules = Rule::all(&settings.intervention, &settings.teams).unwrap_or_default();
        Self { storage, desk, rules, client: Client::new(), holder: new_id() }
    }

    /// Works for as long as it is polled. What fails is told once and tried again.
    pub async fn run(&self) {
        let mut rounds = Rounds::new(TICK, "no rule intervenes at the moment");
        loop {
            rounds.next().await;
            rounds.ended(self.tick().await);
        }
    }

    async fn tick(&self) -> Result<(), DeskError> {
        if self.storage.take_lease(LEASE, &self.holder, now() + LEASE_MILLISECONDS).await? {
            self.intervene(now()).await?;
            self.give_coupons(now()).await?;
        }
        Ok(())
    }

    /// Does what the rules say of all open tickets and of those that were rated in the last day. Returns how many interventions were
    /// begun. `now` in milliseconds since 1970.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn intervene(&self, now: i64) -> Result<usize, DeskError> {
        if self.rules.is_empty() {
            return Ok(0);
        }
        let since = now - RATED_WITHIN;
        // Only what some rule looks at is read.
        let has = |when: fn(&When) -> bool| self.rules.iter().any(|rule| when(&rule.when));
        let mut moods = match has(|when| matches!(when, When::NegativeInARow { .. })) {
            true => self.storage.moods().await?,
            false => HashMap::new(),
        };
        let missed = match has(|when| matches!(when, When::TargetMissed)) {
            true => self.storage.missed_targets().await?,
            false => HashSet::new(),
        };
        let made = self.storage.interventions_since(since).await?;
        let open = self.storage.open_tickets().await?.into_iter().map(|ticket| (ticket, None));
        let rated = self.storage.rated_since(since).await?.into_iter().map(|(ticket, score)| (ticket, Some(score)));
        let mut begun = 0;
        for (ticket, rating) in open.chain(rated) {
            let facts = Facts {
                status: ticket.status,
                category: ticket.category.clone(),
                vip: ticket.vip,
                mood: moods.remove(&ticket.id).unwrap_or_default(),
                missed: missed.contains(&ticket.id),
                rating,
                queued_at: ticket.queued_at,
            };
            for rule in judge(&self.rules, &facts, now) {
                if !made.contains(&(ticket.id.clone(), rule.name.clone())) {
                    begun += usize::from(self.desk.intervene(rule, &ticket.id, now).await?);
                }
            }
        }
        Ok(begun)
    }

    /// Asks for the coupons that were set aside, and tries again what failed. Returns how many are settled: given, or failed for good.
    /// `now` in milliseconds since 1970.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn give_coupons(&self, now: i64) -> Result<usize, DeskError> {
        let mut calls = JoinSet::new();
        for pending in self.storage.pending_interventions(now, AT_ONCE).await? {
            let pause = usize::try_from(pending.attempts).ok().and_then(|attempt| PAUSES.get(attempt).copied());
            let next = now + pause.unwrap_or(PAUSES[0]);
            // Whoever notes the attempt makes it. Should they die meanwhile, the next one comes when its time has.
            if !self.storage.begin_coupon_attempt(&pending, next).await? {
                continue;
            }
            let coupon = self.rules.iter().find_map(|rule| match &rule.measure {
                Measure::Coupon(coupon) if rule.name == pending.rule => Some(coupon.clone()),
                _ => None,
            });
            let client = self.client.clone();
            calls.spawn(async move {
                let Some(coupon) = coupon else { return (pending, Err("no rule of that name".to_owned()), true) };
                let answer = ask_for(&client, &coupon, &pending).await;
                (pending, answer, pause.is_none())
            });
        }
        let mut settled = 0;
        while let Some(call) = calls.join_next().await {
            // One that panicked is tried again like one whose process died.
            let Ok((pending, answer, last)) = call else { continue };
            match answer {
                Ok(()) => settled += usize::from(self.desk.settle_coupon(&pending, None).await?),
                Err(why) if last => settled += usize::from(self.desk.settle_coupon(&pending, Some(&why)).await?),
                Err(why) => tracing::warn!(rule = pending.rule, why, "a coupon was not given; trying again"),
            }
        }
        Ok(settled)
    }
}

/// Asks for a coupon. The id of the intervention is the same at every attempt, so that a service that knows it gives one only.
async fn ask_for(client: &Client, coupon: &Coupon, pending: &Pending) -> Result<(), String> {
    let body = json!({
        "intervention_id": pending.id,
        "rule": pending.rule,
        "ticket_id": pending.ticket_id,
        "user_id": pending.user_id,
        "amount_fen": pending.amount_fen,
    });
    let answer = client.tell(&coupon.address, coupon.token.as_deref(), DEADLINE, &pending.id, &body).await;
    answer.map_err(|error| error.to_string())
}

impl Desk {
    /// Does what a rule says of a ticket, once. Says whether it did: it may have been done, or the ticket moved on.
    ///
    /// # Errors
    ///
    /// When there is no such ticket, or the database fails.
    pub async fn intervene(&self, rule: &Rule, ticket_id: &str, at: i64) -> Result<bool, DeskError> {
        let mut locked = self.lock(ticket_id).await?;
        if !rule.when.concerns(locked.ticket.status) {
            return Ok(false);
        }
        let (month, user) = (month(at), locked.session.user_id.clone());
        let coupon = match &rule.measure {
            Measure::Coupon(coupon) => Some(coupon),
            Measure::SeniorAgent { .. } | Measure::SupervisorAlert => None,
        };
        let new = NewIntervention {
            id: new_id(),
            ticket_id,
            rule: &rule.name,
            action: rule.measure.as_str(),
            state: if coupon.is_some() { "pending" } else { "done" },
            user_id: user.as_deref(),
            amount_fen: coupon.map_or(0, |coupon| coupon.amount_fen),
            month: &month,
            at,
        };
        if !locked.tx.add_intervention(&new).await? {
            return Ok(false);
        }
        match &rule.measure {
            Measure::SeniorAgent { team } => self.give_to_seniors(locked, &rule.name, team).await?,
            Measure::SupervisorAlert => {
                let data = json!({ "intervention": rule.name, "alert_id": new.id });
                locked.finish(system_event("alert", data)).await?;
            }
            Measure::Coupon(coupon) => {
                let refusal = match user.as_deref() {
                    Some(user) => locked.tx.set_aside(&new, user, coupon).await?,
                    None => Some(Refusal::NoCustomer),
                };
                match refusal {
                    // The history tells of it when it is given.
                    None => locked.tx.commit().await?,
                    Some(refusal) => {
                        locked.tx.settle_intervention(&new.id, "refused").await?;
                        let why = refusal.as_str();
                        finish_coupon(locked, &rule.name, coupon.amount_fen, "refused", Some(why)).await?;
                    }
                }
            }
        }
        Ok(true)
    }

    async fn give_to_seniors(&self, mut locked: Locked, rule: &str, team: &str) -> Result<(), DeskError> {
        let data = json!({ "intervention": rule, "action": "senior_agent", "team": team });
        let event = system_event("intervention", data);
        locked.ticket.priority = Priority::Urgent;
        if locked.ticket.team.as_deref() == Some(team) {
            locked.ticket.updated_at = now();
            locked.finish(event).await?;
        } else {
            locked.tx.add_ticket_event(&locked.ticket.id, event).await?;
            let step = Move::Transfer { team: team.to_owned() };
            self.advance(locked, step, &Actor::system(), None, json!({ "intervention": rule })).await?;
        }
        Ok(())
    }

    /// Notes that a coupon was given, or why it was not; then the money goes back. Says whether it was still open.
    ///
    /// # Errors
    ///
    /// When there is no such ticket, or the database fails.
    async fn settle_coupon(&self, pending: &Pending, failure: Option<&str>) -> Result<bool, DeskError> {
        let mut locked = self.lock(&pending.ticket_id).await?;
        let state = if failure.is_some() { "failed" } else { "done" };
        if !locked.tx.settle_intervention(&pending.id, state).await? {
            return Ok(false);
        }
        if failure.is_some() {
            locked.tx.give_back(pending).await?;
        }
        let outcome = if failure.is_some() { "failed" } else { "given" };
        finish_coupon(locked, &pending.rule, pending.amount_fen, outcome, failure).await?;
        Ok(true)
    }

    /// Notes that somebody has seen an alert, once.
    ///
    /// # Errors
    ///
    /// When there is no such alert, or somebody has seen it before.
    pub async fn acknowledge(&self, id: &str, actor: &Actor) -> Result<Alert, InterventionError> {
        let alert = self.storage().alert(id).await?.ok_or_else(|| InterventionError::NotFound(id.to_owned()))?;
        let mut locked = self.lock(&alert.ticket.id).await?;
        if !locked.tx.acknowledge_alert(id, actor.name(), now()).await? {
            drop(locked);
            let seen = self.storage().alert(id).await?.and_then(|alert| alert.acknowledged_by);
            return Err(InterventionError::Acknowledged(seen.unwrap_or_default()));
        }
        let data = json!({ "intervention": alert.rule, "alert_id": id });
        let ticket = locked.finish(NewEvent::new("alert_acknowledged", actor.name()).with(data)).await?;
        Ok(Alert { ticket, acknowledged_by: Some(actor.name().to_owned()), ..alert })
    }
}

fn system_event(kind: &'static str, data: Value) -> NewEvent {
    NewEvent::new(kind, Actor::system().name()).with(data)
}

async fn finish_coupon(
    locked: Locked,
    rule: &str,
    amount_fen: i64,
    outcome: &str,
    why: Option<&str>,
) -> Result<(), DeskError> {
    let data = json!({ "intervention": rule, "amount_fen": amount_fen, "outcome": outcome, "why": why });
    locked.finish(system_event("coupon", data)).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_month_begins_at_midnight_in_china() {
        // 31 January 2026, 15:59:59.999 UTC.
        assert_eq!(month(1_769_875_199_999), "2026-01");
        assert_eq!(month(1_769_875_200_000), "2026-02");
    }

    #[test]
    fn an_attempt_is_over_before_the_next_one() {
        assert!(PAUSES.iter().all(|pause| *pause > DEADLINE as i64));
        assert!(PAUSES.is_sorted());
    }
}
