//! A text folded for searching, with the way back to the text as typed.

use std::ops::Range;

use crate::text::han;

/// The text with invisible characters dropped, full-width ASCII narrowed, letters in lower case, dashes and blanks in one
/// form, and Traditional characters simplified: each character becomes one character or none.
pub(super) struct View {
    /// What the finders search.
    pub(super) text: String,
    /// For each byte of `text`, where its character starts and ends in the text as typed.
    origin: Vec<(usize, usize)>,
}

impl View {
    pub(super) fn new(typed: &str) -> Self {
        let mut text = String::with_capacity(typed.len());
        let mut origin = Vec::with_capacity(typed.len());
        for (start, c) in typed.char_indices() {
            let Some(folded) = fold(c) else { continue };
            text.push(folded);
            origin.resize(text.len(), (start, start + c.len_utf8()));
        }
        Self { text, origin }
    }

    /// The same span in the text as typed.
    pub(super) fn in_text(&self, span: Range<usize>) -> Range<usize> {
        let start = self.origin.get(span.start).map_or(0, |(start, _)| *start);
        let end = span.end.checked_sub(1).and_then(|last| self.origin.get(last)).map_or(start, |(_, end)| *end);
        start..end
    }

    pub(super) fn bytes(&self) -> &[u8] {
        self.text.as_bytes()
    }

    /// The byte at `at`, or 0 outside the text. Digits, letters and signs of ASCII are single bytes.
    pub(super) fn byte(&self, at: usize) -> u8 {
        self.bytes().get(at).copied().unwrap_or(0)
    }

    /// The byte before `at`, or 0.
    pub(super) fn byte_before(&self, at: usize) -> u8 {
        at.checked_sub(1).map_or(0, |before| self.byte(before))
    }

    /// The text before `at`.
    pub(super) fn before(&self, at: usize) -> &str {
        self.text.get(..at).unwrap_or_default()
    }

    /// The text from `at` on.
    pub(super) fn after(&self, at: usize) -> &str {
        self.text.get(at..).unwrap_or_default()
    }
}

fn fold(c: char) -> Option<char> {
    Some(match c {
        '\u{20}'..='\u{7E}' => c.to_ascii_lowercase(),
        '\u{FF01}'..='\u{FF5E}' => {
            let narrow = char::from_u32(u32::from(c) - 0xFEE0).unwrap_or(c);
            narrow.to_ascii_lowercase()
        }
        '\u{AD}'
        | '\u{200B}'..='\u{200F}'
        | '\u{202A}'..='\u{202E}'
        | '\u{2060}'..='\u{2069}'
        | '\u{FE00}'..='\u{FE0F}'
        | '\u{FEFF}' => {
            return None;
        }
        '\u{2010}'..='\u{2015}' | '\u{2212}' | '\u{FE58}' | '\u{FE63}' => '-',
        '•' | '・' | '‧' | '･' | '∙' => '·',
        '\n' | '\r' => '\n',
        _ if c.is_whitespace() => ' ',
        _ => han::simplified(c),
    })
}
