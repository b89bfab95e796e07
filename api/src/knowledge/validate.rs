//! What must hold of the entries of every knowledge file, whatever its form.

use std::collections::HashMap;

use yingda_engine::slots::slots;
use yingda_engine::{KnowledgeEntry, Part};

use super::{Place, Placed, Problems, quoted};

/// Longest text of an entry, in characters.
const MAX_LENGTH: usize = 20_000;
/// Longest id, in characters: so long may one be in an address.
const MAX_ID: usize = 128;
/// Most similar questions of an entry: each is kept with the whole entry.
const MAX_SIMILAR: usize = 1_000;

/// Every text of an entry with the name of its field; days are not among them.
pub(super) fn texts(entry: &KnowledgeEntry) -> impl Iterator<Item = (&'static str, &str)> {
    let lists = |field, list| <[String]>::iter(list).map(move |text| (field, text.as_str()));
    [("id", entry.id.as_str()), ("question", &entry.question)]
        .into_iter()
        .chain(lists("similar_questions", &entry.similar_questions))
        .chain([("answer", entry.answer.as_str())])
        .chain(entry.intent.as_deref().map(|intent| ("intent", intent)))
        .chain(lists("tags", &entry.tags))
        .chain(entry.category.as_deref().map(|category| ("category", category)))
        .chain(entry.owner.as_deref().map(|owner| ("owner", owner)))
        .chain(lists("channels", &entry.channels))
        .chain(lists("audiences", &entry.audiences))
        .chain(lists("products", &entry.products))
        .chain(entry.parts.iter().flat_map(texts_of))
        .chain(entry.variants.iter().flat_map(move |variant| {
            [("variants", variant.answer.as_str())]
                .into_iter()
                .chain(lists("variants", &variant.channels))
                .chain(lists("variants", &variant.audiences))
                .chain(variant.parts.iter().flat_map(texts_of))
        }))
}

fn texts_of(part: &Part) -> Vec<(&'static str, &str)> {
    let texts = match part {
        Part::Text { text } => vec![text],
        Part::Image { url, description } => std::iter::once(url).chain(description).collect(),
        Part::Link { title, url } => vec![title, url],
        Part::MiniProgram { app_id, page, title } => vec![app_id, page, title],
    };
    texts.into_iter().map(|text| ("parts", text.as_str())).collect()
}

/// What is wrong with one entry, if anything.
pub(super) fn problems_of(entry: &KnowledgeEntry) -> Vec<String> {
    let mut problems = Problems::default();
    validate(&[Placed { place: Place::file(), entry: entry.clone(), id_of_question: false }], &mut problems);
    problems.list().into_iter().map(|problem| problem.message).collect()
}

