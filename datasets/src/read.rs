//! Files to data frames: one frame a file, with our column names, the file and the row.
//!
//! Parquet is scanned lazily, and only the wanted columns. Text files are cut into records here, because a row must keep
//! its line and a bad line must be told without stopping at it, neither of which the polars readers do.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use polars::prelude::*;
use serde_json::Value;

use crate::chats::Chats;
use crate::decode::decode;
use crate::delimited::Records;
use crate::error::{DatasetsError, Result};
use crate::problem::{Problem, Severity};
use crate::schema::{CHAT_FIELDS, ColumnMap, Field};

/// Reads chats from files in CSV, TSV, JSON Lines, JSON (an array of objects) or Parquet, told by their names.
///
/// Text is UTF-8 or GB18030, or UTF-16 with its mark. A line that cannot be read is a problem for [`check`](crate::check)
/// to tell; only what concerns a whole file is an error.
pub fn load(paths: &[PathBuf], map: &ColumnMap) -> Result<Chats> {
    let mut frames = Vec::with_capacity(paths.len());
    let mut problems = Vec::new();
    for path in paths {
        let source = read_source(path, CHAT_FIELDS, map)?;
        frames.push(source.frame.lazy());
        problems.extend(source.problems);
    }
    if frames.is_empty() {
        return Err(DatasetsError::NoFiles);
    }
    let all = concat(frames, UnionArgs { rechunk: true, maintain_order: true, ..Default::default() })?.collect()?;
    Chats::from_cells(all, problems)
}

/// What one file holds: a column for each field, in their order, then `file` and `row`.
///
/// Cells are strings; those of a list field are lists of strings, or strings where a Parquet file has them so.
pub(crate) struct Source {
    pub(crate) frame: DataFrame,
    pub(crate) problems: Vec<Problem>,
}

/// Reads one file.
pub(crate) fn read_source(path: &Path, fields: &[Field], map: &ColumnMap) -> Result<Source> {
    let file = path.display().to_string();
    let format = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default().to_ascii_lowercase();
    let mut table = Table::new(&file, fields, map);
    match format.as_str() {
        "csv" => table.read_delimited(&read_text(path, &file)?, b',')?,
        "tsv" => table.read_delimited(&read_text(path, &file)?, b'\t')?,
        "jsonl" | "ndjson" => table.read_json_lines(&read_text(path, &file)?)?,
        "json" => {
            let text = read_text(path, &file)?;
            if text.trim_start().starts_with('{') {
                table.read_json_lines(&text)?;
            } else {
                table.read_json_array(&text)?;
            }
        }
        "parquet" => return read_parquet(path, &file, fields, map),
        _ => return Err(DatasetsError::UnknownFormat { file }),
    }
    table.finish()
}

/// The text of a file; one without any is an error.
pub(crate) fn read_text(path: &Path, file: &str) -> Result<String> {
    let bytes = std::fs::read(path).map_err(|source| DatasetsError::Read { file: file.to_owned(), source })?;
    let text = decode(file, bytes)?;
    if text.trim().is_empty() { Err(DatasetsError::EmptyFile { file: file.to_owned() }) } else { Ok(text) }
}

/// Splits the texts of one cell that are joined by `|`.
pub(crate) fn split_list(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('|').map(str::trim).filter(|item| !item.is_empty())
}

/// Refuses a file that lacks a required column, or one that was mapped.
fn require_columns(file: &str, fields: &[Field], map: &ColumnMap, found: &[String]) -> Result<()> {
    let must = |field: &&Field| field.required || map.is_mapped(field.name);
    let shown = |field: &Field| {
        let theirs = map.theirs(field.name);
        if theirs == field.name { field.name.to_owned() } else { format!("{theirs} (for {})", field.name) }
    };
    let list = |fields: Vec<&Field>| fields.into_iter().map(shown).collect::<Vec<_>>().join(", ");

    let missing: Vec<&Field> =
        fields.iter().filter(must).filter(|field| !found.iter().any(|name| name == map.theirs(field.name))).collect();
    let Some(first) = missing.first() else {
        return Ok(());
    };
    Err(DatasetsError::MissingColumns {
        file: file.to_owned(),
        example: first.name,
        missing: list(missing),
        wanted: list(fields.iter().filter(must).collect()),
        found: if found.is_empty() { "nothing".to_owned() } else { found.join(", ") },
    })
}

