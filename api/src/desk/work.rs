//! What people and the service do with tickets.

mod service;
mod sharing;
mod writing;

use serde_json::{Map, Value, json};
use yingda_engine::Role;

use super::sharing::{BY, Sees};
use super::survey::{Survey, SurveySettings};
use super::ticket::{Action, Move, Priority, Status, Ticket, difference};
use super::{Actor, Amendment, DeskError, Form, Rating};
use crate::storage::{
    Correction, NewEvent, NewTicket, NewTurn, Session, SessionDetails, Storage, StorageError, Tx, new_id, now,
};

/// Opens the ticket of a locked session, or adds to the one that is open; says which, and whether it is new.
///
/// # Errors
///
/// When the database fails.
pub async fn escalate(tx: &mut Tx, session: &mut Session, new: NewTicket) -> Result<(String, bool), StorageError> {
    let by = if new.source == "escalation" { "bot" } else { new.source };
    let data = json!({ "reason": new.reason, "detail": new.detail, "seq": new.to_seq });
    let (id, opened) = match tx.open_ticket_of(&session.id).await? {
        Some(mut ticket) => {
            let before = ticket.told();
            // The customer has written, and an open ticket always allows that; what is more urgent now makes it so.
            if ticket.make(&Move::CustomerMessage, &Actor::customer(), now()).is_ok() {
                ticket.priority = ticket.priority.max(new.priority);
                tx.update_ticket(&ticket).await?;
            }
            let event = NewEvent::new("escalated_again", by).with(data).change(&before, &ticket.told());
            tx.add_ticket_event(&ticket.id, event).await?;
            (ticket.id, false)
        }
        None => {
            let ticket = tx.add_ticket(&new).await?;
            let event = NewEvent::new("opened", by).with(data).change(&Map::new(), &ticket.told());
            tx.add_ticket_event(&ticket.id, event).await?;
            (ticket.id, true)
        }
    };
    let agent = session.owner_agent.clone();
    tx.give_to_agent(session, agent.as_deref()).await?;
    Ok((id, opened))
}

/// Notes in the open ticket of a locked session that its customer has written turn `seq`. Returns the ticket's id.
///
/// # Errors
///
/// When the database fails.
pub async fn customer_wrote(tx: &mut Tx, session: &Session, seq: i64) -> Result<Option<String>, StorageError> {
    let Some(mut ticket) = tx.open_ticket_of(&session.id).await? else { return Ok(None) };
    let before = ticket.told();
    // An open ticket always allows it.
    if ticket.make(&Move::CustomerMessage, &Actor::customer(), now()).is_ok() {
        tx.update_ticket(&ticket).await?;
    }
    let event = NewEvent::new(Action::CustomerMessage.event(), "customer").with(json!({ "seq": seq }));
    tx.add_ticket_event(&ticket.id, event.change(&before, &ticket.told())).await?;
    Ok(Some(ticket.id))
}

/// Closes the open ticket of a locked session because its customer needs nobody any more, and gives the session back to the bot.
/// Returns the ticket's id, or `None` where it cannot be called off.
///
/// # Errors
///
/// When the database fails.
pub async fn call_off(tx: &mut Tx, session: &mut Session) -> Result<Option<String>, StorageError> {
    let Some(mut ticket) = tx.open_ticket_of(&session.id).await? else { return Ok(None) };
    let before = ticket.told();
    let actor = Actor::customer();
    if ticket.make(&Move::CallOff, &actor, now()).is_err() {
        return Ok(None);
    }
    tx.update_ticket(&ticket).await?;
    let event = NewEvent::new(Action::CallOff.event(), actor.name()).with(json!({ "why": "called_off" }));
    tx.add_ticket_event(&ticket.id, event.change(&before, &ticket.told())).await?;
    tx.give_to_bot(session).await?;
    Ok(Some(ticket.id))
}

/// What people do with tickets.
#[derive(Clone, Debug)]
pub struct Desk {
    storage: Storage,
    surveys: SurveySettings,
    /// Whose people work at it: an outside organisation's, for whom there is only what is shared with it; `None`: the house's.
    organisation: Option<String>,
}