pub(super) fn validate(entries: &[Placed], problems: &mut Problems) {
    let mut seen: HashMap<&str, &Place> = HashMap::new();
    for Placed { place, entry, id_of_question } in entries {
        for (field, text) in texts(entry) {
            if text.trim().is_empty() && !matches!(field, "intent" | "tags" | "category" | "owner") {
                problems.add(place, format!("`{field}` is empty; fill it in, or remove the whole entry"));
            } else if text.chars().count() > MAX_LENGTH {
                problems.add(place, format!("`{field}` is longer than {MAX_LENGTH} characters; shorten it"));
            } else if text.contains('\0') {
                problems.add(place, format!("`{field}` holds a NUL character; remove it"));
            }
        }
        if entry.similar_questions.len() > MAX_SIMILAR {
            let count = entry.similar_questions.len();
            problems.add(
                place,
                format!(
                    "`similar_questions` has {count} wordings and may have {MAX_SIMILAR}; keep those that differ most"
                ),
            );
        }
        if entry.id.chars().count() > MAX_ID || entry.id.chars().any(char::is_control) {
            let id = quoted(&entry.id);
            problems.add(place, format!("the id {id} is longer than {MAX_ID} characters or holds a control character"));
        }
        // An empty question makes the same id again and again; that it is empty has been said.
        let named = if *id_of_question { &entry.question } else { &entry.id };
        if !named.trim().is_empty() {
            match seen.get(entry.id.as_str()) {
                Some(first) if *id_of_question => {
                    let message = format!(
                        "the question stands at {} too; put both into one entry, or give this one an id of its own",
                        first.text
                    );
                    problems.add(place, message);
                }
                Some(first) => {
                    let id = quoted(&entry.id);
                    problems.add(place, format!("the id {id} is already used at {}; ids must differ", first.text));
                }
                None => {
                    seen.insert(&entry.id, place);
                }
            }
        }
        for slot in slots(&entry.answer).iter().filter(|slot| slot.fallback.is_none()) {
            let name = slot.name;
            problems.add(
                place,
                format!("`answer` holds the slot {{{name}}}, which not every customer fills; write {{{name}|...}} with what is \
                         said instead, or move the answer into `variants`"),
            );
        }
        for variant in
            entry.variants.iter().filter(|variant| variant.channels.is_empty() && variant.audiences.is_empty())
        {
            if slots(&variant.answer).is_empty() {
                problems.add(
                    place,
                    "one of `variants` is for everybody and takes the place of `answer`; name its channels or audiences",
                );
            }
        }
        let addresses = entry.parts.iter().chain(entry.variants.iter().flat_map(|variant| &variant.parts));
        for part in addresses {
            if let Part::Image { url, .. } | Part::Link { url, .. } = part
                && !["https://", "http://"].iter().any(|scheme| url.starts_with(scheme))
            {
                problems
                    .add(place, format!("an address of `parts` must begin with https://, but it is {}", quoted(url)));
            }
        }
        let mut days = Vec::new();
        for (field, day) in [("valid_from", &entry.valid_from), ("valid_to", &entry.valid_to)] {
            match day.as_deref().map(|day| (day, is_day(day))) {
                Some((day, false)) => problems
                    .add(place, format!("`{field}` must be a day such as 2026-01-31, but it is {}", quoted(day))),
                Some((day, true)) => days.push(day),
                None => {}
            }
        }
        if let [from, to] = days.as_slice()
            && from > to
        {
            let message = format!("`valid_from` ({from}) lies after `valid_to` ({to}); exchange them, or correct one");
            problems.add(place, message);
        }
    }
}

/// Whether this is a day of the calendar as `YYYY-MM-DD`.
pub(super) fn is_day(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let [year, month, day] = parts.as_slice() else { return false };
    if (year.len(), month.len(), day.len()) != (4, 2, 2) || !parts.iter().all(|part| digits(part)) {
        return false;
    }
    let (Ok(year), Ok(month), Ok(day)) = (year.parse(), month.parse::<u8>(), day.parse()) else { return false };
    time::Month::try_from(month).is_ok_and(|month| time::Date::from_calendar_date(year, month, day).is_ok())
}

fn digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// A day as people and Excel write it (`2026/1/31`, `2026年1月31日`, also with the time 0:00) as `YYYY-MM-DD`; anything else as
/// it is, for [`validate`] to refuse.
pub(super) fn normal_day(text: &str) -> String {
    let day = match text.split_once(' ') {
        Some((day, time)) if matches!(time.trim(), "0:00" | "00:00" | "0:00:00" | "00:00:00") => day,
        _ => text,
    };
    let day = day.strip_suffix('日').unwrap_or(day);
    let parts: Vec<&str> = day.split(['-', '/', '.', '年', '月']).collect();
    if let [year, month, day] = parts.as_slice()
        && year.len() == 4
        && (1..=2).contains(&month.len())
        && (1..=2).contains(&day.len())
        && parts.iter().all(|part| digits(part))
    {
        return format!("{year}-{month:0>2}-{day:0>2}");
    }
    text.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_days() {
        assert!(is_day("2024-02-29") && !is_day("2023-02-29") && !is_day("2024-2-9") && !is_day("tomorrow"));
        assert!(!is_day("+024-02-29"));
    }

    #[test]
    fn days_of_people_become_days() {
        for text in ["2026-01-05", "2026/1/5", "2026.1.5", "2026年1月5日", "2026/1/5 0:00", "2026-01-05 00:00:00"] {
            assert_eq!(normal_day(text), "2026-01-05");
        }
        for text in ["2026-13-01", "26/1/5", "1/5/2026", "2026/1/5 8:00", "明天", "2026年", ""] {
            assert!(!is_day(&normal_day(text)), "{text}");
        }
    }
}
