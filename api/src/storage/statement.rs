//! A statement that is put together from parts, with numbered parameters, which both databases read. The builder of sqlx writes
//! question marks for a database that is only known while the program runs, and PostgreSQL refuses them.

use std::fmt::{Display, Write};

use sqlx::any::{Any, AnyArguments};
use sqlx::query::Query;
use sqlx::{AssertSqlSafe, query};

/// One value of a statement.
#[derive(Clone, Debug)]
pub enum Item {
    /// A text.
    Text(String),
    /// A whole number.
    Whole(i64),
    /// Any number.
    Real(f64),
    /// No text.
    NoText,
    /// No whole number.
    NoWhole,
    /// No number.
    NoReal,
}

impl From<&str> for Item {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Item {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<i64> for Item {
    fn from(number: i64) -> Self {
        Self::Whole(number)
    }
}

/// A statement while it grows. What is pushed is SQL of ours; what comes from outside is bound.
pub(super) struct Statement {
    text: String,
    items: Vec<Item>,
}

impl Statement {
    pub(super) fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), items: Vec::new() }
    }

    pub(super) fn push(&mut self, text: impl Display) -> &mut Self {
        // Writing to a text cannot fail.
        let _ = write!(self.text, "{text}");
        self
    }

    pub(super) fn push_bind(&mut self, item: impl Into<Item>) -> &mut Self {
        self.items.push(item.into());
        let number = self.items.len();
        self.push(format_args!("${number}"))
    }

    /// Values with commas between them.
    pub(super) fn push_list(&mut self, items: impl IntoIterator<Item = impl Into<Item>>) -> &mut Self {
        for (index, item) in items.into_iter().enumerate() {
            self.push(if index == 0 { "" } else { ", " }).push_bind(item);
        }
        self
    }

    /// Planned anew with its values each time: a rare one and a common one want different ways, and sqlx 0.9's Any driver declares
    /// an absent DOUBLE as a REAL, to which PostgreSQL would hold later values of the same statement.
    pub(super) fn build(self) -> Query<'static, Any, AnyArguments> {
        let mut query = query(AssertSqlSafe(self.text)).persistent(false);
        for item in self.items {
            query = match item {
                Item::Text(text) => query.bind(text),
                Item::Whole(number) => query.bind(number),
                Item::Real(number) => query.bind(number),
                Item::NoText => query.bind(None::<String>),
                Item::NoWhole => query.bind(None::<i64>),
                Item::NoReal => query.bind(None::<f64>),
            };
        }
        query
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_numbered() {
        let mut statement = Statement::new("SELECT ");
        statement.push_bind("a").push(" WHERE b IN (").push_list([1, 2]).push(")");
        assert_eq!(statement.text, "SELECT $1 WHERE b IN ($2, $3)");
        assert_eq!(statement.items.len(), 3);
    }
}
