//! A ticket: its states, the table of moves between them, who may make which, and what is written down of each.

use std::fmt;
use std::str::FromStr;

use serde_json::{Map, Value, json};
use yingda_engine::{EscalationReason, SentimentScores};

use super::{Actor, DeskError};

/// Where a ticket stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Status {
    /// Nobody has it.
    New,
    /// A person has it, or is offered it, and has not answered yet.
    Assigned,
    /// The person has answered.
    InProgress,
    /// The customer has to say something; times do not run meanwhile.
    WaitingCustomer,
    /// Done; the session is the engine's again.
    Resolved,
    /// Done for good.
    Closed,
    /// Another ticket took its place.
    Merged,
}

impl Status {
    /// All states, in the order of a ticket's life.
    pub const ALL: [Self; 7] = [
        Self::New,
        Self::Assigned,
        Self::InProgress,
        Self::WaitingCustomer,
        Self::Resolved,
        Self::Closed,
        Self::Merged,
    ];

    /// The stable snake-case name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Assigned => "assigned",
            Self::InProgress => "in_progress",
            Self::WaitingCustomer => "waiting_customer",
            Self::Resolved => "resolved",
            Self::Closed => "closed",
            Self::Merged => "merged",
        }
    }

    /// The name that people read.
    pub fn chinese(self) -> &'static str {
        match self {
            Self::New => "待领取",
            Self::Assigned => "已领取",
            Self::InProgress => "处理中",
            Self::WaitingCustomer => "等待客户",
            Self::Resolved => "已解决",
            Self::Closed => "已关闭",
            Self::Merged => "已合并",
        }
    }

    /// Whether people still have to do something, and the bot is silent.
    pub fn is_open(self) -> bool {
        matches!(self, Self::New | Self::Assigned | Self::InProgress | Self::WaitingCustomer)
    }
}

impl FromStr for Status {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|status| status.as_str() == text).ok_or(())
    }
}

/// How soon a person should look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// Whenever there is time.
    Low,
    /// In turn.
    Medium,
    /// Before the others.
    High,
    /// Now.
    Urgent,
}

impl Priority {
    /// All of them, the least first.
    pub const ALL: [Self; 4] = [Self::Low, Self::Medium, Self::High, Self::Urgent];

    /// The stable name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Urgent => "urgent",
        }
    }

    /// The priority that a reason for a hand-over asks for. `mood` is how negative the customer's last messages were, oldest
    /// first, each in `[0, 1]`: who is upset for longer, or more and more, is looked at sooner, and so is a VIP.
    pub fn of(reason: EscalationReason, mood: &[f32], vip: bool) -> Self {
        let base = match reason {
            EscalationReason::HandoffWord => Self::Urgent,
            EscalationReason::Complaint | EscalationReason::NegativeSentiment => Self::High,
            EscalationReason::PersonRequested
            | EscalationReason::LowConfidence
            | EscalationReason::Rule
            | EscalationReason::Flow => Self::Medium,
        };
        let last = &mood[mood.len().saturating_sub(3)..];
        let upset = last.len() == 3
            && (last.iter().sum::<f32>() / 3.0 >= UPSET
                || (last[2] >= UPSET && last.is_sorted_by(|a, b| b - a >= WORSE)));
        let base = if upset { base.raised() } else { base };
        if vip { base.max(Self::High) } else { base }
    }

    /// The next one.
    pub fn raised(self) -> Self {
        match self {
            Self::Low => Self::Medium,
            Self::Medium => Self::High,
            Self::High | Self::Urgent => Self::Urgent,
        }
    }
}

/// Probability of negative sentiment from which on a customer counts as upset, and the least step that counts as worse.
const UPSET: f32 = 0.6;
const WORSE: f32 = 0.1;

impl FromStr for Priority {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|priority| priority.as_str() == text).ok_or(())
    }
}

/// What a move is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// A person makes it theirs.
    Take,
    /// A person takes what was offered to them.
    Accept,
    /// It is given to a person.
    Assign,
    /// It goes back to the queue.
    Return,
    /// It goes to another team.
    Transfer,
    /// The person answers the customer.
    Reply,
    /// The person waits for the customer.
    Wait,
    /// The customer writes.
    CustomerMessage,
    /// The customer needs nobody any more, before anybody has taken it.
    CallOff,
    /// The person has solved it.
    Resolve,
    /// It is done for good.
    Close,
    /// It begins again.
    Reopen,
    /// Another ticket takes its place.
    Merge,
}