/// What stands at one row and field.
enum Cell {
    Nothing,
    Text(String),
    List(Vec<String>),
}

/// The rows of one text file, column by column.
struct Table<'a> {
    file: &'a str,
    fields: &'a [Field],
    map: &'a ColumnMap,
    columns: Vec<Vec<Cell>>,
    rows: Vec<u64>,
    problems: Vec<Problem>,
}

impl<'a> Table<'a> {
    fn new(file: &'a str, fields: &'a [Field], map: &'a ColumnMap) -> Self {
        let columns = fields.iter().map(|_| Vec::new()).collect();
        Table { file, fields, map, columns, rows: Vec::new(), problems: Vec::new() }
    }

    fn problem(&mut self, row: u64, message: String, remedy: &str) {
        self.problems.push(Problem::at(Severity::Error, "malformed_row", (self.file, row), message, remedy));
    }

    fn read_delimited(&mut self, text: &str, separator: u8) -> Result<()> {
        let mut records = Records::new(text, separator);
        let header = match records.next().map(|record| record.cells) {
            Some(Ok(cells)) => cells.iter().map(|cell| cell.trim().to_owned()).collect::<Vec<_>>(),
            Some(Err(_)) | None => Vec::new(),
        };
        require_columns(self.file, self.fields, self.map, &header)?;
        let mut places = Vec::with_capacity(self.fields.len());
        for field in self.fields {
            let theirs = self.map.theirs(field.name);
            let mut matches = header.iter().enumerate().filter(|(_, name)| name.as_str() == theirs);
            places.push(matches.next().map(|(place, _)| place));
            if matches.next().is_some() {
                return Err(DatasetsError::DuplicateColumn { file: self.file.to_owned(), column: theirs.to_owned() });
            }
        }

        for record in records {
            let cells = match record.cells {
                Ok(cells) => cells,
                Err(wrong) => {
                    self.problem(record.line, wrong.to_owned(), "close the quote, and double the quotes inside a cell");
                    continue;
                }
            };
            if cells.iter().all(|cell| cell.trim().is_empty()) {
                continue;
            }
            if cells.len() != header.len() {
                self.problem(
                    record.line,
                    format!("the row has {} cell(s), the header has {}", cells.len(), header.len()),
                    "put a cell that holds a separator or a line end between quotes, and leave no cell out",
                );
                continue;
            }
            for ((column, place), field) in self.columns.iter_mut().zip(&places).zip(self.fields) {
                let cell = place.and_then(|place| cells.get(place));
                column.push(match cell {
                    Some(cell) if field.list => Cell::List(split_list(cell).map(str::to_owned).collect()),
                    Some(cell) => Cell::Text(cell.clone().into_owned()),
                    None => Cell::Nothing,
                });
            }
            self.rows.push(record.line);
        }
        Ok(())
    }

    fn read_json_lines(&mut self, text: &str) -> Result<()> {
        let mut names = Names::default();
        for (number, line) in (1u64..).zip(text.split('\n')) {
            let line = line.trim();
            if line.is_empty() {
                continue;
            }
            match serde_json::from_str::<Value>(line) {
                Ok(value) => self.read_object(number, value, &mut names),
                Err(error) => self.problem(
                    number,
                    format!("the line is not JSON: {}", in_its_line(&error)),
                    "write one whole JSON object a line, without lone surrogates such as \\ud800",
                ),
            }
        }
        self.require_names(&names)
    }

    fn read_json_array(&mut self, text: &str) -> Result<()> {
        let values: Vec<Value> = serde_json::from_str(text)
            .map_err(|error| DatasetsError::Json { file: self.file.to_owned(), detail: error.to_string() })?;
        let mut names = Names::default();
        for (number, value) in (1u64..).zip(values) {
            self.read_object(number, value, &mut names);
        }
        self.require_names(&names)
    }

    fn require_names(&self, names: &Names) -> Result<()> {
        if names.objects == 0 {
            return Ok(());
        }
        let found: Vec<String> = names.wanted.union(&names.others).cloned().collect();
        require_columns(self.file, self.fields, self.map, &found)
    }

