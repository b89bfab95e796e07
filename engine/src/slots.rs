//! Slots in answers: `{订单号}` is filled by what is known of the customer, `{称呼|亲}` by 亲 where nothing is.
//!
//! A slot's name is one to thirty-two letters, Chinese characters, digits or `_`. Any other brace is a brace.

use std::ops::Range;

/// Longest name, in characters.
const MAX_NAME: usize = 32;

/// One slot of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot<'a> {
    /// What is asked for.
    pub name: &'a str,
    /// What is said where it is not known.
    pub fallback: Option<&'a str>,
    at: Range<usize>,
}

/// The slots of a text, in their order.
pub fn slots(text: &str) -> Vec<Slot<'_>> {
    let mut slots = Vec::new();
    let mut from = 0;
    while let Some(open) = text[from..].find('{').map(|at| from + at) {
        from = open + 1;
        let Some(close) = text[from..].find(['{', '}', '\n']).map(|at| from + at) else { break };
        if !text[close..].starts_with('}') {
            continue;
        }
        let (name, fallback) = match text[from..close].split_once('|') {
            Some((name, fallback)) => (name, Some(fallback)),
            None => (&text[from..close], None),
        };
        let named = |letter: char| letter.is_alphanumeric() || letter == '_';
        if (1..=MAX_NAME).contains(&name.chars().count()) && name.chars().all(named) {
            slots.push(Slot { name, fallback, at: open..close + 1 });
            from = close + 1;
        }
    }
    slots
}

/// The text with its slots filled by `value`, or by their own words. `None` when one can be filled by neither.
pub fn fill(text: &str, value: impl Fn(&str) -> Option<String>) -> Option<String> {
    let mut filled = String::with_capacity(text.len());
    let mut from = 0;
    for slot in slots(text) {
        filled.push_str(&text[from..slot.at.start]);
        filled.push_str(&value(slot.name).or_else(|| slot.fallback.map(str::to_owned))?);
        from = slot.at.end;
    }
    filled.push_str(&text[from..]);
    Some(filled)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(text: &str) -> Option<String> {
        fill(text, |name| (name == "订单号").then(|| "A1".to_owned()))
    }

    #[test]
    fn a_slot_is_filled_by_what_is_known() {
        assert_eq!(filled("您的订单{订单号}已发货").as_deref(), Some("您的订单A1已发货"));
        assert_eq!(filled("{称呼|亲}，订单{订单号|}好了").as_deref(), Some("亲，订单A1好了"));
        assert_eq!(filled("{称呼}，您好"), None);
        assert_eq!(filled("{称呼|}您好").as_deref(), Some("您好"));
    }

    #[test]
    fn other_braces_are_braces() {
        for text in ["", "{}", "{ 订单号 }", "{a-b}", "}{", "{订单号", "{订单\n号}", "{{", "好{|亲}"] {
            assert_eq!(filled(text).as_deref(), Some(text), "{text}");
        }
        assert_eq!(filled("{{订单号}}").as_deref(), Some("{A1}"));
        let long = format!("{{{}}}", "长".repeat(33));
        assert_eq!(filled(&long), Some(long));
    }
}
