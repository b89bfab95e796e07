//! Interventions: what the service does by itself when a customer is badly off, by the rules of the settings.
//!
//! [`judge`] says which rules hold for a ticket; it keeps nothing and asks nobody. [`Interventions`] does what they say, each rule
//! once per ticket, whatever the number of replicas. Money is set aside in the database before a coupon is asked for, and comes back
//! when there is none.

mod runner;
mod settings;
#[cfg(test)]
mod tests;

pub use self::runner::{Alert, InterventionError, Interventions, NewIntervention, Pending, Refusal, month};
pub use self::settings::{ActionName, InterventionSettings, Occasion};
use super::Status;

/// A rule that was checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// Its name.
    pub name: String,
    /// When it holds.
    pub when: When,
    /// The categories that it is for; empty: all.
    pub categories: Vec<String>,
    /// Whether it is for VIPs only.
    pub vip_only: bool,
    /// What is done.
    pub measure: Measure,
}

/// What makes the service intervene.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum When {
    /// The customer's last messages are negative.
    NegativeInARow {
        /// So many.
        count: usize,
        /// From this probability on.
        threshold: f64,
    },
    /// A target was missed.
    TargetMissed,
    /// The customer gave at most this score.
    RatingAtMost(i64),
    /// Nobody has answered.
    WaitingOver {
        /// For longer than this.
        milliseconds: i64,
    },
}

/// What is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Measure {
    /// The ticket becomes urgent and goes to experienced people.
    SeniorAgent {
        /// Their team.
        team: String,
    },
    /// A supervisor is told.
    SupervisorAlert,
    /// The customer gets a coupon.
    Coupon(Coupon),
}

/// A coupon that a service of the shop gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Coupon {
    /// The address that is called.
    pub address: String,
    /// The environment variable that holds the bearer token.
    pub token: Option<String>,
    /// What one is worth, in fen.
    pub amount_fen: i64,
    /// What all of a month may be worth, in fen.
    pub budget_fen: i64,
    /// How many a customer may get in a month.
    pub customer_limit: i64,
}

impl Measure {
    /// The stable name.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::SeniorAgent { .. } => "senior_agent",
            Self::SupervisorAlert => "supervisor_alert",
            Self::Coupon(_) => "coupon",
        }
    }
}

/// What is known of a ticket.
#[derive(Clone, Debug, PartialEq)]
pub struct Facts {
    /// Where it stands.
    pub status: Status,
    /// What it is about.
    pub category: Option<String>,
    /// Whether the customer is a VIP.
    pub vip: bool,
    /// Probabilities that the customer's messages are negative, oldest first, from the one that led to the ticket.
    pub mood: Vec<f64>,
    /// Whether a target was missed.
    pub missed: bool,
    /// How the customer judged the help.
    pub rating: Option<i64>,
    /// Since when it is in its queue, in milliseconds since 1970.
    pub queued_at: i64,
}

impl When {
    /// Whether a ticket in this state is looked at.
    pub fn concerns(self, status: Status) -> bool {
        match self {
            Self::NegativeInARow { .. } | Self::TargetMissed => status.is_open(),
            Self::RatingAtMost(_) => matches!(status, Status::Resolved | Status::Closed),
            Self::WaitingOver { .. } => matches!(status, Status::New | Status::Assigned),
        }
    }

    fn holds(self, facts: &Facts, now: i64) -> bool {
        match self {
            Self::NegativeInARow { count, threshold } => {
                let last = &facts.mood[facts.mood.len().saturating_sub(count)..];
                last.len() == count && last.iter().all(|negative| *negative >= threshold)
            }
            Self::TargetMissed => facts.missed,
            Self::RatingAtMost(score) => facts.rating.is_some_and(|rating| rating <= score),
            Self::WaitingOver { milliseconds } => now - facts.queued_at > milliseconds,
        }
    }
}

/// The rules that hold for a ticket at a moment, in milliseconds since 1970.
pub fn judge<'a>(rules: &'a [Rule], facts: &Facts, now: i64) -> Vec<&'a Rule> {
    let concerned = |rule: &&Rule| {
        let known = |category: &String| Some(category) == facts.category.as_ref();
        (rule.categories.is_empty() || rule.categories.iter().any(known)) && (facts.vip || !rule.vip_only)
    };
    let holds = |rule: &&Rule| rule.when.concerns(facts.status) && rule.when.holds(facts, now);
    rules.iter().filter(concerned).filter(holds).collect()
}