impl Action {
    /// All actions.
    pub const ALL: [Self; 13] = [
        Self::Take,
        Self::Accept,
        Self::Assign,
        Self::Return,
        Self::Transfer,
        Self::Reply,
        Self::Wait,
        Self::CustomerMessage,
        Self::CallOff,
        Self::Resolve,
        Self::Close,
        Self::Reopen,
        Self::Merge,
    ];

    /// The stable name, as in the path.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Take => "take",
            Self::Accept => "accept",
            Self::Assign => "assign",
            Self::Return => "return",
            Self::Transfer => "transfer",
            Self::Reply => "reply",
            Self::Wait => "wait",
            Self::CustomerMessage => "customer_message",
            Self::CallOff => "call_off",
            Self::Resolve => "resolve",
            Self::Close => "close",
            Self::Reopen => "reopen",
            Self::Merge => "merge",
        }
    }

    /// What stands in the history when it has been done.
    pub fn event(self) -> &'static str {
        match self {
            Self::Take => "taken",
            Self::Accept => "accepted",
            Self::Assign => "assigned",
            Self::Return => "returned",
            Self::Transfer => "transferred",
            Self::Reply => "agent_reply",
            Self::Wait => "waiting",
            Self::CustomerMessage => "customer_message",
            Self::Resolve => "resolved",
            // It is over either way, and whoever counts what is closed counts it.
            Self::CallOff | Self::Close => "closed",
            Self::Reopen => "reopened",
            Self::Merge => "merged",
        }
    }

    /// Whether people ask for it; the others come about by something else.
    pub fn is_asked_for(self) -> bool {
        !matches!(self, Self::Accept | Self::CustomerMessage | Self::CallOff)
    }

    /// The name that people read.
    pub fn chinese(self) -> &'static str {
        match self {
            Self::Take => "领取",
            Self::Accept => "接受",
            Self::Assign => "分配",
            Self::Return => "退回",
            Self::Transfer => "转交",
            Self::Reply => "回复",
            Self::Wait => "等待客户",
            Self::CustomerMessage => "客户留言",
            Self::CallOff => "客户取消",
            Self::Resolve => "解决",
            Self::Close => "关闭",
            Self::Reopen => "重新打开",
            Self::Merge => "合并",
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}（{}）", self.chinese(), self.as_str())
    }
}

/// The whole table of moves: the state after an action, `None` where it is not allowed.
pub fn next(status: Status, action: Action) -> Option<Status> {
    use Status::{Assigned, Closed, InProgress, Merged, New, Resolved, WaitingCustomer};
    match (action, status) {
        (Action::Take, New) => Some(Assigned),
        (Action::Accept, Assigned) => Some(Assigned),
        (Action::Assign, New | Assigned | InProgress | WaitingCustomer) => Some(Assigned),
        (Action::Return, Assigned | InProgress | WaitingCustomer) => Some(New),
        (Action::Transfer, New | Assigned | InProgress | WaitingCustomer) => Some(New),
        (Action::Reply, Assigned | InProgress | WaitingCustomer) => Some(InProgress),
        (Action::Wait, Assigned | InProgress) => Some(WaitingCustomer),
        (Action::CustomerMessage, New | Assigned) => Some(status),
        (Action::CustomerMessage, InProgress | WaitingCustomer) => Some(InProgress),
        (Action::CallOff, New | Assigned) => Some(Closed),
        (Action::Resolve, Assigned | InProgress | WaitingCustomer) => Some(Resolved),
        (Action::Close, Resolved) => Some(Closed),
        (Action::Reopen, Resolved | Closed) => Some(New),
        (Action::Merge, New | Assigned | InProgress | WaitingCustomer) => Some(Merged),
        (Action::Take, Assigned | InProgress | WaitingCustomer | Resolved | Closed | Merged)
        | (Action::Accept, New | InProgress | WaitingCustomer | Resolved | Closed | Merged)
        | (Action::Return | Action::Resolve | Action::Reply, New | Resolved | Closed | Merged)
        | (Action::Wait, New | WaitingCustomer | Resolved | Closed | Merged)
        | (Action::CallOff, InProgress | WaitingCustomer | Resolved | Closed | Merged)
        | (Action::Assign | Action::Transfer | Action::CustomerMessage | Action::Merge, Resolved | Closed | Merged)
        | (Action::Close, New | Assigned | InProgress | WaitingCustomer | Closed | Merged)
        | (Action::Reopen, New | Assigned | InProgress | WaitingCustomer | Merged) => None,
    }
}

/// The actions that are allowed in a state.
pub fn allowed(status: Status) -> Vec<Action> {
    Action::ALL.into_iter().filter(|action| next(status, *action).is_some()).collect()
}

