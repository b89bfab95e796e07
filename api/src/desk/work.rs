//! What people and the service do with tickets.

use serde_json::{Map, Value, json};
use yingda_engine::{Role, Understanding};

use super::attachments::File;
use super::sharing::{BOTH, BY, FOR, Organisation, Sees, Share};
use super::survey::{Survey, SurveySettings};
use super::ticket::{Action, Move, Priority, Status, Ticket, difference};
use crate::chat::{AttachmentItem, MessageType};
use crate::storage::{
    Attachment, Belongs, Correction, NewEvent, NewTicket, NewTurn, RemoteState, Session, SessionDetails, Storage,
    StorageError, Tx, new_id, now,
};

/// Why something cannot be done with a ticket.
#[derive(Debug, thiserror::Error)]
pub enum DeskError {
    /// There is no such ticket.
    #[error("there is no ticket {id}")]
    NotFound {
        /// The id that was asked for.
        id: String,
    },
    /// The ticket's state does not allow it.
    #[error("ticket {id} is {}: it cannot be used for `{}`", .status.as_str(), .action.as_str())]
    NotAllowed {
        /// The ticket.
        id: String,
        /// Where it stands.
        status: Status,
        /// What was asked.
        action: Action,
        /// The person who has it.
        assignee: Option<String>,
    },
    /// Somebody else has the ticket.
    #[error("ticket {id} belongs to {assignee}")]
    NotAssignee {
        /// The ticket.
        id: String,
        /// The person who has it.
        assignee: String,
    },
    /// Nobody has the ticket, and only who manages the desk may do this then.
    #[error("ticket {id} is nobody's: only a supervisor may `{}` it", .action.as_str())]
    NotManager {
        /// The ticket.
        id: String,
        /// What was asked.
        action: Action,
    },
    /// The session has an open ticket already.
    #[error("session of ticket {id} has the open ticket {other}")]
    AnotherIsOpen {
        /// The ticket.
        id: String,
        /// The one that is open.
        other: String,
    },
    /// A ticket cannot be merged into that one, or linked with it.
    #[error("ticket {id} cannot be put together with {other}: {why}")]
    NotTogether {
        /// The ticket.
        id: String,
        /// The other one.
        other: String,
        /// Why.
        why: &'static str,
    },
    /// The ticket has been rated, or is not done yet.
    #[error("ticket {id} cannot be rated: {why}")]
    NotRated {
        /// The ticket.
        id: String,
        /// Why.
        why: &'static str,
    },
    /// There is no such organisation, or the ticket is not shared with it.
    #[error("there is no organisation {id}, or nothing to take back from it")]
    NoOrganisation {
        /// The id that was asked for.
        id: String,
    },
    /// The session has got many files within the last hour.
    #[error("the session has too many files; another one may come in {milliseconds} ms")]
    TooManyAttachments {
        /// Until there is room.
        milliseconds: i64,
    },
    /// The database failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// The person who acts: the name they gave, and the key they came with.
#[derive(Clone, Debug)]
pub struct Actor {
    /// The name, if one was given.
    pub name: Option<String>,
    /// Name of the key, which stands in for a missing name.
    pub key_name: String,
    /// Id of the key.
    pub key_id: String,
    /// Whether they may do with other people's tickets what these may.
    pub manages: bool,
}

impl Actor {
    /// The service itself: routing, deadlines.
    pub fn system() -> Self {
        Self { name: None, key_name: "system".to_owned(), key_id: "system".to_owned(), manages: true }
    }

    /// The customer.
    pub fn customer() -> Self {
        Self { name: None, key_name: "customer".to_owned(), key_id: "customer".to_owned(), manages: false }
    }

    /// The name that is recorded.
    pub fn name(&self) -> &str {
        self.name.as_deref().unwrap_or(&self.key_name)
    }