/// A ticket whose session is locked.
pub(super) struct Locked {
    pub(super) tx: Tx,
    pub(super) session: Session,
    pub(super) ticket: Ticket,
    before: Map<String, Value>,
    /// Whose people are at it, if they are from outside.
    organisation: Option<String>,
}

impl Locked {
    /// Makes sure that another ticket exists for the people who are at this one.
    async fn must_see(&mut self, id: &str) -> Result<(), DeskError> {
        match &self.organisation {
            Some(organisation) => {
                let share = self.tx.share(id, organisation).await?;
                share.map(drop).ok_or_else(|| DeskError::NotFound { id: id.to_owned() })
            }
            None => Ok(()),
        }
    }

    /// Stores the ticket with what was done to it.
    pub(super) async fn finish(mut self, mut event: NewEvent) -> Result<Ticket, DeskError> {
        if let Some(organisation) = self.organisation {
            event.data[BY] = Value::String(organisation);
        }
        self.tx.update_ticket(&self.ticket).await?;
        let event = event.change(&self.before, &self.ticket.told());
        self.tx.add_ticket_event(&self.ticket.id, event).await?;
        self.tx.commit().await?;
        Ok(self.ticket)
    }
}

impl Desk {
    /// A desk over a database, which asks customers as it does by default.
    pub fn new(storage: Storage) -> Self {
        Self::with_surveys(storage, SurveySettings::default())
    }

    /// A desk over a database, which asks customers as the settings say.
    pub fn with_surveys(storage: Storage, surveys: SurveySettings) -> Self {
        Self { storage, surveys, organisation: None }
    }

    /// The same desk for people of an outside organisation: what is not shared with it does not exist there.
    pub fn for_organisation(&self, organisation: Option<String>) -> Self {
        Self { organisation, ..self.clone() }
    }

    pub(super) fn storage(&self) -> &Storage {
        &self.storage
    }

    /// Opens a ticket for what somebody wrote, or adds it to the session's open one.
    ///
    /// # Errors
    ///
    /// When another message of the session has its id, or the database fails.
    pub async fn open(&self, form: Form) -> Result<Ticket, DeskError> {
        let session_id = form.session_id.unwrap_or_else(new_id);
        let channel = form.channel.unwrap_or_else(|| "form".to_owned());
        let details = SessionDetails { user_id: form.user_id, channel: Some(channel), profile: form.profile };
        let mut tx = self.storage.begin().await?;
        let mut session = tx.lock_session(&session_id, &details).await?;
        if let Some(message_id) = &form.message_id
            && let Some(stored) = tx.message(&session.id, message_id).await?
        {
            let same = stored.answer.is_none() && stored.text == form.text;
            let ticket = if same { tx.last_ticket_of(&session.id).await? } else { None };
            return ticket.ok_or(DeskError::MessageIdReused);
        }
        let sentiment = form.understood.as_ref().map(|understood| understood.sentiment);
        let likeliest = form.understood.and_then(|understood| understood.intents.into_iter().next());
        let intent = likeliest.map(|intent| (intent.label, f64::from(intent.probability)));
        let turn = NewTurn {
            text: form.text.clone(),
            sentiment,
            intent: intent.clone(),
            model: Some(form.model.clone()),
            message_id: form.message_id,
            ..NewTurn::default()
        };
        let seq = tx.add_turn(&mut session, Role::User, turn).await?;
        let ticket = NewTicket {
            session_id: session.id.clone(),
            source: form.source,
            reason: form.source.to_owned(),
            detail: String::new(),
            priority: form.priority.unwrap_or(if form.vip { Priority::High } else { Priority::Medium }),
            vip: form.vip,
            language: form.language,
            intent,
            sentiment,
            model: form.model,
            from_seq: seq,
            to_seq: seq,
        };
        let (id, _) = escalate(&mut tx, &mut session, ticket).await?;
        let ticket = tx.ticket(&id).await?.ok_or(DeskError::NotFound { id })?;
        tx.commit().await?;
        Ok(ticket)
    }