    fn read_object(&mut self, number: u64, value: Value, names: &mut Names) {
        const REMEDY: &str = "write one object a message, with a string or a number for each field";
        let Value::Object(object) = value else {
            return self.problem(number, "this is JSON, but no object".to_owned(), REMEDY);
        };
        names.add(&object, |name| self.fields.iter().any(|field| self.map.theirs(field.name) == name));
        let mut cells = Vec::with_capacity(self.fields.len());
        for field in self.fields {
            let theirs = self.map.theirs(field.name);
            match json_cell(object.get(theirs), field.list) {
                Ok(cell) => cells.push(cell),
                Err(wrong) => {
                    return self.problem(number, format!("the field `{theirs}` is {wrong}"), REMEDY);
                }
            }
        }
        for (column, cell) in self.columns.iter_mut().zip(cells) {
            column.push(cell);
        }
        self.rows.push(number);
    }

    fn finish(mut self) -> Result<Source> {
        if self.rows.is_empty() && self.problems.is_empty() {
            self.problems.push(Problem {
                severity: Severity::Warning,
                code: "no_rows",
                file: Some(self.file.to_owned()),
                row: None,
                message: "the file has no rows".to_owned(),
                remedy: "name another file, or export it again".to_owned(),
            });
        }
        let height = self.rows.len();
        let mut columns: Vec<Column> = Vec::with_capacity(self.fields.len() + 2);
        for (field, cells) in self.fields.iter().zip(self.columns) {
            columns.push(if field.list { list_column(field.name, &cells) } else { text_column(field.name, &cells) });
        }
        columns.push(StringChunked::full("file".into(), self.file, height).into_column());
        columns.push(UInt64Chunked::from_vec("row".into(), self.rows).into_column());
        Ok(Source { frame: DataFrame::new(height, columns)?, problems: self.problems })
    }
}

/// The names of the fields in a JSON file.
#[derive(Default)]
struct Names {
    wanted: BTreeSet<String>,
    others: BTreeSet<String>,
    objects: usize,
}

impl Names {
    fn add(&mut self, object: &serde_json::Map<String, Value>, is_wanted: impl Fn(&str) -> bool) {
        /// Enough to recognise a file by; a file with a new name in every row must not fill the memory.
        const MOST: usize = 32;
        self.objects += 1;
        for name in object.keys() {
            if self.wanted.contains(name) || self.others.contains(name) {
                continue;
            }
            if is_wanted(name) {
                self.wanted.insert(name.clone());
            } else if self.others.len() < MOST {
                self.others.insert(name.clone());
            }
        }
    }
}

/// A parser's words without its own count of lines, which is always 1.
fn in_its_line(error: &serde_json::Error) -> String {
    error.to_string().replace(" at line 1 column ", " at character ")
}

fn json_cell(value: Option<&Value>, list: bool) -> std::result::Result<Cell, String> {
    let Some(value) = value else {
        return Ok(Cell::Nothing);
    };
    if list {
        return Ok(match value {
            Value::Null => Cell::Nothing,
            Value::Array(items) => {
                let items: std::result::Result<Vec<_>, _> = items.iter().map(json_text).collect();
                Cell::List(items?.into_iter().flatten().collect())
            }
            other => Cell::List(split_list(&json_text(other)?.unwrap_or_default()).map(str::to_owned).collect()),
        });
    }
    Ok(json_text(value)?.map_or(Cell::Nothing, Cell::Text))
}

/// A string, number or boolean as a text; nothing for null; what it is instead, as an error.
pub(crate) fn json_text(value: &Value) -> std::result::Result<Option<String>, String> {
    /// From here on, a number with a fraction type no longer tells neighbours apart.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    match value {
        Value::Null => Ok(None),
        Value::Bool(value) => Ok(Some(value.to_string())),
        Value::Number(number) if number.is_f64() && number.as_f64().is_none_or(|value| value.abs() >= EXACT) => {
            Err("a number with too many digits to be read exactly; write it between quotes".to_owned())
        }
        Value::Number(number) => Ok(Some(number.to_string())),
        Value::String(text) => Ok(Some(text.clone())),
        Value::Array(_) => Err("a list".to_owned()),
        Value::Object(_) => Err("an object".to_owned()),
    }
}

