//! Surveys: customers are asked how the help was (CSAT, 1 to 5), and a sample of them, later, how likely they recommend us (NPS, 0 to
//! 10; Reichheld, "The One Number You Need to Grow", Harvard Business Review, December 2003).
//!
//! A survey is made in the transaction that closes its ticket. Any number of replicas may send what is due: the session's lock lets
//! only one of them.

mod link;
mod settings;

use std::str::FromStr;
use std::time::Duration;

use serde_json::json;
use yingda_engine::Role;

pub use self::settings::SurveySettings;
use super::{Actor, Desk, DeskError, Rating};
use crate::auth::{self, KeyError};
use crate::rounds::Rounds;
use crate::storage::{NewEvent, NewTurn, Owner, Storage, StorageError, new_id, now};

const SECOND: i64 = 1000;
/// The lease on this work, and for how long it is taken.
const LEASE: &str = "surveys";
const LEASE_MILLISECONDS: i64 = 30 * SECOND;
/// How often it is looked for work.
const TICK: Duration = Duration::from_secs(2);
/// Surveys and tickets that are worked on in one go.
const AT_ONCE: i64 = 100;
/// The secret that signs links.
const SECRET: &str = "surveys";
/// What the turn that holds a link was decided as.
pub const DECISION: &str = "survey";

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SurveyKind {
    /// How the help was, 1 to 5.
    Csat,
    /// How likely they recommend us, 0 to 10.
    Nps,
}

impl SurveyKind {
    /// The stable name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Csat => "csat",
            Self::Nps => "nps",
        }
    }

    /// The scores that can be given.
    pub fn scores(self) -> std::ops::RangeInclusive<i64> {
        match self {
            Self::Csat => 1..=5,
            Self::Nps => 0..=10,
        }
    }
}

impl FromStr for SurveyKind {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        [Self::Csat, Self::Nps].into_iter().find(|kind| kind.as_str() == text).ok_or(())
    }
}

/// One survey. Times are milliseconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Survey {
    /// Its id.
    pub id: String,
    /// The ticket that it is about, or came after.
    pub ticket_id: String,
    /// What is asked.
    pub kind: SurveyKind,
    /// The session in which it is sent.
    pub session_id: String,
    /// The customer, if they are known.
    pub user_id: Option<String>,
    /// When it may be sent.
    pub due_at: i64,
    /// When it was.
    pub sent_at: Option<i64>,
    /// Until when it can be sent and answered.
    pub expires_at: i64,
    /// When it was answered.
    pub answered_at: Option<i64>,
}

