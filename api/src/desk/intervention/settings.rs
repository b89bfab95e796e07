//! What the configuration file says of interventions.

use serde::{Deserialize, Serialize};

use super::{Coupon, Measure, Rule, When};
use crate::desk::settings::TeamSettings;
use crate::request::{bearer, check_address};

/// Most messages that must be negative in a row, and most coupons of a customer.
const MOST: i64 = 100;
/// Most seconds of waiting: a week.
const MOST_SECONDS: u32 = 7 * 24 * 3600;
/// Dearest coupon and largest budget, in fen: ten million yuan.
const MOST_FEN: i64 = 1_000_000_000;

/// What makes the service intervene.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Occasion {
    /// The customer's last messages are negative.
    NegativeInARow,
    /// A target was missed.
    TargetMissed,
    /// The customer judged the help badly.
    RatingAtMost,
    /// Nobody has answered for long.
    WaitingOverSeconds,
}

/// What the service does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ActionName {
    /// The ticket goes to experienced people.
    SeniorAgent,
    /// A supervisor is told.
    SupervisorAlert,
    /// The customer gets a coupon from a service of the shop.
    Coupon,
}

/// A rule: one of `[[desk.intervention]]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InterventionSettings {
    /// Its name, which its history and its budget are kept under.
    pub name: String,
    /// When it holds.
    pub when: Occasion,
    /// Of `negative_in_a_row`: how many messages.
    #[serde(default)]
    pub count: Option<i64>,
    /// Of `negative_in_a_row`: from which probability on a message counts as negative.
    #[serde(default)]
    pub threshold: Option<f64>,
    /// Of `rating_at_most`: the highest score, 1 to 5.
    #[serde(default)]
    pub score: Option<i64>,
    /// Of `waiting_over_seconds`: how long.
    #[serde(default)]
    pub seconds: Option<u32>,
    /// The categories that it is for; all when left out.
    #[serde(default)]
    pub categories: Vec<String>,
    /// Whether it is for VIPs only.
    #[serde(default)]
    pub vip: bool,
    /// What is done.
    pub action: ActionName,
    /// Of `senior_agent`: the team that gets the ticket.
    #[serde(default)]
    pub team: Option<String>,
    /// Of `senior_agent`, instead of `team`: a skill; the first team of the settings that serves it gets the ticket.
    #[serde(default)]
    pub skill: Option<String>,
    /// Of `coupon`: the address that is called.
    #[serde(default)]
    pub address: Option<String>,
    /// Of `coupon`: the environment variable that holds the bearer token, if one is wanted.
    #[serde(default)]
    pub token: Option<String>,
    /// Of `coupon`: what one is worth.
    #[serde(default)]
    pub amount_fen: Option<i64>,
    /// Of `coupon`: what all of a month may be worth.
    #[serde(default)]
    pub budget_fen: Option<i64>,
    /// Of `coupon`: how many a customer may get in a month.
    #[serde(default)]
    pub customer_limit: Option<i64>,
}

/// Collects what is wrong with one rule.
struct Check<'a> {
    name: &'a str,
    problems: Vec<String>,
}

impl Check<'_> {
    fn add(&mut self, problem: &str) {
        self.problems.push(format!("[[desk.intervention]] {:?}: {problem}", self.name));
    }

    /// A number that must be there, within limits.
    fn number(&mut self, field: &str, value: Option<i64>, least: i64, most: i64) -> i64 {
        match value {
            Some(value) if (least..=most).contains(&value) => value,
            Some(value) => {
                self.add(&format!("`{field}` is {value}; write a number from {least} to {most}"));
                least
            }
            None => {
                self.add(&format!("`{field}` is missing; write a number from {least} to {most}"));
                least
            }
        }
    }
}

impl Rule {
    /// The rules that the settings say.
    ///
    /// # Errors
    ///
    /// All that is wrong, a sentence each.
    pub fn all(settings: &[InterventionSettings], teams: &[TeamSettings]) -> Result<Vec<Self>, Vec<String>> {
        let (mut rules, mut problems) = (Vec::new(), Vec::new());
        for (number, setting) in settings.iter().enumerate() {
            let mut check = Check { name: &setting.name, problems: Vec::new() };
            if settings[..number].iter().any(|other| other.name == setting.name) {
                check.add("the name is there twice; give every rule its own");
            }
            rules.push(rule(setting, teams, &mut check));
            problems.append(&mut check.problems);
        }
        if problems.is_empty() { Ok(rules) } else { Err(problems) }
    }
}