/// A move with all that it needs to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Move {
    /// The actor makes it theirs.
    Take,
    /// The actor takes what was offered to them.
    Accept,
    /// It is given to a person.
    Assign {
        /// Name of the person.
        agent: String,
    },
    /// It goes back to the queue.
    Return,
    /// It goes to another team.
    Transfer {
        /// Name of the team.
        team: String,
    },
    /// The actor has answered the customer.
    Reply,
    /// The actor waits for the customer.
    Wait,
    /// The customer has written.
    CustomerMessage,
    /// The customer needs nobody any more.
    CallOff,
    /// The actor has solved it.
    Resolve,
    /// It is done for good.
    Close,
    /// It begins again.
    Reopen,
    /// Another ticket takes its place.
    Merge {
        /// Id of that ticket.
        into: String,
    },
}

impl Move {
    /// What it is called.
    pub fn action(&self) -> Action {
        match self {
            Self::Take => Action::Take,
            Self::Accept => Action::Accept,
            Self::Assign { .. } => Action::Assign,
            Self::Return => Action::Return,
            Self::Transfer { .. } => Action::Transfer,
            Self::Reply => Action::Reply,
            Self::Wait => Action::Wait,
            Self::CustomerMessage => Action::CustomerMessage,
            Self::CallOff => Action::CallOff,
            Self::Resolve => Action::Resolve,
            Self::Close => Action::Close,
            Self::Reopen => Action::Reopen,
            Self::Merge { .. } => Action::Merge,
        }
    }
}

/// One ticket.
#[derive(Clone, Debug, PartialEq)]
pub struct Ticket {
    /// Its id.
    pub id: String,
    /// Its session.
    pub session_id: String,
    /// Who opened it: `escalation`, `form` or `agent`.
    pub source: String,
    /// Where it stands.
    pub status: Status,
    /// Why the session was handed over, stable snake case.
    pub reason: String,
    /// The word or score behind the reason.
    pub detail: String,
    /// How soon a person should look.
    pub priority: Priority,
    /// What it is about; begins as the intent.
    pub category: Option<String>,
    /// The team whose queue it is in; `None`: everybody's.
    pub team: Option<String>,
    /// Words that people put on it.
    pub tags: Vec<String>,
    /// What people noted in fields of their own.
    pub fields: Map<String, Value>,
    /// The ticket that took its place.
    pub merged_into: Option<String>,
    /// Likeliest intent of the message with its probability.
    pub intent: Option<(String, f64)>,
    /// Sentiment of the message.
    pub sentiment: Option<SentimentScores>,
    /// The model that judged.
    pub model: String,
    /// First turn that led to it.
    pub from_seq: i64,
    /// Last turn that led to it.
    pub to_seq: i64,
    /// The person who has it, or is offered it.
    pub assignee: Option<String>,
    /// The key with which it was taken.
    pub assignee_key: Option<String>,
    /// Whether the assignee has taken it; otherwise it is only offered.
    pub accepted: bool,
    /// The person who had it last.
    pub last_assignee: Option<String>,
    /// Those who were offered it since it came into its queue, and did not take it.
    pub declined: Vec<String>,
    /// Turns of its session while it was done, before it was reopened: `(after, until)`.
    pub gaps: Vec<(i64, i64)>,
    /// Whether a person gave it to its assignee, and not routing.
    pub by_hand: bool,
    /// Whether the customer is a VIP.
    pub vip: bool,
    /// The language that they speak, as two letters of ISO 639-1, where it is known.
    pub language: Option<String>,
    /// How often it began again.
    pub reopened: i64,
    /// When it was opened.
    pub created_at: i64,
    /// When it last changed.
    pub updated_at: i64,
    /// Since when it is in its queue, or was when it was given to somebody; a transfer and a new beginning count from anew.
    pub queued_at: i64,
    /// When it was given to the assignee.
    pub assigned_at: Option<i64>,
    /// When it was first taken.
    pub taken_at: Option<i64>,
    /// When the customer first got an answer from a person.
    pub first_reply_at: Option<i64>,
    /// When it was last resolved.
    pub resolved_at: Option<i64>,
    /// When it was closed.
    pub closed_at: Option<i64>,
}