fn text_column(name: &str, cells: &[Cell]) -> Column {
    let texts = cells.iter().map(|cell| match cell {
        Cell::Text(text) => Some(text.as_str()),
        Cell::Nothing | Cell::List(_) => None,
    });
    StringChunked::from_iter_options(name.into(), texts).into_column()
}

fn list_column(name: &str, cells: &[Cell]) -> Column {
    let mut builder = ListStringChunkedBuilder::new(name.into(), cells.len(), cells.len());
    for cell in cells {
        match cell {
            Cell::List(items) => builder.append_values_iter(items.iter().map(String::as_str)),
            Cell::Nothing | Cell::Text(_) => builder.append_null(),
        }
    }
    builder.finish().into_column()
}

fn read_parquet(path: &Path, file: &str, fields: &[Field], map: &ColumnMap) -> Result<Source> {
    let wrong = |detail: String| DatasetsError::Parquet { file: file.to_owned(), detail };
    let opened = std::fs::metadata(path).map_err(|source| DatasetsError::Read { file: file.to_owned(), source })?;
    if opened.len() == 0 {
        return Err(DatasetsError::EmptyFile { file: file.to_owned() });
    }
    let name = path.to_str().ok_or_else(|| wrong("its path is not Unicode".to_owned()))?;
    let args = ScanArgsParquet { glob: false, ..Default::default() };

    // The Parquet reader panics on some files with types that it does not know, or that are damaged.
    let scanned = catch_unwind(AssertUnwindSafe(|| {
        let mut scan = LazyFrame::scan_parquet(PlRefPath::new(name), args)?;
        let schema = scan.collect_schema()?;
        let found: Vec<String> = schema.iter_names().map(|name| name.to_string()).collect();
        if let Err(missing) = require_columns(file, fields, map, &found) {
            return Ok(Err(missing));
        }
        let mut columns: Vec<Expr> = Vec::with_capacity(fields.len() + 2);
        for field in fields {
            let theirs = map.theirs(field.name);
            columns.push(match schema.get(theirs) {
                Some(DataType::List(_)) if field.list => col(theirs).cast(DataType::List(Box::new(DataType::String))),
                Some(_) => col(theirs).cast(DataType::String),
                None => lit(NULL).cast(DataType::String),
            });
            if let Some(last) = columns.pop() {
                columns.push(last.alias(field.name));
            }
        }
        columns.push(lit(file).alias("file"));
        columns.push(col(ROW_INDEX).cast(DataType::UInt64).alias("row"));
        scan.with_row_index(ROW_INDEX, Some(1)).select(columns).collect().map(Ok)
    }));
    let frame = match scanned {
        Ok(Ok(frame)) => frame?,
        Ok(Err(error)) => return Err(wrong(error.to_string())),
        Err(_) => {
            return Err(wrong("it is damaged, or holds a type that is not known".to_owned()));
        }
    };
    Ok(Source { frame, problems: Vec::new() })
}

/// A name that no column of theirs is likely to have.
const ROW_INDEX: &str = "__yingda_row";

#[cfg(test)]
mod tests {
    use encoding_rs::GB18030;

    use super::*;
    use crate::check::{CheckOptions, check};

    const CSV: &str = "session_id,turn,role,text,intent\n7,0,user,\"我的包裹,到哪里了?\",物流\n7,1,agent,您好,\n";
    const JSONL: &str = concat!(
        r#"{"session_id":7,"turn":"0","role":"user","text":"我的包裹,到哪里了?","intent":"物流"}"#,
        "\n",
        r#"{"session_id":7,"turn":1,"role":"agent","text":"您好","intent":null,"other":[1]}"#,
        "\n"
    );

    fn load_bytes(name: &str, bytes: &[u8]) -> Result<Chats> {
        load_mapped(name, bytes, &ColumnMap::default())
    }