/// Why a survey cannot be answered, or sent.
#[derive(Debug, thiserror::Error)]
pub enum SurveyError {
    /// The link is none of ours, or was changed.
    #[error("the link to the survey is not complete, or was changed")]
    Link,
    /// There is no such survey.
    #[error("there is no such survey")]
    NotFound,
    /// Its time is over.
    #[error("the survey has expired")]
    Expired,
    /// It was answered, or the ticket was rated in another way.
    #[error("the survey was answered before")]
    Answered,
    /// The rating cannot be kept.
    #[error(transparent)]
    Desk(#[from] DeskError),
    /// The secret that signs links cannot be made or read.
    #[error(transparent)]
    Key(#[from] KeyError),
}

impl From<StorageError> for SurveyError {
    fn from(error: StorageError) -> Self {
        Self::Desk(error.into())
    }
}

/// Sends surveys, and takes their answers.
pub struct Surveys {
    storage: Storage,
    desk: Desk,
    settings: SurveySettings,
    /// Tells replicas apart.
    holder: String,
}

impl Surveys {
    /// Of settings that have no [`SurveySettings::problems`].
    pub fn new(storage: Storage, settings: SurveySettings) -> Self {
        let desk = Desk::with_surveys(storage.clone(), settings.clone());
        Self { storage, desk, settings, holder: new_id() }
    }

    /// Works for as long as it is polled. What fails is told once and tried again.
    pub async fn run(&self) {
        let mut rounds = Rounds::new(TICK, "surveys are not sent at the moment");
        loop {
            rounds.next().await;
            rounds.ended(self.tick().await);
        }
    }

    async fn tick(&self) -> Result<(), SurveyError> {
        if self.storage.take_lease(LEASE, &self.holder, now() + LEASE_MILLISECONDS).await? {
            self.close_resolved(now()).await?;
            self.send_due(now()).await?;
        }
        Ok(())
    }

    /// Closes tickets that were resolved long enough ago and not reopened. Returns how many. `now` in milliseconds since 1970.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn close_resolved(&self, now: i64) -> Result<usize, SurveyError> {
        let Some(until) = self.settings.closed_up_to(now) else { return Ok(0) };
        let mut closed = 0;
        for id in self.storage.resolved_up_to(until, AT_ONCE).await? {
            closed += usize::from(self.desk.close_resolved(&id, until).await?);
        }
        Ok(closed)
    }

    /// Sends what is due to sessions that are the bot's; what people have waits, until it has expired. Returns how many were sent.
    /// `now` in milliseconds since 1970.
    ///
    /// # Errors
    ///
    /// When the database fails, or there is no secret to sign with.
    pub async fn send_due(&self, now: i64) -> Result<usize, SurveyError> {
        self.storage.remove_expired_surveys(now).await?;
        let due = self.storage.due_surveys(now, AT_ONCE).await?;
        let mut sent = 0;
        for survey in due {
            sent += usize::from(self.send(&survey, now).await?);
        }
        Ok(sent)
    }

    /// Sends a survey, if nobody has, the session is the bot's and it still makes sense. Nothing comes between the steps of a guided
    /// flow. Says whether it did.
    async fn send(&self, survey: &Survey, now: i64) -> Result<bool, SurveyError> {
        let link = self.link(survey).await?;
        let mut tx = self.storage.begin().await?;
        let mut session = tx.lock_existing_session(&survey.session_id).await?;
        let silent = session.owner != Owner::Bot || session.flow.is_some();
        if silent || !tx.mark_survey_sent(&survey.id, now).await? {
            return Ok(false);
        }
        let wanted = match survey.kind {
            SurveyKind::Csat => !tx.is_rated(&survey.ticket_id).await?,
            SurveyKind::Nps => {
                let user = survey.user_id.as_deref().unwrap_or_default();
                tx.invite(user, now, now - self.settings.nps_every()).await?
            }
        };
        if !wanted {
            tx.remove_survey(&survey.id).await?;
            tx.commit().await?;
            return Ok(false);
        }
        let text = format!("{}{link}", self.settings.words(survey.kind));
        let turn = NewTurn { text, decision: Some(DECISION.to_owned()), ..NewTurn::default() };
        let seq = tx.add_turn(&mut session, Role::Bot, turn).await?;
        let data = json!({ "survey": survey.kind.as_str(), "seq": seq });
        tx.add_ticket_event(&survey.ticket_id, NewEvent::new("survey_sent", Actor::system().name()).with(data)).await?;
        tx.commit().await?;
        Ok(true)
    }

    /// The link to a survey: relative when nobody said where customers reach this service.
    ///
    /// # Errors
    ///
    /// When the database fails, or there is no secret to sign with.
    pub async fn link(&self, survey: &Survey) -> Result<String, SurveyError> {
        let token = link::token(&self.secret().await?, &survey.id, survey.expires_at);
        let site = self.settings.public_url.as_deref().unwrap_or_default().trim_end_matches('/');
        Ok(format!("{site}/survey/{token}"))
    }

    /// The secret that signs links, made by the first of all replicas that asks.
    async fn secret(&self) -> Result<Vec<u8>, SurveyError> {
        let secret = match self.storage.secret(SECRET).await? {
            Some(secret) => secret,
            None => self.storage.add_secret(SECRET, &auth::secret()?).await?,
        };
        hex::decode(&secret).map_err(|_| StorageError::Unknown { what: "the secret", value: SECRET.to_owned() }.into())
    }

    /// The survey that a link names, if it can be answered at `now`.
    ///
    /// # Errors
    ///
    /// When the link was changed, there is no such survey, it has expired or was answered, or the database fails.
    pub async fn open(&self, token: &str, now: i64) -> Result<Survey, SurveyError> {
        let secret = self.secret().await?;
        let (id, expires_at) = link::read(&secret, token).ok_or(SurveyError::Link)?;
        let survey = self.storage.survey(id).await?.ok_or(SurveyError::NotFound)?;
        let rated = survey.kind == SurveyKind::Csat && self.storage.rating(&survey.ticket_id).await?.is_some();
        if survey.answered_at.is_some() || rated {
            Err(SurveyError::Answered)
        } else if expires_at <= now {
            Err(SurveyError::Expired)
        } else {
            Ok(survey)
        }
    }

    /// Keeps the answer to a survey, once. The comment is masked already, and the score is among [`SurveyKind::scores`].
    ///
    /// # Errors
    ///
    /// As [`Surveys::open`], and when the ticket was begun again.
    pub async fn answer(&self, survey: &Survey, answer: &Rating, now: i64) -> Result<(), SurveyError> {
        match survey.kind {
            SurveyKind::Csat => {
                self.desk.answer_survey(survey, answer, now).await?;
            }
            SurveyKind::Nps => {
                let mut tx = self.storage.begin().await?;
                if !tx.answer_survey(&survey.id, answer, now).await? {
                    return Err(SurveyError::Answered);
                }
                tx.commit().await?;
            }
        }
        Ok(())
    }
}
