//! Text files, one text a line.

use std::{
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
};

use crate::TrainError;

/// The lines of a text file, without holding more of it than is asked for.
pub(crate) struct TextLines {
    path: PathBuf,
    lines: std::io::Split<BufReader<std::fs::File>>,
    read: usize,
}

impl TextLines {
    /// # Errors
    /// When the file cannot be opened.
    pub(crate) fn open(path: &Path) -> Result<Self, TrainError> {
        let file = std::fs::File::open(path).map_err(TrainError::io("read", path))?;
        Ok(Self { path: path.to_owned(), lines: BufReader::new(file).split(b'\n'), read: 0 })
    }

    /// The next lines, at most so many; none at the end.
    ///
    /// # Errors
    /// When the file cannot be read, and at a line that is no UTF-8.
    pub(crate) fn block(&mut self, most: usize) -> Result<Vec<String>, TrainError> {
        let mut block = Vec::new();
        for line in self.lines.by_ref().take(most) {
            self.read += 1;
            let line = line.map_err(TrainError::io("read", &self.path))?;
            block.push(String::from_utf8(line).map_err(|_| {
                TrainError::Usage(format!(
                    "--text {}: line {} is not UTF-8; write the file as UTF-8, from GB18030 with `iconv -f GB18030 -t UTF-8`",
                    self.path.display(),
                    self.read
                ))
            })?);
        }
        Ok(block)
    }
}