    /// Makes a ticket the actor's. Taking one's own ticket again changes nothing, and taking what one is offered accepts it.
    ///
    /// # Errors
    ///
    /// When there is no such ticket, or it is not free.
    pub async fn take(&self, id: &str, actor: &Actor) -> Result<Ticket, DeskError> {
        let locked = self.lock(id).await?;
        let ticket = &locked.ticket;
        if !ticket.status.is_open() || ticket.assignee.as_deref() != Some(actor.name()) {
            return self.advance(locked, Move::Take, actor, None, json!({ "key": actor.key_name })).await;
        }
        if ticket.accepted {
            return Ok(locked.ticket);
        }
        self.advance(locked, Move::Accept, actor, None, json!({ "key": actor.key_name })).await
    }

    /// Makes a move that only concerns this ticket and its session. `reason` is masked already, and so is `data`.
    ///
    /// # Errors
    ///
    /// When there is no such ticket, its state does not allow it, or the actor may not.
    pub async fn act(
        &self,
        id: &str,
        step: Move,
        actor: &Actor,
        reason: Option<String>,
        data: Value,
    ) -> Result<Ticket, DeskError> {
        let locked = self.lock(id).await?;
        self.advance(locked, step, actor, reason, data).await
    }

    pub(super) async fn advance(
        &self,
        mut locked: Locked,
        step: Move,
        actor: &Actor,
        reason: Option<String>,
        mut data: Value,
    ) -> Result<Ticket, DeskError> {
        let action = step.action();
        let done_at = locked.ticket.resolved_at.or(locked.ticket.closed_at);
        locked.ticket.make(&step, actor, now())?;
        if let Move::Transfer { team } = &step
            && let Some(organisation) = locked.tx.organisation_of_team(team).await?
        {
            // Whoever gets it must see it, and its history says how much.
            let known = locked.tx.share(&locked.ticket.id, &organisation.id).await?;
            let sees = match known {
                Some(share) => share.sees,
                None => locked.share(&organisation, Sees::Conversation).await?,
            };
            (data["organisation"], data["sees"]) = (json!(organisation.id), json!(sees.as_str()));
        }
        match &step {
            Move::Reopen => {
                if let Some(open) = locked.tx.open_ticket_of(&locked.session.id).await? {
                    // Of another ticket people outside learn no more than that there is one.
                    let other = if locked.must_see(&open.id).await.is_ok() { open.id } else { String::new() };
                    return Err(DeskError::AnotherIsOpen { id: locked.ticket.id, other });
                }
                let after = locked.tx.last_seq_at(&locked.session.id, done_at.unwrap_or_default()).await?;
                locked.ticket.gaps.push((after, locked.session.last_seq));
                locked.tx.give_to_agent(&mut locked.session, None).await?;
            }
            Move::Take | Move::Assign { .. } | Move::Return | Move::Transfer { .. } => {
                let assignee = locked.ticket.assignee.clone();
                locked.tx.give_to_agent(&mut locked.session, assignee.as_deref()).await?;
            }
            Move::Resolve | Move::CallOff | Move::Merge { .. } => locked.tx.give_to_bot(&mut locked.session).await?,
            Move::Close => self.plan_surveys(&mut locked).await?,
            Move::Accept | Move::Reply | Move::Wait | Move::CustomerMessage => {}
        }
        locked.finish(NewEvent::new(action.event(), actor.name()).because(reason).with(data)).await
    }

