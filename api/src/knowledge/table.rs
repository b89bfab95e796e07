//! What CSV and Excel share: the names of columns, and a row as an entry.

use serde::Serialize;
use serde::de::DeserializeOwned;
use yingda_engine::KnowledgeEntry;

use super::validate::normal_day;
use super::{Place, Problems, quoted};

/// Several values of one cell stand between these.
const SEPARATOR: char = '|';

/// The columns, as people may name them: the name of the field, and in Chinese.
pub(super) const COLUMNS: [(&str, &str); 15] = [
    ("id", "编号"),
    ("question", "标准问题"),
    ("similar_questions", "相似问法"),
    ("answer", "答案"),
    ("intent", "意图"),
    ("tags", "标签"),
    ("valid_from", "生效日期"),
    ("valid_to", "失效日期"),
    ("category", "分类"),
    ("owner", "负责人"),
    ("channels", "渠道"),
    ("audiences", "人群"),
    ("products", "商品"),
    // As in the JSON forms.
    ("parts", "附件"),
    ("variants", "其他答案"),
];
/// So many are written always, the others where an entry fills them.
const ALWAYS: usize = 8;
const REQUIRED: [&str; 3] = ["id", "question", "answer"];

/// The field that a column of this name holds, as an index of [`COLUMNS`].
pub(super) fn field(name: &str) -> Option<usize> {
    let name = name.trim();
    COLUMNS.iter().position(|(english, chinese)| name.eq_ignore_ascii_case(english) || name == *chinese)
}

/// Which cell of a row holds what.
pub(super) struct Header {
    /// For every cell its field; `None` for a cell beneath no name.
    cells: Vec<Option<usize>>,
}

impl Header {
    /// Reads the row of names; `None` when rows beneath it cannot be read.
    pub(super) fn new(names: &[String], place: &Place, problems: &mut Problems) -> Option<Self> {
        let wanted = || {
            let names: Vec<String> =
                COLUMNS.iter().map(|(english, chinese)| format!("{english} ({chinese})")).collect();
            format!("columns are {}", names.join(", "))
        };
        let mut cells = Vec::new();
        let mut good = true;
        let mut wrong = |message: String| {
            problems.add(place, message);
            good = false;
        };
        for name in names.iter().map(|name| name.trim()) {
            let found = field(name);
            if found.is_none() && !name.is_empty() {
                wrong(format!("unknown column {}; {}", quoted(name), wanted()));
            }
            if let Some(index) = found
                && cells.contains(&found)
            {
                let (english, chinese) = COLUMNS[index];
                wrong(format!("two columns are named {english} ({chinese}); remove one"));
            }
            cells.push(found);
        }
        for name in REQUIRED.iter().filter(|name| !cells.contains(&field(name))) {
            let chinese = field(name).map_or("", |index| COLUMNS[index].1);
            wrong(format!("the column {name} ({chinese}) is missing; {}", wanted()));
        }
        good.then_some(Self { cells })
    }

    /// How many cells the row of names has.
    pub(super) fn len(&self) -> usize {
        self.cells.len()
    }

    /// What the cell with this index holds: the name of its field.
    pub(super) fn field(&self, cell: usize) -> Option<&'static str> {
        self.cells.get(cell).copied().flatten().map(|index| COLUMNS[index].0)
    }

    /// The entry of a row.
    pub(super) fn entry(&self, row: &[String], place: &Place, problems: &mut Problems) -> KnowledgeEntry {
        let mut entry = KnowledgeEntry::default();
        for (index, text) in row.iter().enumerate() {
            let text = text.trim();
            if text.is_empty() {
                continue;
            }
            let several = || text.split(SEPARATOR).map(str::trim).filter(|text| !text.is_empty()).map(str::to_owned);
            match self.field(index) {
                Some("id") => entry.id = text.to_owned(),
                Some("question") => entry.question = text.to_owned(),
                Some("similar_questions") => entry.similar_questions = several().collect(),
                Some("answer") => entry.answer = text.to_owned(),
                Some("intent") => entry.intent = Some(text.to_owned()),
                Some("tags") => entry.tags = several().collect(),
                Some("valid_from") => entry.valid_from = Some(normal_day(text)),
                Some("valid_to") => entry.valid_to = Some(normal_day(text)),
                Some("category") => entry.category = Some(text.to_owned()),
                Some("owner") => entry.owner = Some(text.to_owned()),
                Some("channels") => entry.channels = several().collect(),
                Some("audiences") => entry.audiences = several().collect(),
                Some("products") => entry.products = several().collect(),
                Some(name @ "parts") => entry.parts = from_json(name, text, place, problems),
                Some(name @ "variants") => entry.variants = from_json(name, text, place, problems),
                _ => {
                    let column = column(index);
                    problems.add(place, format!("{} in column {column} stands beneath no column name", quoted(text)));
                }
            }
        }
        entry
    }
}

fn from_json<T: DeserializeOwned>(name: &str, text: &str, place: &Place, problems: &mut Problems) -> Vec<T> {
    serde_json::from_str(text).unwrap_or_else(|error| {
        problems.add(place, format!("`{name}` wants a JSON list, as in a JSON file: {error}"));
        Vec::new()
    })
}

fn to_json<T: Serialize>(list: &[T]) -> String {
    if list.is_empty() { String::new() } else { serde_json::to_string(list).expect("plain data is always JSON") }
}

/// The letters of a column, as a table shows them.
pub(super) fn column(index: usize) -> String {
    let (rest, letter) = (index / 26, char::from(b'A' + (index % 26) as u8));
    if rest == 0 { letter.to_string() } else { format!("{}{letter}", column(rest - 1)) }
}

/// The columns that are written for these entries, as indices of [`COLUMNS`].
pub(super) fn written(entries: &[KnowledgeEntry]) -> Vec<usize> {
    let filled = |column: usize| entries.iter().any(|entry| !row(entry)[column].is_empty());
    (0..COLUMNS.len()).filter(|column| *column < ALWAYS || filled(*column)).collect()
}

/// The cells of an entry, in the order of [`COLUMNS`].
pub(super) fn row(entry: &KnowledgeEntry) -> [String; 15] {
    let several = |list: &[String]| list.join(&SEPARATOR.to_string());
    [
        entry.id.clone(),
        entry.question.clone(),
        several(&entry.similar_questions),
        entry.answer.clone(),
        entry.intent.clone().unwrap_or_default(),
        several(&entry.tags),
        entry.valid_from.clone().unwrap_or_default(),
        entry.valid_to.clone().unwrap_or_default(),
        entry.category.clone().unwrap_or_default(),
        entry.owner.clone().unwrap_or_default(),
        several(&entry.channels),
        several(&entry.audiences),
        several(&entry.products),
        to_json(&entry.parts),
        to_json(&entry.variants),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_have_letters() {
        assert_eq!([0, 25, 26, 701, 702, 16383].map(column), ["A", "Z", "AA", "ZZ", "AAA", "XFD"]);
    }
}
