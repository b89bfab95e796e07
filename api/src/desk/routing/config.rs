//! The settings of routing.

use serde::{Deserialize, Serialize};

use crate::desk::ticket::Priority;

/// A number for each priority.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PerPriority {
    /// For low tickets.
    pub low: u32,
    /// For medium ones.
    pub medium: u32,
    /// For high ones.
    pub high: u32,
    /// For urgent ones.
    pub urgent: u32,
}

impl PerPriority {
    /// The number for a priority.
    pub fn of(&self, priority: Priority) -> u32 {
        match priority {
            Priority::Low => self.low,
            Priority::Medium => self.medium,
            Priority::High => self.high,
            Priority::Urgent => self.urgent,
        }
    }
}

/// How tickets are given to agents. Docs/routing.md tells the whole of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RoutingConfig {
    /// What the highest skill level (3) is worth; lower levels are worth their share of it: 1.
    pub skill_weight: f64,
    /// What it is worth that this agent served the customer last: 0.4.
    pub last_agent_weight: f64,
    /// What it is worth to have nothing to do; half of it for an agent who is half full: 0.5.
    pub load_weight: f64,
    /// Load units of every agent of the VIP lane that only VIPs may take: 1.
    pub vip_reserved_units: u32,
    /// Seconds in which a VIP is to be given to somebody. It changes nothing; an assignment that took longer says so: 10.
    pub vip_target_seconds: u32,
    /// Seconds after which a VIP may be given to any team of the house: 5.
    pub vip_overflow_seconds: u32,
    /// Seconds in which an agent must accept a ticket before it is given to another: 20.
    pub accept_seconds: u32,
    /// Seconds by which a ticket goes before others that came at the same time: 0 for low, 60 for medium, 180 for high, 600 for
    /// urgent ones. No ticket waits for one that came later than the difference, so none waits for ever.
    pub head_start_seconds: PerPriority,
    /// Seconds by which a ticket goes before others where an agent knows its intent, outside of the VIP lane: 300. It keeps agents
    /// at what they know while there is a queue, and nobody waits for it while there is none. 0: the order knows no skills.
    pub skill_head_start_seconds: u32,
    /// Load units of a ticket: 1, and 2 for an urgent one.
    pub load_units: PerPriority,
}

impl Default for RoutingConfig {
    fn default() -> Self {
        Self {
            skill_weight: 1.0,
            last_agent_weight: 0.4,
            load_weight: 0.5,
            vip_reserved_units: 1,
            vip_target_seconds: 10,
            vip_overflow_seconds: 5,
            accept_seconds: 20,
            head_start_seconds: PerPriority { low: 0, medium: 60, high: 180, urgent: 600 },
            skill_head_start_seconds: 300,
            load_units: PerPriority { low: 1, medium: 1, high: 1, urgent: 2 },
        }
    }
}

impl RoutingConfig {
    /// All that is wrong with these settings, a sentence each, naming the field.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let weights = [
            ("skill_weight", self.skill_weight),
            ("last_agent_weight", self.last_agent_weight),
            ("load_weight", self.load_weight),
        ];
        for (name, weight) in weights {
            if !(0.0..=1000.0).contains(&weight) {
                problems.push(format!("`{name}` is {weight}; write a number from 0 to 1000"));
            }
        }
        if self.accept_seconds == 0 {
            problems.push("`accept_seconds` is 0, so that nobody could accept a ticket; write at least 1".to_owned());
        }
        let units = self.load_units;
        for (name, units) in
            [("low", units.low), ("medium", units.medium), ("high", units.high), ("urgent", units.urgent)]
        {
            if units == 0 {
                problems.push(format!(
                    "`load_units.{name}` is 0, so that one agent could get all such tickets; write at least 1"
                ));
            }
        }
        problems
    }
}
