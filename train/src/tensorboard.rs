//! Scalars of a run as TensorBoard event files.
//!
//! An event file is a row of records (`TFRecord`): the length of the data as a little-endian `u64`, a masked CRC-32C of
//! these eight bytes, the data, a masked CRC-32C of the data. The data is an `Event` message of Protocol Buffers
//! (TensorFlow's `event.proto` and `summary.proto`), of which we write four fields. That is less than any crate for it
//! would bring along.

use std::{
    fs::{File, OpenOptions},
    io::Write as _,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use serde_json::Value;

use crate::TrainError;

/// What every event file of today begins with.
const VERSION: &str = "brain.Event:2";

/// Writes one event file; every call leaves it whole.
#[derive(Debug)]
pub struct EventWriter {
    file: File,
    path: PathBuf,
}

impl EventWriter {
    /// Begins a new event file in `folder`, which is made if need be. TensorBoard reads all files of a folder in the
    /// order of their names, so a resumed run begins another one; call [`cut`] first.
    ///
    /// # Errors
    /// When the folder or the file cannot be written.
    pub fn create(folder: &Path) -> Result<Self, TrainError> {
        std::fs::create_dir_all(folder).map_err(TrainError::io("make", folder))?;
        let now = seconds();
        // A name must sort behind those that are there, also within one second and after a clock was set back.
        let last = files(folder)?.iter().filter_map(|path| number(path)).max();
        let number = last.map_or(0, |last| last + 1).max(now as u64 * 1000);
        let path = folder.join(format!("events.out.tfevents.{:010}.{:03}.yingda", number / 1000, number % 1000));
        let file =
            OpenOptions::new().write(true).create_new(true).open(&path).map_err(TrainError::io("write", &path))?;
        let mut writer = Self { file, path };
        writer.write(&version_event(now))?;
        Ok(writer)
    }

    /// Adds one point to the curve `tag`; `wall_time` is in seconds since 1970.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn scalar(&mut self, tag: &str, step: usize, value: f64, wall_time: f64) -> Result<(), TrainError> {
        self.write(&scalar_event(tag, step, value, wall_time))
    }

    /// Adds a point for every number in a line of `metrics.jsonl`, now. Numbers of a nested object are named by it
    /// (`validation/score`), the others are of training (`train/loss`); `epoch` and `step` are no curves.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn line(&mut self, step: usize, line: &Value) -> Result<(), TrainError> {
        let now = seconds();
        let records: Vec<u8> =
            curves(line).into_iter().flat_map(|(tag, value)| record(&scalar_event(&tag, step, value, now))).collect();
        self.file.write_all(&records).map_err(TrainError::io("write", &self.path))
    }

    fn write(&mut self, event: &[u8]) -> Result<(), TrainError> {
        self.file.write_all(&record(event)).map_err(TrainError::io("write", &self.path))
    }
}

/// Removes from the event files in `folder` what came after `step`: a run that was cut off had gone on after its last
/// checkpoint, and the resumed one does these steps again. A record that was cut short goes, too.
///
/// # Errors
/// When a file cannot be read or shortened.
pub fn cut(folder: &Path, step: usize) -> Result<(), TrainError> {
    if !folder.exists() {
        return Ok(());
    }
    for path in files(folder)? {
        let bytes = std::fs::read(&path).map_err(TrainError::io("read", &path))?;
        let mut kept = 0;
        while let Some(data) = data_at(&bytes, kept) {
            if step_of(data) > step as u64 {
                break;
            }
            kept += data.len() + 16;
        }
        if kept < bytes.len() {
            let file = OpenOptions::new().write(true).open(&path);
            file.and_then(|file| file.set_len(kept as u64)).map_err(TrainError::io("write", &path))?;
        }
    }
    Ok(())
}

fn seconds() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64())
}

/// The event files of a folder, in the order of their names.
fn files(folder: &Path) -> Result<Vec<PathBuf>, TrainError> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(TrainError::io("read", folder))? {
        let path = entry.map_err(TrainError::io("read", folder))?.path();
        if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("events.out.tfevents.")) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// The number in the name of one of our files: its second, then three digits that tell those of a second apart.
fn number(path: &Path) -> Option<u64> {
    let name = path.file_name()?.to_str()?;
    let mut parts = name.strip_prefix("events.out.tfevents.")?.split('.');
    let second: u64 = parts.next()?.parse().ok()?;
    Some(second * 1000 + parts.next()?.parse::<u64>().ok().filter(|part| *part < 1000)?)
}

fn curves(line: &Value) -> Vec<(String, f64)> {
    let mut found = Vec::new();
    let Some(fields) = line.as_object() else { return found };
    for (name, value) in fields.iter().filter(|(name, _)| !["epoch", "step"].contains(&name.as_str())) {
        match value {
            Value::Number(number) => found.extend(number.as_f64().map(|number| (format!("train/{name}"), number))),
            Value::Object(group) => {
                found.extend(group.iter().filter_map(|(part, value)| Some((format!("{name}/{part}"), value.as_f64()?))))
            }
            _ => {}
        }
    }
    found
}

// Protocol Buffers: a field is a key (number << 3 | kind), then a varint (kind 0), 8 bytes (1), a length and bytes (2),
// or 4 bytes (5).

/// `Event { wall_time = 1: double, file_version = 3: string }`.
fn version_event(wall_time: f64) -> Vec<u8> {
    let mut event = vec![0x09];
    event.extend(wall_time.to_le_bytes());
    bytes_field(&mut event, 3, VERSION.as_bytes());
    event
}