    /// Whether this is the person who has the ticket: by name, or without a name by the same key.
    pub fn holds(&self, ticket: &Ticket) -> bool {
        match (&self.name, &ticket.assignee_key) {
            (None, Some(key)) => *key == self.key_id,
            _ => ticket.assignee.as_deref() == Some(self.name()),
        }
    }
}

/// What people put right about a ticket. What is `None` stays.
#[derive(Clone, Debug, Default)]
pub struct Amendment {
    /// How soon a person should look.
    pub priority: Option<Priority>,
    /// What it is about.
    pub category: Option<String>,
    /// `negative`, `neutral` or `positive`: how the customer felt. Kept as an example only.
    pub sentiment: Option<&'static str>,
    /// All words on it.
    pub tags: Option<Vec<String>>,
    /// Fields to set; a null removes one.
    pub fields: Map<String, Value>,
}

/// What a person is asked for in writing.
#[derive(Clone, Debug)]
pub struct Form {
    /// The session; a new one when `None`.
    pub session_id: Option<String>,
    /// The customer.
    pub user_id: Option<String>,
    /// Where it comes from; `form` when `None`.
    pub channel: Option<String>,
    /// Whether the customer is a VIP.
    pub vip: bool,
    /// What is known of the customer, masked JSON.
    pub profile: Option<String>,
    /// What it is about, masked.
    pub text: String,
    /// How soon a person should look; when `None` medium, and high for a VIP.
    pub priority: Option<Priority>,
    /// `form` or `agent`.
    pub source: &'static str,
    /// What the model made of the text.
    pub understood: Option<Understanding>,
    /// The model.
    pub model: String,
}

/// A suggested reply that a person used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suggestion {
    /// The knowledge entry.
    pub knowledge_id: String,
    /// Whether the person changed its words.
    pub edited: bool,
}

/// How the customer judged the help.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rating {
    /// 1 to 5.
    pub score: i64,
    /// Words that were chosen.
    pub reasons: Vec<String>,
    /// Free text, masked.
    pub comment: Option<String>,
}

