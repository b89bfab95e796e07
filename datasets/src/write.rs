//! Tables to disk, whole or not at all.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use polars::prelude::*;

use crate::chats::Chats;
use crate::error::{DatasetsError, Result};

/// Writes a file through `write`: into a hidden file beside it, synced, then renamed, so that a reader sees the old file
/// or the new one, and a failure leaves the old one.
pub fn write_atomically(path: &Path, write: impl FnOnce(&mut File) -> Result<()>) -> Result<()> {
    let failed = |source: io::Error| DatasetsError::Write { file: path.display().to_string(), source };
    let name = path
        .file_name()
        .ok_or_else(|| failed(io::Error::new(io::ErrorKind::InvalidInput, "the path names no file")))?;
    let hidden = format!(".{}.{}.part", name.to_string_lossy(), std::process::id());
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let part = Part(folder.join(hidden));

    let mut file = File::create(&part.0).map_err(failed)?;
    write(&mut file)?;
    file.sync_all().map_err(failed)?;
    drop(file);
    fs::rename(&part.0, path).map_err(failed)?;
    // The rename itself lasts only once the folder is synced; not every file system can do that.
    if let Ok(folder) = File::open(folder) {
        let _ = folder.sync_all();
    }
    Ok(())
}

/// An unfinished file; gone when dropped, unless it was renamed.
struct Part(PathBuf);

impl Drop for Part {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Writes a table, in the format that the name tells: `.parquet`, `.csv`, or `.jsonl`/`.ndjson`.
pub fn write_frame(frame: &DataFrame, path: &Path) -> Result<()> {
    let format = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default().to_ascii_lowercase();
    let mut frame = frame.clone();
    write_atomically(path, |file| {
        let written = match format.as_str() {
            "parquet" => ParquetWriter::new(file).finish(&mut frame).map(drop),
            "csv" => CsvWriter::new(file).finish(&mut frame),
            "jsonl" | "ndjson" => JsonWriter::new(file).finish(&mut frame),
            _ => {
                return Err(DatasetsError::UnknownFormat { file: path.display().to_string() });
            }
        };
        written.map_err(|error| not_written(path, error))
    })
}

/// Writes chats as Parquet, whatever the name, with one more column if there is one.
pub fn write_parquet(chats: &Chats, path: &Path, extra: Option<(&str, Vec<String>)>) -> Result<()> {
    let mut frame = chats.frame().clone();
    if let Some((column, values)) = extra {
        if values.len() != frame.height() {
            return Err(DatasetsError::ColumnLength {
                column: column.to_owned(),
                values: values.len(),
                rows: frame.height(),
            });
        }
        frame.with_column(Column::new(column.into(), values))?;
    }
    write_atomically(path, |file| {
        ParquetWriter::new(file).finish(&mut frame).map(drop).map_err(|error| not_written(path, error))
    })
}

fn not_written(path: &Path, error: PolarsError) -> DatasetsError {
    DatasetsError::Write { file: path.display().to_string(), source: io::Error::other(error) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chats::tests::chats;
    use crate::read::load;
    use crate::schema::ColumnMap;

    fn two() -> Chats {
        chats(&[
            ["1", "0", "user", "我要\"退款\",谢谢", "退款", "neutral", ""],
            ["1", "1", "agent", "好\n的", "", "", ""],
        ])
    }

    #[test]
    fn chats_come_back_as_they_were_written() {
        let folder = tempfile::tempdir().expect("a folder");
        for name in ["a.parquet", "a.csv", "a.jsonl"] {
            let path = folder.path().join(name);
            write_frame(two().frame(), &path).expect(name);
            let back = load(&[path], &ColumnMap::default()).expect(name);
            assert!(back.problems().is_empty(), "{name}: {:?}", back.problems());
            let (mut back, mut there) = (back.messages().expect(name), two().messages().expect(name));
            for message in back.iter_mut().chain(&mut there) {
                (message.file, message.row) = (String::new(), 0);
            }
            assert_eq!(back, there, "{name}");
        }
        let left: Vec<_> = fs::read_dir(folder.path()).expect("read").collect();
        assert_eq!(left.len(), 3, "no part is left: {left:?}");
    }

    #[test]
    fn an_extra_column_stands_in_the_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.parquet");
        write_parquet(&two(), &path, Some(("split", vec!["train".to_owned(), "test".to_owned()]))).expect("written");
        let back = load(std::slice::from_ref(&path), &ColumnMap::default()).expect("loaded");
        let splits: Vec<_> = back.rows().expect("rows").iter().map(|row| row.split).collect();
        assert_eq!(splits, [Some("train"), Some("test")]);
        let wrong = write_parquet(&two(), &path, Some(("split", Vec::new()))).expect_err("too short");
        assert_eq!(wrong.to_string(), "the column `split` has 0 values for 2 rows");
    }

    #[test]
    fn a_failure_leaves_the_old_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.txt");
        fs::write(&path, "old").expect("written");
        assert!(write_atomically(&path, |_| Err(DatasetsError::NoFiles)).is_err());
        assert_eq!(fs::read_to_string(&path).expect("read"), "old");
        assert_eq!(fs::read_dir(folder.path()).expect("read").count(), 1);
        assert!(write_frame(two().frame(), Path::new("/no/such/folder/a.csv")).is_err());
        assert!(write_frame(two().frame(), Path::new("a.txt")).is_err());
    }
}
