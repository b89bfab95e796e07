//! What the configuration file says of surveys.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::SurveyKind;
use crate::request::check_address;

/// The channel of our own chat page.
const OUR_PAGE: &str = "web";
const HOUR: i64 = 3_600_000;
const DAY: i64 = 24 * HOUR;
/// Longest time that may be written, in days and in hours.
const MOST_DAYS: u32 = 3650;

/// The table `[desk.survey]` of the configuration file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SurveySettings {
    /// Whether customers are asked to rate the help when their ticket is closed.
    pub send: bool,
    /// Hours after which a resolved ticket is closed by the service; 0: never.
    pub close_after_hours: u32,
    /// Where customers reach this service, such as `https://kefu.example.com`. Without it links are relative, which only our own
    /// chat page understands.
    pub public_url: Option<String>,
    /// Days for which a survey can be answered, and waits to be sent.
    pub expires_days: u32,
    /// The words before the link to the survey.
    pub text: String,
    /// Share of the customers, 0 to 1, who are asked how likely they recommend us.
    pub nps_share: f64,
    /// Chooses the customers; another number, other customers.
    pub nps_seed: u64,
    /// Days after the end of a ticket.
    pub nps_after_days: u32,
    /// Days in which a customer is asked at most once.
    pub nps_every_days: u32,
    /// The words before the link to that survey.
    pub nps_text: String,
}

impl Default for SurveySettings {
    fn default() -> Self {
        Self {
            send: true,
            close_after_hours: 24,
            public_url: None,
            expires_days: 14,
            text: "本次服务已结束，请您花几秒钟评价一下：".to_owned(),
            nps_share: 0.0,
            nps_seed: 1,
            nps_after_days: 7,
            nps_every_days: 90,
            nps_text: "您有多大可能把我们推荐给朋友？请花几秒钟告诉我们：".to_owned(),
        }
    }
}

/// A survey that is to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::desk) struct Planned {
    pub(in crate::desk) kind: SurveyKind,
    pub(in crate::desk) due_at: i64,
    pub(in crate::desk) expires_at: i64,
}

