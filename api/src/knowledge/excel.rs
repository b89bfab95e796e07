//! Excel workbooks (`.xlsx`). Every sheet whose first row names columns is read, cell by cell: a sheet that claims to be huge
//! takes no more memory than its cells.

use std::collections::BTreeMap;
use std::io::{Cursor, Read as _};

use calamine::{Data, DataRef, Reader as _, SheetType, Xlsx, XlsxError};
use quick_xml::Reader;
use quick_xml::events::Event;
use rust_xlsxwriter::{Format, Workbook};
use yingda_engine::KnowledgeEntry;

use super::table::{self, COLUMNS, Header, column};
use super::validate::normal_day;
use super::{Place, Placed, Problems, quoted};

/// Most UTF-16 units of a cell; Excel's own limit.
pub(super) const MAX_CELL: usize = 32_767;
/// Rows and columns of a sheet; Excel's own limits.
const MAX_ROWS: u32 = 1 << 20;
const MAX_COLUMNS: u32 = 1 << 14;
/// Most bytes that a workbook may unpack to. A megabyte of zeros packs into a kilobyte, so a small file may be a large one.
const MAX_UNPACKED: u64 = 256 << 20;
/// How far down column names are looked for, to tell whoever put a title above them.
const TITLE_ROWS: usize = 20;

/// The cells of a sheet by row and column, counted from 0; with each, whether a formula made it.
type Rows = BTreeMap<u32, BTreeMap<u32, (Data, bool)>>;

pub(super) fn parse(bytes: &[u8], problems: &mut Problems) -> Vec<Placed> {
    match workbook(bytes, problems) {
        Ok(entries) => entries,
        Err(message) => {
            problems.add(&Place::file(), message);
            Vec::new()
        }
    }
}

fn workbook(bytes: &[u8], problems: &mut Problems) -> Result<Vec<Placed>, String> {
    // An older Excel file, or one with a password, is of another kind than its name says.
    if bytes.starts_with(&[0xD0, 0xCF, 0x11, 0xE0]) {
        return Err("it is an .xls file or has a password; save it in Excel as .xlsx without a password".to_owned());
    }
    if !bytes.starts_with(b"PK") {
        return Err("it is no Excel workbook; save it in Excel as .xlsx, or give it the name of what it is".to_owned());
    }
    let damaged = |error: String| format!("the workbook is damaged: {error}. Open it in Excel and save it again");
    unpack(bytes)?;
    let mut workbook = Xlsx::new(Cursor::new(bytes)).map_err(|error: XlsxError| damaged(error.to_string()))?;
    let sheets: Vec<String> = workbook
        .sheets_metadata()
        .iter()
        .filter(|sheet| sheet.typ == SheetType::WorkSheet)
        .map(|sheet| sheet.name.clone())
        .collect();
    let mut entries = Vec::new();
    let mut found = false;
    for (index, name) in sheets.iter().enumerate() {
        let place = |row: usize| Place::row(index, name, row);
        let rows = match cells(&mut workbook, name) {
            Ok(rows) => rows,
            Err(error) => {
                problems.add(&place(0), damaged(error));
                found = true;
                continue;
            }
        };
        let Some(first) = names(&rows) else { continue };
        let Some(header) = first.header else {
            // Notes, most likely. Unless the names stand further down.
            if let Some(row) = first.further_down {
                let message = "column names must stand in the first row that is filled; remove the rows above them";
                problems.add(&place(row as usize + 1), message);
                found = true;
            } else {
                tracing::warn!(
                    sheet = name,
                    "the first row of this sheet names no column of knowledge: it is not read"
                );
            }
            continue;
        };
        found = true;
        let merged = workbook.merge_cells_by_sheet_name(name).map_err(|error| damaged(error.to_string()))?;
        for region in merged {
            let ((top, left), (bottom, right)) = (region.start, region.end);
            let corner = |row: u32, cell: u32| format!("{}{}", column(cell as usize), u64::from(row) + 1);
            let message = format!(
                "the cells {}:{} are merged; unmerge them and fill in every row",
                corner(top, left),
                corner(bottom, right)
            );
            problems.add(&place(top as usize + 1), message);
        }
        let Some(header) = Header::new(&header, &place(first.row as usize + 1), problems) else { continue };
        for (number, cells) in rows.range(first.row + 1..) {
            let place = place(*number as usize + 1);
            let width = cells.keys().next_back().map_or(0, |last| *last as usize + 1).max(header.len());
            let mut row = vec![String::new(); width];
            let mut good = true;
            for (index, (value, formula)) in cells {
                let index = *index as usize;
                match text(value, *formula, header.field(index)) {
                    Ok(text) => row[index] = text,
                    Err(message) => {
                        problems.add(&place, format!("column {}: {message}", column(index)));
                        good = false;
                    }
                }
            }
            if good && row.iter().any(|text| !text.trim().is_empty()) {
                let entry = header.entry(&row, &place, problems);
                entries.push(Placed { place, entry, id_of_question: false });
            }
        }
    }
    if !found {
        let names: Vec<&str> = COLUMNS.iter().map(|(_, chinese)| *chinese).collect();
        return Err(format!("no sheet names columns in its first row; they are {}, or in English", names.join("、")));
    }
    Ok(entries)
}