    fn load_mapped(name: &str, bytes: &[u8], map: &ColumnMap) -> Result<Chats> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).expect("written");
        load(&[path], map)
    }

    fn gb18030(text: &str) -> Vec<u8> {
        GB18030.encode(text).0.into_owned()
    }

    fn sentence(name: &str, bytes: &[u8]) -> String {
        load_bytes(name, bytes).err().map(|error| error.to_string()).unwrap_or_default()
    }

    /// The codes and rows of what stood in the way of reading.
    fn problems(name: &str, bytes: &[u8]) -> Vec<(&'static str, u64)> {
        let chats = load_bytes(name, bytes).expect("loaded");
        chats.problems().iter().map(|problem| (problem.code, problem.row.unwrap_or(0))).collect()
    }

    #[test]
    fn every_format_and_encoding_gives_the_same_messages() {
        let tsv =
            "session_id\tturn\trole\ttext\tintent\r\n7\t0\tuser\t我的包裹,到哪里了?\t物流\r\n7\t1.0\tagent\t您好\t\r\n";
        let array = format!("[{}]", JSONL.trim().replace('\n', ",\n"));
        let marked = format!("\u{feff}{CSV}");
        for (name, bytes, rows) in [
            ("a.csv", CSV.as_bytes().to_vec(), [2, 3]),
            ("a.csv", marked.into_bytes(), [2, 3]),
            ("a.CSV", gb18030(CSV), [2, 3]),
            ("a.tsv", tsv.as_bytes().to_vec(), [2, 3]),
            ("a.jsonl", JSONL.as_bytes().to_vec(), [1, 2]),
            ("a.ndjson", gb18030(JSONL), [1, 2]),
            ("a.json", JSONL.as_bytes().to_vec(), [1, 2]),
            ("a.json", array.into_bytes(), [1, 2]),
        ] {
            let chats = load_bytes(name, &bytes).expect(name);
            assert!(chats.problems().is_empty(), "{name}: {:?}", chats.problems());
            let messages = chats.messages().expect(name);
            assert_eq!(messages.len(), 2, "{name}");
            assert_eq!(messages[0].session_id, "7", "{name}");
            assert_eq!(messages[0].text, "我的包裹,到哪里了?", "{name}");
            assert_eq!(messages[0].intent.as_deref(), Some("物流"), "{name}");
            assert_eq!((messages[1].turn, messages[1].intent.as_deref()), (1, None), "{name}");
            assert_eq!([messages[0].row, messages[1].row], rows, "{name}");
            assert!(messages[0].file.ends_with(name));
        }
    }

    #[test]
    fn a_parquet_file_of_other_tools_is_read() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.parquet");
        let mut frame = DataFrame::new_infer_height(vec![
            Column::new("session_id".into(), [12i64, 12]),
            Column::new("turn".into(), [Some(0.0f64), Some(1.0)]),
            Column::new("role".into(), ["user", "bot"]),
            Column::new("content".into(), ["退款什么时候到账", "稍等"]),
            Column::new("time".into(), [1_700_000_000_000i64, 0])
                .cast(&DataType::Datetime(TimeUnit::Milliseconds, None))
                .expect("times"),
        ])
        .expect("a frame");
        ParquetWriter::new(std::fs::File::create(&path).expect("created")).finish(&mut frame).expect("written");
        let map = ColumnMap::for_chats(&["text=content"]).expect("a map");
        let messages = load(&[path], &map).expect("loaded").messages().expect("messages");
        assert_eq!((messages[0].session_id.as_str(), messages[0].turn, messages[0].row), ("12", 0, 1));
        assert_eq!((messages[1].text.as_str(), messages[1].turn, messages[1].row), ("稍等", 1, 2));
        assert!(messages[0].time.as_deref().is_some_and(|time| time.starts_with("2023-11-14")));
    }

    #[test]
    fn several_files_become_one_table() {
        let folder = tempfile::tempdir().expect("a folder");
        let (csv, jsonl) = (folder.path().join("a.csv"), folder.path().join("b.jsonl"));
        std::fs::write(&csv, CSV).expect("written");
        std::fs::write(&jsonl, JSONL.replace("\":7", "\":8")).expect("written");
        let messages = load(&[csv, jsonl], &ColumnMap::default()).expect("loaded").messages().expect("messages");
        let places: Vec<_> = messages.iter().map(|message| (message.session_id.as_str(), message.row)).collect();
        assert_eq!(places, [("7", 2), ("7", 3), ("8", 1), ("8", 2)]);
    }

    #[test]
    fn missing_columns_are_named_with_the_way_out() {
        let sentence = sentence("a.csv", "sid,turn,content\n1,0,你好\n".as_bytes());
        let rest = sentence.split_once("a.csv: ").map(|(_, rest)| rest).unwrap_or_default();
        assert_eq!(
            rest,
            "no column session_id, role, text; wanted: session_id, turn, role, text; found: sid, turn, content. If a \
             column is there under another name, say so with --map, for example --map session_id=NAME"
        );
        let map = ColumnMap::for_chats(&["intent=act"]).expect("a map");
        let mapped = load_mapped("a.jsonl", JSONL.as_bytes(), &map).err().map(|error| error.to_string());
        assert!(mapped.is_some_and(|sentence| sentence.contains("no column act (for intent)")));
    }

    #[test]
    fn what_concerns_a_whole_file_stops_with_a_sentence() {
        assert!(matches!(load(&[], &ColumnMap::default()), Err(DatasetsError::NoFiles)));
        assert!(sentence("a.csv", b"").contains("is empty"));
        assert!(sentence("a.jsonl", b"\n \n").contains("is empty"));
        assert!(sentence("a.parquet", b"").contains("is empty"));
        assert!(sentence("a.parquet", b"PAR1 this is no such file PAR1").contains("cannot be read as Parquet"));
        assert!(sentence("a.xlsx", b"x").contains(".csv, .tsv"));
        assert!(sentence("a.json", b"[{]").contains("not a JSON array"));
        assert!(sentence("a.csv", b"text,text,session_id,turn,role\n").contains("two columns are named `text`"));
        assert!(sentence("a.csv", b"session_id,turn,role,text\n1,0,user,\xFF\xFF\n").contains("offset 35"));
        assert!(sentence("a.csv", b"\"session_id,turn\n").contains("found: nothing"));
        let gone = load(&[PathBuf::from("/no/such/chats.csv")], &ColumnMap::default()).err();
        assert!(gone.is_some_and(|error| { error.to_string().starts_with("/no/such/chats.csv cannot be read: ") }));
    }

    #[test]
    fn bad_rows_are_told_with_their_line_and_the_rest_is_read() {
        let csv = "session_id,turn,role,text\n1,0,user\n1,1,user,\"a\"b\n1,2,user,好\n1,x,user,好\n,,,\n1,9,user,a,b\n";
        assert_eq!(
            problems("a.csv", csv.as_bytes()),
            [("malformed_row", 2), ("malformed_row", 3), ("malformed_row", 7), ("bad_turn", 5)]
        );
        let good = r#"{"session_id":1,"turn":0,"role":"user","text":"好"}"#;
        let jsonl = [
            good,
            r#"{"session_id":1,"turn":1,"role":"user","text":"\ud800"}"#,
            "{",
            "[1]",
            "",
            r#"{"session_id":1,"turn":2,"role":"user","text":["好"]}"#,
            r#"{"session_id":123456789012345678901234,"turn":3,"role":"user","text":"好"}"#,
            r#"{"session_id":1,"role":"user","text":"好"}"#,
        ];
        assert_eq!(
            problems("a.jsonl", jsonl.join("\n").as_bytes()),
            [2, 3, 4, 6, 7].map(|row| ("malformed_row", row)).into_iter().chain([("bad_turn", 8)]).collect::<Vec<_>>()
        );
        assert_eq!(problems("a.jsonl", b"{\n"), [("malformed_row", 1)]);
    }

    #[test]
    fn odd_but_whole_files_are_read() {
        assert_eq!(problems("a.csv", b"session_id,turn,role,text\n"), [("no_rows", 0)]);
        assert_eq!(problems("a.json", b"[]"), [("no_rows", 0)]);
        let chats = load_bytes("a.csv", b"session_id,turn,role,text\n1,0,user,a\0b\n").expect("loaded");
        assert_eq!(chats.messages().expect("messages")[0].text, "a\0b");
        let report = check(&chats, &CheckOptions::default(), &|text| text.to_owned()).expect("checked");
        assert!(report.problems.iter().any(|problem| problem.code == "control_character"));
    }
}