impl SurveySettings {
    /// All that is wrong, a sentence each, naming the field.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if let Some(address) = &self.public_url {
            if let Err(problem) = check_address(address) {
                problems.push(format!("`public_url` {problem}"));
            } else if address.trim_end_matches('/').matches('/').count() != 2 || address.contains(['?', '#']) {
                problems.push(format!(
                    "`public_url` is {address:?}; write it without a path, such as https://kefu.example.com"
                ));
            }
        }
        if !(0.0..=1.0).contains(&self.nps_share) {
            problems.push(format!("`nps_share` is {}; write a share from 0 to 1, such as 0.1", self.nps_share));
        }
        for (name, days) in [("expires_days", self.expires_days), ("nps_every_days", self.nps_every_days)] {
            if !(1..=MOST_DAYS).contains(&days) {
                problems.push(format!("`{name}` is {days}; write a number of days from 1 to {MOST_DAYS}"));
            }
        }
        if self.nps_after_days > MOST_DAYS {
            problems.push(format!("`nps_after_days` is {}; write at most {MOST_DAYS}", self.nps_after_days));
        }
        if self.close_after_hours > 24 * MOST_DAYS {
            problems.push(format!(
                "`close_after_hours` is {}; write at most {}",
                self.close_after_hours,
                24 * MOST_DAYS
            ));
        }
        for (name, text) in [("text", &self.text), ("nps_text", &self.nps_text)] {
            if text.trim().is_empty() || text.chars().count() > 500 || text.contains('\0') {
                problems.push(format!("`{name}` must have 1 to 500 characters: customers read it before the link"));
            }
        }
        problems
    }

    /// The words before a link.
    pub(super) fn words(&self, kind: SurveyKind) -> &str {
        match kind {
            SurveyKind::Csat => &self.text,
            SurveyKind::Nps => &self.nps_text,
        }
    }

    /// Milliseconds between two invitations of a customer.
    pub(super) fn nps_every(&self) -> i64 {
        i64::from(self.nps_every_days) * DAY
    }

    /// Tickets that were resolved up to this moment are closed at `now`.
    pub(super) fn closed_up_to(&self, now: i64) -> Option<i64> {
        (self.close_after_hours > 0).then(|| now - i64::from(self.close_after_hours) * HOUR)
    }

    /// The surveys of a customer's ticket that was resolved at a moment and is closed at `now`. What was resolved too long ago is not
    /// asked about: nobody remembers.
    pub(in crate::desk) fn plan(
        &self,
        resolved_at: Option<i64>,
        user_id: Option<&str>,
        channel: &str,
        now: i64,
    ) -> Vec<Planned> {
        let lasts = i64::from(self.expires_days) * DAY;
        // A link without a host means something on our own page only.
        let can_open = self.public_url.is_some() || channel == OUR_PAGE;
        if !can_open || resolved_at.is_some_and(|at| now - at > lasts) {
            return Vec::new();
        }
        let mut planned = Vec::new();
        if self.send {
            planned.push(Planned { kind: SurveyKind::Csat, due_at: now, expires_at: now + lasts });
        }
        if user_id.is_some_and(|user| self.samples(user)) {
            let due_at = now + i64::from(self.nps_after_days) * DAY;
            planned.push(Planned { kind: SurveyKind::Nps, due_at, expires_at: due_at + lasts });
        }
        planned
    }

    /// Whether a customer is among those who are asked how likely they recommend us: a hash, so the same on every replica and
    /// after every restart.
    pub fn samples(&self, user_id: &str) -> bool {
        let hash = Sha256::new().chain_update(self.nps_seed.to_le_bytes()).chain_update(user_id).finalize();
        let number = hash.iter().take(8).fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
        // The upper 53 bits are what a number in [0, 1) can hold.
        ((number >> 11) as f64 / (1_u64 << 53) as f64) < self.nps_share
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_a_share_and_always_the_same() {
        let of = |share: f64, seed: u64| SurveySettings { nps_share: share, nps_seed: seed, ..Default::default() };
        let users: Vec<String> = (0..20_000).map(|number| format!("user-{number}")).collect();
        let chosen = |settings: &SurveySettings| users.iter().filter(|user| settings.samples(user)).count();
        assert_eq!((chosen(&of(0.0, 1)), chosen(&of(1.0, 1))), (0, users.len()));
        let tenth = chosen(&of(0.1, 1));
        assert!((1_850..2_150).contains(&tenth), "{tenth} of 20000");
        assert_eq!(tenth, chosen(&of(0.1, 1)));
        let (one, other) = (of(0.5, 1), of(0.5, 2));
        let both = users.iter().filter(|user| one.samples(user) && other.samples(user)).count();
        assert!((4_700..5_300).contains(&both), "another seed is another sample: {both}");
        assert!(users.iter().filter(|user| of(0.1, 1).samples(user)).all(|user| of(0.5, 1).samples(user)));
    }

    #[test]
    fn what_is_asked_and_when() {
        let settings = SurveySettings { nps_share: 1.0, ..Default::default() };
        let now = 1_800_000_000_000;
        let csat = Planned { kind: SurveyKind::Csat, due_at: now, expires_at: now + 14 * DAY };
        let nps = Planned { kind: SurveyKind::Nps, due_at: now + 7 * DAY, expires_at: now + 21 * DAY };
        assert_eq!(settings.plan(Some(now - DAY), Some("u"), OUR_PAGE, now), [csat, nps]);
        assert_eq!(settings.plan(Some(now - DAY), None, OUR_PAGE, now), [csat], "nobody knows who they are");
        assert_eq!(settings.plan(Some(now - 14 * DAY), None, OUR_PAGE, now), [csat]);
        assert_eq!(settings.plan(Some(now - 14 * DAY - 1), Some("u"), OUR_PAGE, now), [], "that was long ago");
        let silent = SurveySettings { send: false, ..settings.clone() };
        assert_eq!(silent.plan(None, Some("u"), OUR_PAGE, now), [nps]);
        assert_eq!(SurveySettings::default().plan(None, Some("u"), OUR_PAGE, now), [csat], "a share of 0 asks nobody");
        assert_eq!(settings.plan(None, Some("u"), "api", now), [], "nobody there could open the link");
        let site = SurveySettings { public_url: Some("https://kefu.example.com".to_owned()), ..settings };
        assert_eq!(site.plan(None, Some("u"), "api", now), [csat, nps]);
    }

    #[test]
    fn problems_name_the_field() {
        assert_eq!(SurveySettings::default().problems(), Vec::<String>::new());
        let fine = SurveySettings { public_url: Some("https://kefu.example.com/".to_owned()), ..Default::default() };
        assert_eq!(fine.problems(), Vec::<String>::new());
        let wrong = |url: &str| SurveySettings { public_url: Some(url.to_owned()), ..Default::default() }.problems();
        for url in ["", "kefu.example.com", "ftp://a", "https://a/b", "https://a/?b", "https://a?b", "https://u@a"] {
            assert!(wrong(url).iter().any(|problem| problem.contains("public_url")), "{url}: {:?}", wrong(url));
        }
        let wrong = SurveySettings {
            nps_share: f64::NAN,
            expires_days: 0,
            nps_every_days: 0,
            nps_after_days: 10_000,
            close_after_hours: u32::MAX,
            text: " ".to_owned(),
            nps_text: "长".repeat(501),
            ..Default::default()
        };
        let problems = wrong.problems();
        for field in
            ["nps_share", "expires_days", "nps_every_days", "nps_after_days", "close_after_hours", "`text`", "nps_text"]
        {
            assert!(problems.iter().any(|problem| problem.contains(field)), "{field}: {problems:?}");
        }
    }
}