/// Whether everything in it can be unpacked, and into how much.
fn unpack(bytes: &[u8]) -> Result<(), String> {
    let damaged = "the workbook is cut off or damaged; copy it again, or open it in Excel and save it again";
    let mut archive = zip::ZipArchive::new(Cursor::new(bytes)).map_err(|_| damaged.to_owned())?;
    let mut left = MAX_UNPACKED;
    for index in 0..archive.len() {
        let part = archive.by_index(index).map_err(|_| damaged.to_owned())?;
        let has_strings = part.name_raw().to_ascii_lowercase().ends_with(b"sharedstrings.xml");
        let mut part = part.take(left + 1);
        let size = if has_strings {
            let mut strings = Vec::new();
            part.read_to_end(&mut strings).map_err(|_| damaged.to_owned())?;
            if claimed_strings(&strings) > strings.len() as u64 {
                return Err(damaged.to_owned());
            }
            strings.len() as u64
        } else {
            std::io::copy(&mut part, &mut std::io::sink()).map_err(|_| damaged.to_owned())?
        };
        left = left.checked_sub(size).ok_or_else(too_large)?;
    }
    Ok(())
}

fn too_large() -> String {
    format!("the workbook holds more than {} MiB; split it", MAX_UNPACKED >> 20)
}

/// How many strings a table of shared strings claims to have: room for so many is reserved when it is read.
fn claimed_strings(part: &[u8]) -> u64 {
    let mut reader = Reader::from_reader(part);
    reader.config_mut().check_end_names = false;
    reader.config_mut().expand_empty_elements = true;
    let mut buffer = Vec::new();
    loop {
        buffer.clear();
        match reader.read_event_into(&mut buffer) {
            Ok(Event::Start(tag)) if tag.local_name().as_ref() == "sst" => {
                let claims = tag.attributes_raw().split("uniqueCount").skip(1).map(|claim| {
                    let digits = claim.chars().skip_while(|letter| !letter.is_ascii_digit());
                    let digits: String = digits.take_while(char::is_ascii_digit).collect();
                    if digits.is_empty() { 0 } else { digits.parse().unwrap_or(u64::MAX) }
                });
                return claims.max().unwrap_or(0);
            }
            Ok(Event::Eof) | Err(_) => return 0,
            Ok(_) => {}
        }
    }
}

fn cells(workbook: &mut Xlsx<Cursor<&[u8]>>, sheet: &str) -> Result<Rows, String> {
    let told = |error: XlsxError| error.to_string();
    let mut reader = workbook.worksheet_cells_reader(sheet).map_err(told)?;
    let mut rows = Rows::new();
    // A string that a thousand cells share is packed once and read a thousand times.
    let mut left = MAX_UNPACKED as usize;
    // With the formulas as they are: copying shared ones out would reserve room for as many as the file claims to have.
    while let Some(cell) = reader.next_cell_with_formula_metadata().map_err(told)? {
        let (row, column) = cell.pos;
        if row >= MAX_ROWS || column >= MAX_COLUMNS {
            return Err("it has a cell outside of what a sheet can hold".to_owned());
        }
        let formula = cell.formula.is_some();
        if let DataRef::SharedString(text) = cell.value {
            left = left.checked_sub(text.len()).ok_or_else(too_large)?;
        }
        let value = Data::from(cell.value);
        if formula || value != Data::Empty {
            rows.entry(row).or_default().insert(column, (value, formula));
        }
    }
    Ok(rows)
}

/// The first row that is filled.
struct First {
    row: u32,
    /// The names in it, if any of them is a column's.
    header: Option<Vec<String>>,
    /// The row further down that names columns instead.
    further_down: Option<u32>,
}