    /// Puts a ticket together with another open one of the same customer, which goes on alone.
    ///
    /// # Errors
    ///
    /// When there is no such ticket, they are not of one customer, or either is not open.
    pub async fn merge(
        &self,
        id: &str,
        into: &str,
        actor: &Actor,
        reason: Option<String>,
    ) -> Result<Ticket, DeskError> {
        let other = self.seen(into).await?;
        let why = |why| DeskError::NotTogether { id: id.to_owned(), other: into.to_owned(), why };
        if other.id == id {
            return Err(why("it is the same ticket"));
        }
        let other_user = self.storage.session(&other.session_id).await?.and_then(|session| session.user_id);
        // Both sessions are locked, in the order of their ids, before either ticket is looked at.
        let mut locked = self.lock_with(id, Some(&other.session_id)).await?;
        locked.must_see(into).await?;
        if locked.session.user_id.is_none() || locked.session.user_id != other_user {
            return Err(why("they are not known to be of the same customer"));
        }
        let other = locked.tx.ticket(into).await?.ok_or_else(|| DeskError::NotFound { id: into.to_owned() })?;
        if !other.status.is_open() {
            return Err(why("that one is done"));
        }
        let event = NewEvent::new("merged_here", actor.name()).with(json!({ "ticket_id": id }));
        locked.tx.add_ticket_event(into, event).await?;
        self.advance(locked, Move::Merge { into: into.to_owned() }, actor, reason, json!({})).await
    }