/// `Event { wall_time = 1: double, step = 2: int64, summary = 5: Summary { value = 1: Value { tag = 1: string,
/// simple_value = 2: float } } }`.
fn scalar_event(tag: &str, step: usize, value: f64, wall_time: f64) -> Vec<u8> {
    let mut inner = Vec::new();
    bytes_field(&mut inner, 1, tag.as_bytes());
    inner.push(0x15);
    inner.extend((value as f32).to_le_bytes());
    let mut summary = Vec::new();
    bytes_field(&mut summary, 1, &inner);

    let mut event = vec![0x09];
    event.extend(wall_time.to_le_bytes());
    // 0 is what a missing number means, and is left out.
    if step > 0 {
        event.push(0x10);
        varint(&mut event, step as u64);
    }
    bytes_field(&mut event, 5, &summary);
    event
}

fn bytes_field(into: &mut Vec<u8>, field: u8, bytes: &[u8]) {
    into.push(field << 3 | 2);
    varint(into, bytes.len() as u64);
    into.extend(bytes);
}

fn varint(into: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        into.push(number as u8 | 0x80);
        number >>= 7;
    }
    into.push(number as u8);
}

fn record(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    let mut record = Vec::with_capacity(data.len() + 16);
    record.extend(length);
    record.extend(masked_crc(&length).to_le_bytes());
    record.extend(data);
    record.extend(masked_crc(data).to_le_bytes());
    record
}

/// The data of the record at `offset`; `None` at the end, or where the record is not whole.
fn data_at(bytes: &[u8], offset: usize) -> Option<&[u8]> {
    let head = bytes.get(offset..offset + 12)?;
    let (length, crc) = head.split_at(8);
    if masked_crc(length).to_le_bytes() != crc {
        return None;
    }
    let length = usize::try_from(u64::from_le_bytes(length.try_into().ok()?)).ok()?;
    let end = (offset + 12).checked_add(length)?;
    let data = bytes.get(offset + 12..end)?;
    (bytes.get(end..end + 4)? == masked_crc(data).to_le_bytes()).then_some(data)
}

/// The step of an event of ours: its second field, after nine bytes of time. 0 where there is none.
fn step_of(event: &[u8]) -> u64 {
    let Some((0x10, digits)) = event.get(9..).and_then(|rest| rest.split_first()).map(|(key, rest)| (*key, rest))
    else {
        return 0;
    };
    let mut step = 0;
    for (place, digit) in digits.iter().take(10).enumerate() {
        step |= u64::from(digit & 0x7f) << (7 * place);
        if digit & 0x80 == 0 {
            break;
        }
    }
    step
}

/// CRC-32C (Castagnoli), turned and shifted so that a checksum over data with checksums stays a good one.
fn masked_crc(bytes: &[u8]) -> u32 {
    let crc = bytes.iter().fold(!0u32, |crc, byte| TABLE[usize::from(crc as u8 ^ byte)] ^ crc >> 8);
    (!crc).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// The effect of each byte on a CRC-32C, whose polynomial is 0x82f63b78 with its bits reflected.
const TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < table.len() {
        let mut crc = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The bytes are those of TensorBoard's own writer (2.21.0), by `tests/golden/tensorboard_events.py`.
    #[test]
    fn records_are_those_that_tensorboard_writes() {
        let events = [
            version_event(1_767_225_600.5),
            scalar_event("train/loss", 300, 0.625, 1_767_225_601.25),
            scalar_event("validation/意图", 0, -1.5, 1_767_225_602.0),
        ];
        let expected = [
            "1800000000000000a37f4b2209000020406e55da411a0d627261696e2e4576656e743a3284ffcb71",
            "2100000000000000017becf609000050406e55da4110ac022a130a110a0a747261696e2f6c6f7373150000203f2dccd80b",
            "2500000000000000eabc36f309000080406e55da412a1a0a180a1176616c69646174696f6e2fe6848fe59bbe150000c0bfa32e821e",
        ];
        assert_eq!(events.each_ref().map(|event| hex(&record(event))), expected);
        assert_eq!(events.each_ref().map(|event| step_of(event)), [0, 300, 0]);
    }

    /// The check value of CRC-32C, before the mask: 0xe3069283 for the digits 1 to 9.
    #[test]
    fn the_checksum_is_crc_32c() {
        assert_eq!(masked_crc(b"123456789").wrapping_sub(0xa282_ead8).rotate_left(15), 0xe306_9283);
    }

    #[test]
    fn a_damaged_or_short_record_ends_the_file() {
        let whole = record(&scalar_event("train/loss", 1_000_000, 0.5, 1.0));
        let data = data_at(&whole, 0).expect("a whole record");
        assert_eq!(step_of(data), 1_000_000);
        assert_eq!(data_at(&whole, whole.len()), None);
        assert_eq!(data_at(&whole[..whole.len() - 1], 0), None);
        for place in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[place] ^= 1;
            assert_eq!(data_at(&damaged, 0), None, "byte {place}");
        }
    }

    #[test]
    fn numbers_of_a_line_become_curves() {
        let line = serde_json::json!({
            "epoch": 2, "step": 30, "loss": 0.5, "sentiment_loss": null,
            "validation": { "score": 0.75, "recall_at_1": null }, "note": "no number",
        });
        let mut found = curves(&line);
        found.sort_by(|a, b| a.0.cmp(&b.0));
        assert_eq!(found, [("train/loss".to_owned(), 0.5), ("validation/score".to_owned(), 0.75)]);
        assert!(curves(&Value::Null).is_empty());
    }
}
