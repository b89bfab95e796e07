//! What one side of a session has received and read, and whether it is there.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// For how long a sign of typing counts, in milliseconds.
const TYPING: i64 = 6_000;
/// For how long a sign of life counts, in milliseconds: three of those that a replica gives.
const SEEN: i64 = 45_000;

/// The two sides of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// Whoever asks.
    Customer,
    /// Whoever answers.
    Agent,
}

impl Side {
    /// The stable name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Customer => "customer",
            Self::Agent => "agent",
        }
    }
}

impl FromStr for Side {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        [Self::Customer, Self::Agent].into_iter().find(|side| side.as_str() == text).ok_or(())
    }
}

/// How far one side of a session is. Every number only grows; times in milliseconds since 1970, 0 for never.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Turns up to this number have arrived.
    pub received_seq: i64,
    /// Turns up to this number have been read.
    pub read_seq: i64,
    /// When it last typed.
    pub typing_at: i64,
    /// When it was last there.
    pub seen_at: i64,
    /// When the last of its sockets closed.
    pub left_at: i64,
}

impl Standing {
    /// What two replicas know, put together.
    pub fn joined(self, other: Self) -> Self {
        Self {
            received_seq: self.received_seq.max(other.received_seq),
            read_seq: self.read_seq.max(other.read_seq),
            typing_at: self.typing_at.max(other.typing_at),
            seen_at: self.seen_at.max(other.seen_at),
            left_at: self.left_at.max(other.left_at),
        }
    }

    /// Whether somebody of this side is there.
    pub fn is_there(self, now: i64) -> bool {
        self.seen_at > self.left_at && now - self.seen_at < SEEN
    }

    /// Whether somebody of this side is typing.
    pub fn is_typing(self, now: i64) -> bool {
        self.is_there(now) && now - self.typing_at < TYPING
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const AT: i64 = 1_000_000;

    #[test]
    fn whoever_has_left_or_is_silent_is_not_there() {
        let there = Standing { seen_at: AT, typing_at: AT, ..Standing::default() };
        assert!(there.is_there(AT) && there.is_there(AT + SEEN - 1) && !there.is_there(AT + SEEN));
        assert!(there.is_typing(AT + TYPING - 1) && !there.is_typing(AT + TYPING));
        let left = Standing { left_at: AT + 1, ..there };
        assert!(!left.is_there(AT + 2) && !left.is_typing(AT + 2));
        assert!(Standing { seen_at: AT + 3, ..left }.is_there(AT + 4), "another socket is open elsewhere");
        assert!(!Standing::default().is_there(AT));
    }

    proptest! {
        #[test]
        fn the_order_of_joining_does_not_matter(a in numbers(), b in numbers(), c in numbers()) {
            prop_assert_eq!(a.joined(b), b.joined(a));
            prop_assert_eq!(a.joined(b).joined(c), a.joined(b.joined(c)));
            prop_assert_eq!(a.joined(a), a);
        }
    }

    fn numbers() -> impl Strategy<Value = Standing> {
        [0_i64..99, 0..99, 0..99, 0..99, 0..99].prop_map(|[received_seq, read_seq, typing_at, seen_at, left_at]| {
            Standing { received_seq, read_seq, typing_at, seen_at, left_at }
        })
    }
}