/// Opens the ticket of a locked session, or adds to the one that is open; says which, and whether it is new.
///
/// # Errors
///
/// When the database fails.
pub async fn escalate(tx: &mut Tx, session: &mut Session, new: NewTicket) -> Result<(String, bool), StorageError> {
    let by = if new.source == "escalation" { "bot" } else { new.source };
    let data = json!({ "reason": new.reason, "detail": new.detail, "seq": new.to_seq });
    let (id, opened) = match tx.open_ticket_of(&session.id).await? {
        Some(ticket) => {
            tx.add_ticket_event(&ticket.id, NewEvent::new("escalated_again", by).with(data)).await?;
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
    /// Shares the ticket from the session's next turn on; returns how much is seen.
    async fn share(&mut self, organisation: &Organisation, sees: Sees) -> Result<Sees, DeskError> {
        let share = Share {
            ticket_id: self.ticket.id.clone(),
            organisation: organisation.id.clone(),
            sees,
            after_seq: self.session.last_seq,
            created_at: now(),
        };
        self.tx.put_share(&share).await?;
        Ok(sees)
    }

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
    /// When the database fails.
    pub async fn open(&self, form: Form) -> Result<Ticket, DeskError> {
        let session_id = form.session_id.unwrap_or_else(new_id);
        let channel = form.channel.unwrap_or_else(|| "form".to_owned());
        let details = SessionDetails { user_id: form.user_id, channel: Some(channel), profile: form.profile };
        let mut tx = self.storage.begin().await?;
        let mut session = tx.lock_session(&session_id, &details).await?;
        let sentiment = form.understood.as_ref().map(|understood| understood.sentiment);
        let likeliest = form.understood.and_then(|understood| understood.intents.into_iter().next());
        let intent = likeliest.map(|intent| (intent.label, f64::from(intent.probability)));
        let turn = NewTurn {
            text: form.text.clone(),
            sentiment,
            intent: intent.clone(),
            model: Some(form.model.clone()),
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
                locked.tx.give_to_agent(&mut locked.session, None).await?;
            }
            Move::Take | Move::Assign { .. } | Move::Return | Move::Transfer { .. } => {
                let assignee = locked.ticket.assignee.clone();
                locked.tx.give_to_agent(&mut locked.session, assignee.as_deref()).await?;
            }
            Move::Resolve | Move::Merge { .. } => locked.tx.give_to_bot(&mut locked.session).await?,
            Move::Close => self.plan_surveys(&mut locked).await?,
            Move::Accept | Move::Reply | Move::Wait | Move::CustomerMessage => {}
        }
        locked.finish(NewEvent::new(action.event(), actor.name()).because(reason).with(data)).await
    }

    /// Gives a ticket to another team. Where that belongs to an organisation, it is shared with it: `sees` says how much, or what was
    /// said before, or else the conversation from now on. `reason` is masked already.
    ///
    /// # Errors
    ///
    /// When there is no such ticket, its state does not allow it, or the actor may not.
    pub async fn transfer(
        &self,
        id: &str,
        team: &str,
        sees: Option<Sees>,
        actor: &Actor,
        reason: Option<String>,
    ) -> Result<Ticket, DeskError> {
        let mut locked = self.lock(id).await?;
        if let (Some(sees), Some(organisation)) = (sees, locked.tx.organisation_of_team(team).await?) {
            locked.share(&organisation, sees).await?;
        }
        self.advance(locked, Move::Transfer { team: team.to_owned() }, actor, reason, json!({})).await
    }

    /// Shares a ticket with an organisation, or changes how much that sees.
    ///
    /// # Errors
    ///
    /// When there is no such ticket or organisation, or the actor neither has the ticket nor manages the desk.
    pub async fn share(&self, id: &str, organisation: &str, sees: Sees, actor: &Actor) -> Result<Ticket, DeskError> {
        let mut locked = self.lock(id).await?;
        may_share(&locked.ticket, actor)?;
        let missing = || DeskError::NoOrganisation { id: organisation.to_owned() };
        let organisation = locked.tx.organisation(organisation).await?.ok_or_else(missing)?;
        locked.share(&organisation, sees).await?;
        locked.ticket.updated_at = now();
        let data = json!({ "organisation": organisation.id, "name": organisation.name, "sees": sees.as_str() });
        locked.finish(NewEvent::new("shared", actor.name()).with(data)).await
    }

    /// Takes a ticket back from an organisation. From its queue, or its people, it goes back to everybody's.
    ///
    /// # Errors
    ///
    /// When there is no such ticket, it is not shared with the organisation, or the actor neither has it nor manages the desk.
    pub async fn take_back_share(&self, id: &str, organisation: &str, actor: &Actor) -> Result<Ticket, DeskError> {
        let holder = self.storage.ticket(id).await?.and_then(|ticket| ticket.assignee);
        let holder_is_theirs = match &holder {
            Some(name) => self.storage.organisation_of_name(name).await?.as_deref() == Some(organisation),
            None => false,
        };
        let mut locked = self.lock(id).await?;
        may_share(&locked.ticket, actor)?;
        let missing = || DeskError::NoOrganisation { id: organisation.to_owned() };
        let organisation = locked.tx.organisation(organisation).await?.ok_or_else(missing)?;
        if !locked.tx.remove_share(id, &organisation.id).await? {
            return Err(DeskError::NoOrganisation { id: organisation.id });
        }
        let in_their_queue = locked.ticket.team.as_deref() == Some(organisation.team.as_str());
        let theirs = in_their_queue || (holder_is_theirs && locked.ticket.assignee == holder);
        locked.ticket.updated_at = now();
        if theirs && locked.ticket.status.is_open() {
            if locked.ticket.status != Status::New {
                locked.ticket.make(&Move::Return, &Actor::system(), now())?;
                locked.tx.give_to_agent(&mut locked.session, None).await?;
            }
            locked.ticket.team = locked.ticket.team.filter(|_| !in_their_queue);
        }
        let data = json!({ "organisation": organisation.id, "name": organisation.name });
        locked.finish(NewEvent::new("unshared", actor.name()).with(data)).await
    }

    /// Stores a person's answer to the customer, and the suggestion that it was made from. `text` is masked already. The same
    /// `reply_id` in the same session is stored once: sent again, nothing changes.
    ///
    /// # Errors
    ///
    /// When there is no such ticket, its state does not allow it, or somebody else has it.
    pub async fn reply(
        &self,
        id: &str,
        actor: &Actor,
        text: String,
        suggestion: Option<Suggestion>,
        reply_id: Option<String>,
    ) -> Result<Ticket, DeskError> {
        let mut locked = self.lock(id).await?;
        if let Some(reply_id) = &reply_id
            && locked.tx.has_reply(&locked.session.id, reply_id).await?
        {
            return Ok(locked.ticket);
        }
        locked.ticket.make(&Move::Reply, actor, now())?;
        let author = locked.ticket.assignee.clone().unwrap_or_default();
        let knowledge_id = suggestion.as_ref().map(|suggestion| suggestion.knowledge_id.clone());
        let turn = NewTurn { text, author: Some(author.clone()), knowledge_id, reply_id, ..NewTurn::default() };
        let seq = locked.tx.add_turn(&mut locked.session, Role::Agent, turn).await?;
        let mut data = json!({ "seq": seq });
        if let Some(Suggestion { knowledge_id, edited }) = suggestion {
            data["suggestion"] = json!({ "knowledge_id": knowledge_id, "edited": edited });
        }
        locked.finish(NewEvent::new(Action::Reply.event(), &author).with(data)).await
    }

    /// Keeps a file: as an answer to the customer, or with `inside` as a note for colleagues. Its name is masked already.
    ///
    /// # Errors
    ///
    /// When there is no such ticket, its state does not allow it, somebody else has it, or the session has too many files.
    pub async fn attach(
        &self,
        id: &str,
        actor: &Actor,
        file: &File,
        inside: bool,
    ) -> Result<(Ticket, Attachment), DeskError> {
        let mut locked = self.lock(id).await?;
        let session_id = locked.session.id.clone();
        if let Some(milliseconds) = locked.tx.wait_for_attachment(&session_id, file.per_hour).await? {
            return Err(DeskError::TooManyAttachments { milliseconds });
        }
        if inside {
            locked.ticket.updated_at = now();
            let belongs = Belongs::Ticket { id, organisation: self.organisation.as_deref() };
            let kept = locked.tx.add_attachment(&session_id, belongs, file).await?;
            let data = json!({ "text": file.name, "attachment": AttachmentItem::from(kept.clone()) });
            let ticket = locked.finish(NewEvent::new("note", actor.name()).with(data)).await?;
            return Ok((ticket, kept));
        }
        locked.ticket.make(&Move::Reply, actor, now())?;
        let author = locked.ticket.assignee.clone().unwrap_or_default();
        let text = MessageType::of_file(file.media_type).placeholder().0.to_owned();
        let turn = NewTurn { text, author: Some(author.clone()), ..NewTurn::default() };
        let seq = locked.tx.add_turn(&mut locked.session, Role::Agent, turn).await?;
        let kept = locked.tx.add_attachment(&session_id, Belongs::Turn(seq), file).await?;
        let ticket = locked.finish(NewEvent::new(Action::Reply.event(), &author).with(json!({ "seq": seq }))).await?;
        Ok((ticket, kept))
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

    /// Keeps a remark for colleagues; the customer does not see it. `text` is masked already.
    ///
    /// # Errors
    ///
    /// When there is no such ticket.
    pub async fn note(&self, id: &str, actor: &Actor, text: String) -> Result<Ticket, DeskError> {
        self.remark(id, actor, json!({ "text": text })).await
    }

    /// As [`Desk::note`], for colleagues of both sides: the house's, and those of the organisations with which it is shared.
    ///
    /// # Errors
    ///
    /// When there is no such ticket.
    pub async fn note_for_both(&self, id: &str, actor: &Actor, text: String) -> Result<Ticket, DeskError> {
        self.remark(id, actor, json!({ "text": text, FOR: BOTH })).await
    }

    async fn remark(&self, id: &str, actor: &Actor, data: Value) -> Result<Ticket, DeskError> {
        let mut locked = self.lock(id).await?;
        locked.ticket.updated_at = now();
        locked.finish(NewEvent::new("note", actor.name()).with(data)).await
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

    /// Offers a ticket that nobody has to a person. Says whether it did: somebody may have been faster.
    ///
    /// # Errors
    ///
    /// When there is no such ticket, or nobody's it is no more.
    pub async fn offer(&self, id: &str, agent: &str, data: Value) -> Result<bool, DeskError> {
        let locked = self.lock(id).await?;
        if locked.ticket.status != Status::New {
            return Ok(false);
        }
        let step = Move::Assign { agent: agent.to_owned() };
        self.advance(locked, step, &Actor::system(), None, data).await?;
        Ok(true)
    }

    /// Puts a ticket back into its queue that `agent` did not accept, or left behind. Says whether it did: they may have come back.
    ///
    /// # Errors
    ///
    /// When there is no such ticket.
    pub async fn take_back(&self, id: &str, agent: &str) -> Result<bool, DeskError> {
        let mut locked = self.lock(id).await?;
        if locked.ticket.assignee.as_deref() != Some(agent) {
            return Ok(false);
        }
        let why = if locked.ticket.accepted { "left_behind" } else { "not_accepted" };
        if !locked.ticket.declined.iter().any(|name| name == agent) {
            locked.ticket.declined.push(agent.to_owned());
        }
        self.advance(locked, Move::Return, &Actor::system(), None, json!({ "why": why, "agent": agent })).await?;
        Ok(true)
    }

    /// Notes that a target is nearly or already missed, once for each; a missed one raises the priority. `due_at` in milliseconds
    /// since 1970. Says whether it was not noted before.
    ///
    /// # Errors
    ///
    /// When there is no such ticket.
    pub async fn tell_target(
        &self,
        id: &str,
        target: &str,
        state: &str,
        due_at: Option<i64>,
    ) -> Result<bool, DeskError> {
        let mut locked = self.lock(id).await?;
        if !locked.ticket.status.is_open() || !locked.tx.add_service_level_mark(&locked.ticket, target, state).await? {
            return Ok(false);
        }
        if state == "breached" {
            locked.ticket.priority = locked.ticket.priority.raised();
        }
        let data = json!({ "target": target, "state": state, "due_at": due_at });
        locked.finish(NewEvent::new("service_level", Actor::system().name()).with(data)).await?;
        Ok(true)
    }

    /// Closes a ticket that was resolved up to a moment and not reopened since. Says whether it did.
    ///
    /// # Errors
    ///
    /// When there is no such ticket.
    pub async fn close_resolved(&self, id: &str, until: i64) -> Result<bool, DeskError> {
        let locked = self.lock(id).await?;
        let ticket = &locked.ticket;
        if ticket.status != Status::Resolved || ticket.resolved_at.is_none_or(|at| at > until) {
            return Ok(false);
        }
        let data = json!({ "why": "not_reopened" });
        self.advance(locked, Move::Close, &Actor::system(), None, data).await?;
        Ok(true)
    }

    /// Makes the surveys of a ticket that is being closed.
    async fn plan_surveys(&self, locked: &mut Locked) -> Result<(), StorageError> {
        let user = locked.session.user_id.clone();
        for planned in self.surveys.plan(locked.ticket.resolved_at, user.as_deref(), now()) {
            let (due_at, expires_at) = (planned.due_at, planned.expires_at);
            locked.tx.add_survey(&locked.ticket, planned.kind, user.as_deref(), due_at, expires_at).await?;
        }
        Ok(())
    }

    /// Notes how a ticket stands at a service desk of others, once for each change. Says whether it is news.
    ///
    /// # Errors
    ///
    /// When there is no such ticket.
    pub async fn tell_outside(&self, id: &str, state: &RemoteState) -> Result<bool, DeskError> {
        let mut locked = self.lock(id).await?;
        if !locked.tx.note_remote(id, state).await? {
            return Ok(false);
        }
        let data = json!({
            "service_desk": state.service_desk,
            "remote_id": state.remote_id,
            "status": state.status,
            "address": state.address,
        });
        locked.finish(NewEvent::new("external_status", Actor::system().name()).with(data)).await?;
        Ok(true)
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

/// Whether somebody may say who outside sees a ticket: who has it, or manages the desk.
fn may_share(ticket: &Ticket, actor: &Actor) -> Result<(), DeskError> {
    let id = ticket.id.clone();
    match &ticket.assignee {
        _ if actor.manages || actor.holds(ticket) => Ok(()),
        Some(assignee) => Err(DeskError::NotAssignee { id, assignee: assignee.clone() }),
        None => Err(DeskError::NotManager { id, action: Action::Transfer }),
    }
}

impl NewEvent {
    /// Adds what changed.
    fn change(mut self, before: &Map<String, Value>, after: &Map<String, Value>) -> Self {
        (self.before, self.after) = difference(before, after);
        self
    }
}
