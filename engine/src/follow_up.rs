//! Messages that lean on what was said before: 那多久能到 after a question about an order.
//!
//! The shorter a message, the more of the customer's message before it enters the search: as the two put together in one text,
//! which the model reads a second time, and as further terms. A long message is searched for alone, so that a change of subject
//! costs nothing. Measured on the sample's two-turn questions (`datasets/data/sample/questions/dialogues-tune.jsonl`), where
//! messages that cannot be understood alone find their entry first in 63 % of cases instead of 37 %, and complete ones as before;
//! putting everything together always costs complete messages on a new subject half of theirs.

use crate::{Conversation, RankedLabel, Role, policy::is_one_of, terms::Terms};

/// Characters of the earlier message that count, from its end.
const MOST: usize = 60;
/// Letters, digits and Chinese characters up to which the earlier message counts fully, and from which on it does not count.
const SHORT: f32 = 8.0;
const LONG: f32 = 18.0;
/// How much of the embedding comes from both messages together, and how much the earlier one's terms count, for a short message.
const MEANING: f32 = 0.7;
const WORDS: f32 = 0.5;

/// The message before, as far as it counts.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Earlier {
    /// What the customer wrote then, of a long message its end.
    pub(crate) text: String,
    /// From 0, not at all, to 1, fully; never 0.
    share: f32,
}

impl Earlier {
    /// The customer's last message before `text` that says something, where `text` is short enough to lean on it.
    pub(crate) fn of(conversation: &Conversation, text: &str, acknowledgements: &[String]) -> Option<Self> {
        let length = text.chars().filter(|character| character.is_alphanumeric()).count() as f32;
        let share = ((LONG - length) / (LONG - SHORT)).clamp(0.0, 1.0);
        if share == 0.0 {
            return None;
        }
        // What stands for a picture or an empty message says nothing, nor does 好的.
        let says = |text: &str| {
            let stand_in = text.starts_with('[') && text.ends_with(']');
            !stand_in && !is_one_of(text, acknowledgements) && text.chars().any(char::is_alphanumeric)
        };
        let customers = conversation.turns.iter().rev().filter(|turn| turn.role == Role::User);
        let earlier = customers.map(|turn| turn.text.as_str()).find(|text| says(text))?;
        let from = earlier.char_indices().rev().nth(MOST - 1).map_or(0, |(at, _)| at);
        Some(Self { text: earlier[from..].to_owned(), share })
    }

    /// Both messages as one.
    pub(crate) fn together(&self, text: &str) -> String {
        format!("{}，{text}", self.text)
    }

    /// The embedding to search with, of length 1, from that of the message and that of both together.
    pub(crate) fn embedding(&self, alone: &[f32], together: &[f32]) -> Vec<f32> {
        let share = MEANING * self.share;
        let mixed: Vec<f32> = alone.iter().zip(together).map(|(a, b)| (1.0 - share) * a + share * b).collect();
        let length = mixed.iter().map(|x| x * x).sum::<f32>().sqrt().max(f32::MIN_POSITIVE);
        mixed.into_iter().map(|x| x / length).collect()
    }

    /// The intents to search with, likeliest first.
    pub(crate) fn intents(&self, alone: &[RankedLabel], together: &[RankedLabel]) -> Vec<RankedLabel> {
        let share = MEANING * self.share;
        let of = |label: &str| together.iter().find(|intent| intent.label == label).map_or(0.0, |it| it.probability);
        let mut mixed: Vec<RankedLabel> = alone
            .iter()
            .map(|intent| RankedLabel {
                label: intent.label.clone(),
                probability: (1.0 - share) * intent.probability + share * of(&intent.label),
            })
            .collect();
        mixed.sort_by(|a, b| b.probability.total_cmp(&a.probability));
        mixed
    }

    /// The terms to search with, from those of the message and those of the earlier one.
    pub(crate) fn terms(&self, alone: &Terms, earlier: &Terms) -> Terms {
        alone.with(earlier, WORDS * self.share)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PastTurn;

    fn conversation(turns: &[(Role, &str)]) -> Conversation {
        let turn = |(role, text): &(Role, &str)| PastTurn {
            role: *role,
            text: (*text).to_owned(),
            sentiment: None,
            decision: None,
        };
        Conversation { turns: turns.iter().map(turn).collect(), ..Conversation::default() }
    }

    #[test]
    fn the_shorter_the_more_of_the_customers_last_message() {
        let talk = conversation(&[(Role::User, "退款呢"), (Role::User, "我的鞋发了没"), (Role::Bot, "今天发出。")]);
        let of = |talk: &Conversation, text: &str| Earlier::of(talk, text, &["好的".to_owned()]);
        let share = |text: &str| of(&talk, text).map(|earlier| earlier.share);
        assert_eq!(of(&talk, "那多久能到").map(|earlier| earlier.text).as_deref(), Some("我的鞋发了没"));
        assert_eq!(share("那多久能到"), Some(1.0));
        assert_eq!(share(&"字".repeat(13)), Some(0.5));
        assert_eq!(share(&"字".repeat(18)), None);
        assert_eq!(share("hello my name is nobody"), None, "letters count too");
        assert_eq!(of(&conversation(&[(Role::Bot, "您好")]), "那多久能到"), None);
        let talk = conversation(&[
            (Role::User, "我的鞋发了没"),
            (Role::User, "[图片]"),
            (Role::User, "好的！"),
            (Role::User, "？"),
        ]);
        assert_eq!(of(&talk, "那多久能到").map(|earlier| earlier.text).as_deref(), Some("我的鞋发了没"));
        let rant = conversation(&[(Role::User, &format!("{}鞋呢", "气".repeat(20_000)))]);
        let text = of(&rant, "那多久能到").map(|earlier| earlier.text).unwrap_or_default();
        assert!(text.chars().count() == 60 && text.ends_with("鞋呢"), "{text}");
    }

    #[test]
    fn what_is_mixed_keeps_its_form() {
        let talk = conversation(&[(Role::User, "我的鞋发了没")]);
        let earlier = Earlier::of(&talk, "多久到", &[]).expect("a short message");
        let embedding = earlier.embedding(&[1.0, 0.0], &[0.0, 1.0]);
        assert!((embedding.iter().map(|x| x * x).sum::<f32>() - 1.0).abs() < 1e-6 && embedding[1] > embedding[0]);
        let label = |label: &str, probability| RankedLabel { label: label.into(), probability };
        let intents = earlier.intents(&[label("a", 0.8), label("b", 0.2)], &[label("b", 1.0), label("a", 0.0)]);
        assert_eq!(intents[0].label, "b");
        assert!((intents.iter().map(|intent| intent.probability).sum::<f32>() - 1.0).abs() < 1e-6);
        let (alone, before) = (Terms::of_query("多久到"), Terms::of_query("鞋到了"));
        let terms = earlier.terms(&alone, &before);
        assert!(terms.indices.is_sorted() && terms.indices.len() > alone.indices.len());
        let value = |terms: &Terms, character: char| {
            let at = terms.indices.iter().position(|index| *index == character as u32);
            at.map(|at| terms.values[at])
        };
        assert_eq!((value(&terms, '到'), value(&terms, '鞋')), (Some(1.0), Some(0.5)));
    }
}