impl Ticket {
    /// Makes a move, if the table and the actor's rights allow it; otherwise nothing is changed. `at` in milliseconds since 1970.
    ///
    /// # Errors
    ///
    /// When the state does not allow it, or the actor may not.
    pub fn make(&mut self, step: &Move, actor: &Actor, at: i64) -> Result<(), DeskError> {
        let action = step.action();
        let status = next(self.status, action).ok_or_else(|| DeskError::NotAllowed {
            id: self.id.clone(),
            status: self.status,
            action,
            assignee: self.assignee.clone(),
        })?;
        if !self.may(action, actor) {
            let assignee = self.assignee.clone();
            return Err(match assignee {
                Some(assignee) => DeskError::NotAssignee { id: self.id.clone(), assignee },
                None => DeskError::NotManager { id: self.id.clone(), action },
            });
        }
        self.status = status;
        self.updated_at = at;
        match step {
            // Who is named is known by the name, whoever took it for them.
            Move::Take => self.give(actor.name(), actor.name.is_none().then_some(&actor.key_id), at),
            Move::Assign { agent } => {
                self.give(agent, None, at);
                self.by_hand = !actor.is_system();
            }
            Move::Return | Move::Reopen | Move::Transfer { .. } => self.free(),
            Move::CallOff => {
                self.free();
                self.closed_at = Some(at);
            }
            Move::Reply => {
                self.first_reply_at.get_or_insert(at);
            }
            Move::Resolve => self.resolved_at = Some(at),
            Move::Close => self.closed_at = Some(at),
            Move::Merge { into } => self.merged_into = Some(into.clone()),
            Move::Accept | Move::Wait | Move::CustomerMessage => {}
        }
        match step {
            Move::Take | Move::Accept | Move::Reply | Move::Wait | Move::Resolve => {
                self.accepted = true;
                self.taken_at.get_or_insert(at);
            }
            Move::Transfer { team } => {
                self.team = Some(team.clone());
                self.queue(at);
            }
            Move::Reopen => {
                self.queue(at);
                (self.reopened, self.resolved_at, self.closed_at) = (self.reopened + 1, None, None);
            }
            _ => {}
        }
        Ok(())
    }

    fn give(&mut self, agent: &str, key: Option<&String>, at: i64) {
        self.assignee = Some(agent.to_owned());
        self.assignee_key = key.cloned();
        self.last_assignee = self.assignee.clone();
        (self.accepted, self.by_hand) = (false, false);
        self.assigned_at = Some(at);
    }

    fn queue(&mut self, at: i64) {
        self.queued_at = at;
        self.declined.clear();
    }

    fn free(&mut self) {
        (self.assignee, self.assignee_key, self.accepted, self.assigned_at) = (None, None, false, None);
    }

    /// Whether a wish for a person is all that it is about, and nobody has taken it up: then its customer can call it off. What was
    /// handed over for another reason, a person must look at, whatever the customer says afterwards.
    pub fn can_be_called_off(&self) -> bool {
        let wishes = [EscalationReason::PersonRequested, EscalationReason::LowConfidence];
        self.source == "escalation"
            && wishes.iter().any(|reason| reason.as_str() == self.reason)
            && self.taken_at.is_none()
            && next(self.status, Action::CallOff).is_some()
    }

    /// Whether the actor may do this, whatever the state.
    fn may(&self, action: Action, actor: &Actor) -> bool {
        match action {
            Action::Take | Action::Close | Action::Reopen | Action::CustomerMessage => true,
            Action::CallOff => self.can_be_called_off(),
            // What is said to a customer is said by one person.
            Action::Accept | Action::Reply => actor.holds(self),
            Action::Assign | Action::Return | Action::Transfer | Action::Wait | Action::Resolve | Action::Merge => {
                actor.manages || actor.holds(self)
            }
        }
    }

    /// All that its history tells, and can be put together from again.
    pub fn told(&self) -> Map<String, Value> {
        let told = json!({
            "status": self.status.as_str(),
            "priority": self.priority.as_str(),
            "category": self.category,
            "language": self.language,
            "team": self.team,
            "assignee": self.assignee,
            "accepted": self.accepted,
            "tags": self.tags,
            "fields": self.fields,
            "merged_into": self.merged_into,
        });
        match told {
            Value::Object(told) => told,
            _ => Map::new(),
        }
    }
}

/// What was before and what is after, of the fields that changed.
pub fn difference(before: &Map<String, Value>, after: &Map<String, Value>) -> (Map<String, Value>, Map<String, Value>) {
    let changed = after.iter().filter(|(name, value)| before.get(*name) != Some(value));
    changed
        .map(|(name, value)| {
            ((name.clone(), before.get(name).cloned().unwrap_or_default()), (name.clone(), value.clone()))
        })
        .unzip()
}

/// What a history tells in the end: each event's `after`, over all before it.
pub fn replay<'a>(afters: impl IntoIterator<Item = &'a Map<String, Value>>) -> Map<String, Value> {
    afters.into_iter().flatten().map(|(name, value)| (name.clone(), value.clone())).collect()
}

#[cfg(test)]
pub(super) mod tests;
