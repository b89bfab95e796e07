//! Comma-separated values.

use ::csv::{ReaderBuilder, Writer};
use yingda_engine::KnowledgeEntry;

use super::table::{self, COLUMNS, Header};
use super::{Place, Placed, Problems};

pub(super) fn parse(text: &str, problems: &mut Problems) -> Vec<Placed> {
    quotation_marks(text, problems);
    let mut reader = ReaderBuilder::new().has_headers(false).flexible(true).from_reader(text.as_bytes());
    let mut lines = Lines { text, byte: 0, line: 1 };
    let mut header: Option<Header> = None;
    let mut entries = Vec::new();
    for record in reader.records() {
        let (place, row) = match record {
            Ok(record) => {
                let place = Place::line(lines.at(record.position().map_or(0, |position| position.byte() as usize)));
                (place, record.iter().map(str::to_owned).collect::<Vec<_>>())
            }
            Err(error) => {
                problems.add(&Place::file(), error.to_string());
                return Vec::new();
            }
        };
        // Excel leaves rows of nothing but commas behind.
        if row.iter().all(|cell| cell.trim().is_empty()) {
            continue;
        }
        let Some(header) = &header else {
            if let [only] = row.as_slice()
                && only.contains(['\t', ';'])
            {
                problems.add(&place, "the columns are separated by tabs or semicolons; save the file with commas");
                return Vec::new();
            }
            match Header::new(&row, &place, problems) {
                Some(new) => header = Some(new),
                None => return Vec::new(),
            }
            continue;
        };
        if row.len() != header.len() {
            let message = format!(
                "{} columns where the row of column names has {}; put a text that holds a comma in quotation marks",
                row.len(),
                header.len()
            );
            problems.add(&place, message);
            continue;
        }
        let entry = header.entry(&row, &place, problems);
        entries.push(Placed { place, entry, id_of_question: false });
    }
    entries
}

/// Byte offsets to line numbers, for offsets that grow.
struct Lines<'a> {
    text: &'a str,
    byte: usize,
    line: usize,
}

impl Lines<'_> {
    /// The line of a record that begins here, after empty lines that belong to none.
    fn at(&mut self, byte: usize) -> usize {
        let bytes = self.text.as_bytes();
        let empty = bytes[byte.min(bytes.len())..].iter().take_while(|byte| matches!(byte, b'\n' | b'\r')).count();
        let byte = (byte + empty).min(bytes.len());
        self.line += bytes[self.byte.min(byte)..byte].iter().filter(|byte| **byte == b'\n').count();
        self.byte = byte;
        self.line
    }
}

/// A quotation mark that is never closed would swallow all rows beneath it; one that stands within a text in quotation marks
/// would get lost.
fn quotation_marks(text: &str, problems: &mut Problems) {
    #[derive(PartialEq)]
    enum At {
        Start,
        Plain,
        Quoted,
        Closed,
    }
    let (mut at, mut line, mut opened) = (At::Start, 1, 1);
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        line += usize::from(character == '\n');
        at = match (at, character) {
            (At::Quoted, '"') if characters.peek() == Some(&'"') => {
                characters.next();
                At::Quoted
            }
            (At::Quoted, '"') => At::Closed,
            (At::Quoted, _) => At::Quoted,
            (_, ',' | '\n' | '\r') => At::Start,
            (At::Start, '"') => {
                opened = line;
                At::Quoted
            }
            (At::Closed, ' ' | '\t') => At::Closed,
            (At::Closed, _) => {
                let message = "text stands behind a closing quotation mark; double a mark that belongs to the text";
                problems.add(&Place::line(line), message);
                At::Plain
            }
            (At::Start | At::Plain, _) => At::Plain,
        };
    }
    if at == At::Quoted {
        problems.add(&Place::line(opened), "a quotation mark is opened here and never closed; close or double it");
    }
}

pub(super) fn render(entries: &[KnowledgeEntry]) -> Result<Vec<u8>, String> {
    // Without the mark, Excel in China would read it as GB18030.
    let mut writer = Writer::from_writer("\u{feff}".as_bytes().to_vec());
    let columns = table::written(entries);
    writer.write_record(columns.iter().map(|column| COLUMNS[*column].0)).map_err(|error| error.to_string())?;
    for row in entries.iter().map(table::row) {
        writer.write_record(columns.iter().map(|column| &row[*column])).map_err(|error| error.to_string())?;
    }
    writer.into_inner().map_err(|error| error.to_string())
}