fn names(rows: &Rows) -> Option<First> {
    let mut filled = rows.iter().filter_map(|(number, cells)| {
        let mut names = vec![String::new(); cells.keys().next_back().map_or(0, |last| *last as usize + 1)];
        for (index, (value, _)) in cells {
            if let Data::String(text) = value {
                names[*index as usize] = text.trim().to_owned();
            } else if !matches!(value, Data::Empty) {
                names[*index as usize] = value.to_string();
            }
        }
        names.iter().any(|name| !name.is_empty()).then_some((*number, names))
    });
    let (row, header) = filled.next()?;
    let named = |names: &[String]| names.iter().filter_map(|name| table::field(name)).count();
    if named(&header) > 0 {
        return Some(First { row, header: Some(header), further_down: None });
    }
    let further_down = filled.take(TITLE_ROWS).find(|(_, names)| named(names) > 1).map(|(number, _)| number);
    Some(First { row, header: None, further_down })
}

/// What a cell says, as text.
fn text(value: &Data, formula: bool, field: Option<&str>) -> Result<String, String> {
    let as_text = "format the column as text and type it anew";
    let is_day = matches!(field, Some("valid_from" | "valid_to"));
    match value {
        Data::Empty if formula => {
            Err("the formula has no stored value; replace it by its value, or save the file in Excel".to_owned())
        }
        Data::Empty => Ok(String::new()),
        Data::String(text) => Ok(text.clone()),
        Data::Bool(value) => Ok(if *value { "TRUE" } else { "FALSE" }.to_owned()),
        Data::Int(number) if number.unsigned_abs() < 1_000_000_000_000_000 => Ok(number.to_string()),
        Data::Float(number) if number.abs() < 1e15 => Ok(number.to_string()),
        Data::Int(_) | Data::Float(_) => {
            Err(format!("Excel keeps 15 digits of a number and this one has more; {as_text}"))
        }
        Data::DateTime(moment) if is_day => {
            let (year, month, day, hour, minute, second, _) = moment.to_ymd_hms_milli();
            // Days that Excel knows, without those before 1900-03-01, which it counts wrongly.
            let known = moment.is_datetime() && (61.0..2_958_466.0).contains(&moment.as_f64());
            if known && (hour, minute, second) == (0, 0, 0) {
                Ok(format!("{year:04}-{month:02}-{day:02}"))
            } else {
                Err("the cell holds a time of day, or no day at all; write a day such as 2026-01-31".to_owned())
            }
        }
        Data::DateTimeIso(text) if is_day => Ok(normal_day(&text.replace('T', " "))),
        Data::DateTime(_) | Data::DateTimeIso(_) | Data::DurationIso(_) => {
            Err(format!("the cell holds a date or time where a text should stand; {as_text}"))
        }
        Data::Error(error) => {
            Err(format!("the cell holds the error {}; correct its formula", quoted(&error.to_string())))
        }
    }
}

pub(super) fn render(entries: &[KnowledgeEntry]) -> Result<Vec<u8>, String> {
    fn write(entries: &[KnowledgeEntry]) -> Result<Vec<u8>, rust_xlsxwriter::XlsxError> {
        // Widths in characters, for people who go on working with it.
        const WIDTHS: [u32; 15] = [14, 36, 50, 70, 14, 20, 12, 12, 14, 12, 14, 14, 20, 30, 30];
        // As text, or Excel would make a number or a date of what is typed later.
        let plain = Format::new().set_num_format("@").set_text_wrap();
        let bold = Format::new().set_bold();
        let mut workbook = Workbook::new();
        let sheet = workbook.add_worksheet();
        sheet.set_name("知识")?;
        sheet.set_freeze_panes(1, 0)?;
        let columns = table::written(entries);
        for (index, column) in (0_u16..).zip(&columns) {
            sheet.set_column_width(index, WIDTHS[*column])?;
            sheet.set_column_format(index, &plain)?;
            sheet.write_string_with_format(0, index, COLUMNS[*column].1, &bold)?;
        }
        for (number, entry) in (1_u32..).zip(entries) {
            let row = table::row(entry);
            let cells = (0_u16..).zip(columns.iter().map(|column| &row[*column]));
            for (index, text) in cells.filter(|(_, text)| !text.is_empty()) {
                sheet.write_string_with_format(number, index, text, &plain)?;
            }
        }
        workbook.save_to_buffer()
    }
    let too_long = |text: &String| text.encode_utf16().count() > MAX_CELL;
    if let Some(entry) = entries.iter().find(|entry| table::row(entry).iter().any(too_long)) {
        let id = quoted(&entry.id);
        return Err(format!("a list of {id}, put together, is more than a cell holds; write JSON Lines instead"));
    }
    write(entries).map_err(|error| format!("the workbook cannot be made: {error}"))
}
