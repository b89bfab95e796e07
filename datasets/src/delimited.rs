//! CSV and TSV, one record at a time, each with the line where it starts.
//!
//! Polars reads delimited text faster, but it tells neither the line of a bad record nor more than the first one.

use std::borrow::Cow;

/// A record, or what is wrong with it.
pub(crate) struct Record<'a> {
    /// The line where it starts, counted from 1.
    pub(crate) line: u64,
    /// Its cells, without their quotes.
    pub(crate) cells: Result<Vec<Cow<'a, str>>, &'static str>,
}

/// The records of a text; lines without any character are passed over.
///
/// A cell that starts with a quote ends with one and may hold separators, line ends and doubled quotes. In TSV, where
/// most programs do not quote, it counts as quoted only if it ends in the same line, and is taken as it is otherwise.
pub(crate) struct Records<'a> {
    text: &'a str,
    separator: u8,
    at: usize,
    line: u64,
    /// A carriage return alone ends a line: in a text without any line feed, as old spreadsheets of the Mac write it.
    returns: bool,
}

impl<'a> Records<'a> {
    pub(crate) fn new(text: &'a str, separator: u8) -> Self {
        Records { text, separator, at: 0, line: 1, returns: !text.contains('\n') }
    }

    fn byte(&self, at: usize) -> Option<u8> {
        self.text.as_bytes().get(at).copied()
    }

    /// How many bytes the line end here has: 0 when there is none. The end of the text is one, too.
    fn line_end(&self, at: usize) -> Option<usize> {
        match (self.byte(at), self.byte(at + 1)) {
            (None, _) => Some(0),
            (Some(b'\n'), _) => Some(1),
            (Some(b'\r'), Some(b'\n')) => Some(2),
            (Some(b'\r'), None) => Some(1),
            (Some(b'\r'), _) if self.returns => Some(1),
            _ => None,
        }
    }

    /// The cell that starts with a quote here and where it ends, or why it is none.
    fn quoted(&self, start: usize) -> Result<(Cow<'a, str>, usize), &'static str> {
        let mut at = start + 1;
        let mut doubled = false;
        loop {
            match (self.byte(at), self.byte(at + 1)) {
                (None, _) => return Err("a quote is opened and never closed"),
                (Some(b'"'), Some(b'"')) => {
                    doubled = true;
                    at += 2;
                }
                (Some(b'"'), _) => break,
                (Some(b'\n'), _) if self.separator == b'\t' => {
                    return Err("a quote is not closed in its line");
                }
                _ => at += 1,
            }
        }
        if self.byte(at + 1) != Some(self.separator) && self.line_end(at + 1).is_none() {
            return Err("a quoted cell goes on after its closing quote");
        }
        let inside = &self.text[start + 1..at];
        let cell = if doubled { Cow::Owned(inside.replace("\"\"", "\"")) } else { Cow::Borrowed(inside) };
        Ok((cell, at + 1))
    }

    fn plain(&self, start: usize) -> (Cow<'a, str>, usize) {
        let mut at = start;
        while self.byte(at) != Some(self.separator) && self.line_end(at).is_none() {
            at += 1;
        }
        (Cow::Borrowed(&self.text[start..at]), at)
    }

    /// Goes on at the line after the one that holds `at`.
    fn skip_line(&mut self, at: usize) {
        let rest = &self.text.as_bytes()[at..];
        let end = if self.returns { b'\r' } else { b'\n' };
        self.at = rest.iter().position(|&byte| byte == end).map_or(self.text.len(), |length| at + length + 1);
        self.line += 1;
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Record<'a>;

    fn next(&mut self) -> Option<Record<'a>> {
        while let Some(length @ 1..) = self.line_end(self.at) {
            self.at += length;
            self.line += 1;
        }
        if self.at >= self.text.len() {
            return None;
        }
        let (line, start) = (self.line, self.at);
        let mut cells = Vec::new();
        let mut at = start;
        loop {
            let (cell, end) = if self.byte(at) == Some(b'"') {
                match self.quoted(at) {
                    Ok(found) => found,
                    Err(_) if self.separator == b'\t' => self.plain(at),
                    Err(wrong) => {
                        self.skip_line(start);
                        return Some(Record { line, cells: Err(wrong) });
                    }
                }
            } else {
                self.plain(at)
            };
            self.line += cell.bytes().filter(|&byte| byte == b'\n').count() as u64;
            cells.push(cell);
            match self.line_end(end) {
                Some(length) => {
                    self.at = end + length;
                    self.line += 1;
                    return Some(Record { line, cells: Ok(cells) });
                }
                None => at = end + 1,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, separator: u8) -> Vec<(u64, Result<Vec<String>, &'static str>)> {
        Records::new(text, separator)
            .map(|record| (record.line, record.cells.map(|cells| cells.into_iter().map(Cow::into_owned).collect())))
            .collect()
    }

    fn good(line: u64, cells: &[&str]) -> (u64, Result<Vec<String>, &'static str>) {
        (line, Ok(cells.iter().map(|&cell| cell.to_owned()).collect()))
    }

    #[test]
    fn records_carry_the_line_where_they_start() {
        let text = "a,b\r\n\r\n1,\"x,\"\"y\"\"\nz\"\n2,\n\"\",q";
        assert_eq!(
            read(text, b','),
            [good(1, &["a", "b"]), good(3, &["1", "x,\"y\"\nz"]), good(5, &["2", ""]), good(6, &["", "q"])]
        );
        assert!(read("", b',').is_empty());
        assert!(read("\n\r\n\n", b',').is_empty());
    }

    #[test]
    fn a_bad_quote_costs_its_line_only() {
        let text = "a,b\n1,\"open\n2,fine\n3,\"shut\"x\n4,\"last\n";
        let records = read(text, b',');
        assert_eq!(records[0], good(1, &["a", "b"]));
        assert_eq!(records[1].0, 2);
        assert!(records[1].1.is_err());
        assert_eq!(records[2], good(3, &["2", "fine"]));
        assert!(records[3].1.is_err() && records[3].0 == 4);
        assert_eq!(records[4], (5, Err("a quote is opened and never closed")));
        assert_eq!(records.len(), 5);
    }

    #[test]
    fn tsv_takes_stray_quotes_as_they_are() {
        assert_eq!(
            read("a\tb\n\"好\"的\t\"x\ty\"\n\"q\tr\n", b'\t'),
            [good(1, &["a", "b"]), good(2, &["\"好\"的", "x\ty"]), good(3, &["\"q", "r"])]
        );
    }
}