    /// Changes what people know better than the model. What it corrects of intent, sentiment or priority is kept as an example.
    ///
    /// # Errors
    ///
    /// When there is no such ticket.
    pub async fn amend(
        &self,
        id: &str,
        actor: &Actor,
        amendment: Amendment,
        reason: Option<String>,
    ) -> Result<Ticket, DeskError> {
        let mut locked = self.lock(id).await?;
        let ticket = &mut locked.ticket;
        ticket.updated_at = now();
        let mut corrected: Vec<(&'static str, Option<String>, String)> = Vec::new();
        if let Some(priority) = amendment.priority.filter(|priority| *priority != ticket.priority) {
            corrected.push(("priority", Some(ticket.priority.as_str().to_owned()), priority.as_str().to_owned()));
            ticket.priority = priority;
        }
        if let Some(category) = amendment.category.filter(|category| ticket.category.as_ref() != Some(category)) {
            corrected.push(("intent", ticket.category.clone(), category.clone()));
            ticket.category = Some(category);
        }
        if amendment.language.is_some() {
            ticket.language = amendment.language;
        }
        let felt = ticket.sentiment.map(|scores| scores.label());
        if let Some(sentiment) = amendment.sentiment.filter(|sentiment| felt != Some(*sentiment)) {
            corrected.push(("sentiment", felt.map(str::to_owned), sentiment.to_owned()));
        }
        if let Some(tags) = amendment.tags {
            ticket.tags = tags;
        }
        for (name, value) in amendment.fields {
            match value {
                Value::Null => ticket.fields.remove(&name),
                value => ticket.fields.insert(name, value),
            };
        }
        for (field, was, is_now) in &corrected {
            let correction = Correction {
                ticket_id: ticket.id.clone(),
                session_id: ticket.session_id.clone(),
                seq: ticket.to_seq,
                field: (*field).to_owned(),
                was: was.clone(),
                is_now: is_now.clone(),
                model: ticket.model.clone(),
                author: actor.name().to_owned(),
            };
            locked.tx.add_correction(&correction).await?;
        }
        let corrected: Vec<&str> = corrected.iter().map(|(field, ..)| *field).collect();
        locked
            .finish(NewEvent::new("amended", actor.name()).because(reason).with(json!({ "corrected": corrected })))
            .await
    }

    /// Links two tickets with each other.
    ///
    /// # Errors
    ///
    /// When there is no such ticket, or they are the same.
    pub async fn link(&self, id: &str, other: &str, actor: &Actor) -> Result<Ticket, DeskError> {
        if id == other {
            let (id, other) = (id.to_owned(), other.to_owned());
            return Err(DeskError::NotTogether { id, other, why: "it is the same ticket" });
        }
        let other_ticket = self.seen(other).await?;
        let mut locked = self.lock_with(id, Some(&other_ticket.session_id)).await?;
        locked.must_see(other).await?;
        if !locked.tx.link_tickets(id, other).await? {
            return Ok(locked.ticket);
        }
        let event = NewEvent::new("linked", actor.name()).with(json!({ "ticket_id": id }));
        locked.tx.add_ticket_event(other, event).await?;
        locked.finish(NewEvent::new("linked", actor.name()).with(json!({ "ticket_id": other }))).await
    }

    /// Keeps how the customer judged the help, once.
    ///
    /// # Errors
    ///
    /// When there is no such ticket, it is not done, or it was rated before.
    pub async fn rate(&self, id: &str, rating: &Rating) -> Result<Ticket, DeskError> {
        self.keep_rating(id, rating, None).await
    }

    /// As [`Desk::rate`], by the answer to a survey that was given at a moment.
    pub(super) async fn answer_survey(&self, survey: &Survey, rating: &Rating, at: i64) -> Result<Ticket, DeskError> {
        self.keep_rating(&survey.ticket_id, rating, Some((&survey.id, at))).await
    }

    async fn keep_rating(&self, id: &str, rating: &Rating, survey: Option<(&str, i64)>) -> Result<Ticket, DeskError> {
        let mut locked = self.lock(id).await?;
        let why = |why| DeskError::NotRated { id: id.to_owned(), why };
        if !matches!(locked.ticket.status, Status::Resolved | Status::Closed) {
            return Err(why("it is not done"));
        }
        if !locked.tx.add_rating(id, rating).await? {
            return Err(why("it was rated before"));
        }
        if let Some((survey, at)) = survey {
            locked.tx.answer_survey(survey, rating, at).await?;
        }
        let data = json!({ "score": rating.score, "reasons": rating.reasons });
        locked.finish(NewEvent::new("rated", "customer").with(data)).await
    }

    /// Makes the surveys of a ticket that is being closed.
    async fn plan_surveys(&self, locked: &mut Locked) -> Result<(), StorageError> {
        let (user, channel) = (locked.session.user_id.clone(), &locked.session.channel);
        for planned in self.surveys.plan(locked.ticket.resolved_at, user.as_deref(), channel, now()) {
            let (due_at, expires_at) = (planned.due_at, planned.expires_at);
            locked.tx.add_survey(&locked.ticket, planned.kind, user.as_deref(), due_at, expires_at).await?;
        }
        Ok(())
    }

    /// The ticket as it is now, its session locked. The session always first: one order of locks, no deadlock.
    pub(super) async fn lock(&self, id: &str) -> Result<Locked, DeskError> {
        self.lock_with(id, None).await
    }

    /// A ticket that exists for these people.
    async fn seen(&self, id: &str) -> Result<Ticket, DeskError> {
        let ticket = self.storage.ticket(id).await?;
        let shared = match &self.organisation {
            Some(organisation) => self.storage.share(id, organisation).await?.is_some(),
            None => true,
        };
        ticket.filter(|_| shared).ok_or_else(|| DeskError::NotFound { id: id.to_owned() })
    }

    /// As [`Desk::lock`], with another session locked too, in the order of their ids.
    async fn lock_with(&self, id: &str, other: Option<&str>) -> Result<Locked, DeskError> {
        let not_found = || DeskError::NotFound { id: id.to_owned() };
        let session_id = self.seen(id).await?.session_id;
        let mut tx = self.storage.begin().await?;
        let other = other.filter(|other| *other != session_id);
        if let Some(other) = other.filter(|other| *other < session_id.as_str()) {
            tx.lock_existing_session(other).await?;
        }
        let session = tx.lock_existing_session(&session_id).await?;
        if let Some(other) = other.filter(|other| *other > session_id.as_str()) {
            tx.lock_existing_session(other).await?;
        }
        let ticket = tx.ticket(id).await?.ok_or_else(not_found)?;
        // It may have been taken back since.
        if let Some(organisation) = &self.organisation
            && tx.share(id, organisation).await?.is_none()
        {
            return Err(not_found());
        }
        let before = ticket.told();
        Ok(Locked { tx, session, ticket, before, organisation: self.organisation.clone() })
    }
}

impl NewEvent {
    /// Adds what changed.
    fn change(mut self, before: &Map<String, Value>, after: &Map<String, Value>) -> Self {
        (self.before, self.after) = difference(before, after);
        self
    }
}