fn rule(setting: &InterventionSettings, teams: &[TeamSettings], check: &mut Check<'_>) -> Rule {
    if setting.name.trim().is_empty() || setting.name.chars().count() > 64 || setting.name.chars().any(char::is_control)
    {
        check.add("`name` must have 1 to 64 characters, none of them a control character");
    }
    let (occasion, action) = (setting.when, setting.action);
    let negative = occasion == Occasion::NegativeInARow;
    let coupon = action == ActionName::Coupon;
    // What belongs to another occasion or action was meant to do something, and would not.
    for (field, given, belongs) in [
        ("count", setting.count.is_some(), negative),
        ("threshold", setting.threshold.is_some(), negative),
        ("score", setting.score.is_some(), occasion == Occasion::RatingAtMost),
        ("seconds", setting.seconds.is_some(), occasion == Occasion::WaitingOverSeconds),
        ("team", setting.team.is_some(), action == ActionName::SeniorAgent),
        ("skill", setting.skill.is_some(), action == ActionName::SeniorAgent),
        ("address", setting.address.is_some(), coupon),
        ("token", setting.token.is_some(), coupon),
        ("amount_fen", setting.amount_fen.is_some(), coupon),
        ("budget_fen", setting.budget_fen.is_some(), coupon),
        ("customer_limit", setting.customer_limit.is_some(), coupon),
    ] {
        if given && !belongs {
            check.add(&format!("`{field}` does not belong to its `when` or `action`; remove it"));
        }
    }
    let when = match occasion {
        Occasion::NegativeInARow => {
            let threshold = setting.threshold.unwrap_or(0.6);
            if !(threshold > 0.0 && threshold <= 1.0) {
                check.add(&format!("`threshold` is {threshold}; write a probability above 0 and up to 1, such as 0.6"));
            }
            let count = check.number("count", setting.count, 1, MOST);
            When::NegativeInARow { count: usize::try_from(count).unwrap_or(1), threshold }
        }
        Occasion::TargetMissed => When::TargetMissed,
        Occasion::RatingAtMost => When::RatingAtMost(check.number("score", setting.score, 1, 5)),
        Occasion::WaitingOverSeconds => {
            let seconds = check.number("seconds", setting.seconds.map(i64::from), 1, i64::from(MOST_SECONDS));
            When::WaitingOver { milliseconds: seconds * 1000 }
        }
    };
    let measure = match action {
        ActionName::SeniorAgent => Measure::SeniorAgent { team: senior_team(setting, teams, check) },
        ActionName::SupervisorAlert => Measure::SupervisorAlert,
        ActionName::Coupon => Measure::Coupon(offered(setting, check)),
    };
    if occasion == Occasion::RatingAtMost && action == ActionName::SeniorAgent {
        check.add("a ticket is rated when it is done, and nobody works on it then; choose supervisor_alert or coupon");
    }
    Rule { name: setting.name.clone(), when, categories: setting.categories.clone(), vip_only: setting.vip, measure }
}

fn senior_team(setting: &InterventionSettings, teams: &[TeamSettings], check: &mut Check<'_>) -> String {
    match (&setting.team, &setting.skill) {
        (Some(team), None) if !team.trim().is_empty() => team.clone(),
        (None, Some(skill)) => match teams.iter().find(|team| team.skills.contains(skill)) {
            Some(team) => team.name.clone(),
            None => {
                check.add(&format!(
                    "no team of [[desk.teams]] lists the skill {skill:?}; add it there, or name a `team`"
                ));
                String::new()
            }
        },
        _ => {
            check.add("senior_agent wants either `team` or `skill`, to know who gets the ticket");
            String::new()
        }
    }
}

fn offered(setting: &InterventionSettings, check: &mut Check<'_>) -> Coupon {
    let address = setting.address.clone().unwrap_or_default();
    if let Err(problem) = check_address(&address) {
        check.add(&format!("`address` {problem}"));
    }
    if let Some(Err(problem)) = setting.token.as_deref().map(bearer) {
        check.add(&problem);
    }
    let amount_fen = check.number("amount_fen", setting.amount_fen, 1, MOST_FEN);
    let budget_fen = check.number("budget_fen", setting.budget_fen, 1, MOST_FEN);
    if amount_fen > budget_fen {
        check.add("`amount_fen` is more than `budget_fen`, so that no coupon could ever be given");
    }
    let customer_limit = check.number("customer_limit", setting.customer_limit.or(Some(1)), 1, MOST);
    Coupon { address, token: setting.token.clone(), amount_fen, budget_fen, customer_limit }
}
