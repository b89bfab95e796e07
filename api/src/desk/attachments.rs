//! Files beside a conversation: what they may be, by their bytes, and what they are called. Nothing is unpacked.

use std::io::Cursor;

use serde::{Deserialize, Serialize};

/// Longest name of a file, in characters.
const LONGEST_NAME: usize = 120;

/// A type of file that we know.
#[derive(Debug, PartialEq, Eq)]
struct FileType {
    media_type: &'static str,
    /// What its names may end in; the first one is added where a name ends in something else.
    extensions: &'static [&'static str],
}

const PDF: FileType = FileType { media_type: "application/pdf", extensions: &["pdf"] };
const TEXT: FileType = FileType { media_type: "text/plain", extensions: &["txt", "log", "csv", "md"] };
const WORD: FileType = FileType {
    media_type: "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    extensions: &["docx"],
};
const EXCEL: FileType =
    FileType { media_type: "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet", extensions: &["xlsx"] };

/// All types that can be accepted. None of them is run by a browser: HTML, SVG and XML are not among them.
static KNOWN: [FileType; 12] = [
    FileType { media_type: "image/png", extensions: &["png"] },
    FileType { media_type: "image/jpeg", extensions: &["jpg", "jpeg"] },
    FileType { media_type: "image/gif", extensions: &["gif"] },
    FileType { media_type: "image/webp", extensions: &["webp"] },
    PDF,
    FileType { media_type: "video/mp4", extensions: &["mp4", "m4v"] },
    FileType { media_type: "audio/mpeg", extensions: &["mp3"] },
    FileType { media_type: "audio/mp4", extensions: &["m4a"] },
    FileType { media_type: "audio/amr", extensions: &["amr"] },
    WORD,
    EXCEL,
    TEXT,
];

/// The table `[desk.attachments]` of the configuration file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AttachmentSettings {
    /// Largest file, in bytes.
    pub max_bytes: usize,
    /// Most files of one session within an hour.
    pub per_hour: u32,
    /// Types that are accepted.
    pub types: Vec<String>,
}

impl Default for AttachmentSettings {
    fn default() -> Self {
        let types = KNOWN.iter().map(|known| known.media_type.to_owned()).collect();
        Self { max_bytes: 10 << 20, per_hour: 30, types }
    }
}

impl AttachmentSettings {
    /// All that is wrong, a sentence each, naming the field.
    pub(super) fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if !(1..=64 << 20).contains(&self.max_bytes) {
            problems.push("`max_bytes` must be from 1 to 67108864 (64 MiB)".to_owned());
        }
        for name in &self.types {
            if !KNOWN.iter().any(|known| known.media_type == name) {
                let known: Vec<&str> = KNOWN.iter().map(|known| known.media_type).collect();
                problems
                    .push(format!("`types` names {name:?}, which cannot be accepted; there are {}", known.join(", ")));
            }
        }
        problems
    }

    /// Checks a file by its bytes and gives it a name that nothing can go wrong with.
    ///
    /// # Errors
    ///
    /// When it is empty, of no type that is accepted, or cannot be called that.
    pub fn check(&self, name: &str, content: Vec<u8>) -> Result<File, FileProblem> {
        if content.is_empty() {
            return Err(FileProblem::Empty);
        }
        let refused = || FileProblem::Type { accepted: self.types.join("、") };
        let known = recognise(&content).ok_or_else(refused)?;
        if !self.types.iter().any(|accepted| accepted == known.media_type) {
            return Err(refused());
        }
        let name = checked_name(name, known).map_err(FileProblem::Name)?;
        Ok(File { name, media_type: known.media_type, content, per_hour: self.per_hour })
    }
}

/// A file that has been checked.
#[derive(Clone, PartialEq, Eq)]
pub struct File {
    /// Its name, without a path.
    pub name: String,
    /// Its type, by its bytes.
    pub media_type: &'static str,
    /// Its bytes.
    pub content: Vec<u8>,
    /// Most files of its session within an hour.
    pub per_hour: u32,
}

impl std::fmt::Debug for File {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} ({}, {} bytes)", self.name, self.media_type, self.content.len())
    }
}

/// Why a file is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FileProblem {
    /// There is nothing in it.
    #[error("the file is empty")]
    Empty,
    /// It is of no type that is accepted.
    #[error("the file is of no accepted type")]
    Type {
        /// Those that are.
        accepted: String,
    },
    /// It cannot be called that.
    #[error("the file cannot be called that: {0}")]
    Name(&'static str),
}

/// What a file is, by its first bytes. What is clean text is text, whatever its first letters mean elsewhere, unless a browser or a
/// shell would run it.
fn recognise(content: &[u8]) -> Option<&'static FileType> {
    if let Some(text) = clean_text(content) {
        let begins = text.trim_start();
        return if begins.starts_with("%PDF-") {
            Some(&PDF)
        } else if begins.starts_with('<') || begins.starts_with("#!") {
            None
        } else {
            Some(&TEXT)
        };
    }
    let media_type = infer::get(content)?.mime_type();
    match media_type {
        "audio/m4a" => KNOWN.iter().find(|known| known.media_type == "audio/mp4"),
        "application/zip" => office(content),
        _ if media_type == WORD.media_type || media_type == EXCEL.media_type => office(content),
        _ => KNOWN.iter().find(|known| known.media_type == media_type && **known != TEXT),
    }
}

/// The whole content as a text without control characters.
fn clean_text(content: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(content).ok()?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let odd = |letter: char| letter.is_control() && !matches!(letter, '\t' | '\n' | '\r');
    (!text.chars().any(odd)).then_some(text)
}

/// Which document a ZIP file is, by the names in its directory. One with macros is none.
fn office(content: &[u8]) -> Option<&'static FileType> {
    let archive = zip::ZipArchive::new(Cursor::new(content)).ok()?;
    let names: Vec<&[u8]> = archive.file_names_raw().collect();
    if names.iter().any(|name| name.to_ascii_lowercase().ends_with(b"vbaproject.bin")) {
        return None;
    }
    match (names.contains(&&b"word/document.xml"[..]), names.contains(&&b"xl/workbook.xml"[..])) {
        (true, false) => Some(&WORD),
        (false, true) => Some(&EXCEL),
        _ => None,
    }
}

/// The last part of a path without what could make it look like something else, ending in what its type ends in.
fn checked_name(name: &str, known: &FileType) -> Result<String, &'static str> {
    let last = name.rsplit(['/', '\\']).next().unwrap_or_default();
    let seen: String = last.chars().filter(|letter| !letter.is_control() && !is_hidden(*letter)).collect();
    let seen = seen.trim_matches(|letter: char| letter == '.' || letter.is_whitespace());
    if seen.is_empty() {
        return Err("不能为空，也不能只是路径或点号");
    }
    if seen.chars().count() > LONGEST_NAME {
        return Err("最多 120 个字符");
    }
    let end = seen.rsplit_once('.').map(|(_, end)| end.to_ascii_lowercase()).unwrap_or_default();
    if known.extensions.contains(&end.as_str()) {
        return Ok(seen.to_owned());
    }
    Ok(format!("{seen}.{}", known.extensions[0]))
}

/// Characters that are not seen and may change the order in which others are.
fn is_hidden(letter: char) -> bool {
    matches!(letter, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}')
}

#[cfg(test)]
mod tests {
    use super::*;

    const PNG: &[u8] = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR";

    fn media_type(content: &[u8]) -> Option<&'static str> {
        recognise(content).map(|known| known.media_type)
    }

    #[test]
    fn a_type_is_known_by_the_first_bytes() {
        for (content, wanted) in [
            (PNG, Some("image/png")),
            (b"\xff\xd8\xff\xe0\0\x10JFIF", Some("image/jpeg")),
            (b"GIF89a\x01\0\x01\0", Some("image/gif")),
            (b"RIFF\x10\0\0\0WEBPVP8 ", Some("image/webp")),
            (b"%PDF-1.7\n%\xe2\xe3", Some("application/pdf")),
            (b"%PDF-1.4\nplain", Some("application/pdf")),
            (b"\0\0\0\x18ftypisom\0\0\0\0", Some("video/mp4")),
            (b"\0\0\0\x18ftypM4A \0\0\0\0", Some("audio/mp4")),
            (b"#!AMR\n\x3c\x91\x17\x16\xbe\x66\x79", Some("audio/amr")),
            (b"ID3\x03\0\0\0\0\0", Some("audio/mpeg")),
            ("\u{feff}订单号 2026\r\n".as_bytes(), Some("text/plain")),
            (b"BMW parts, not a bitmap", Some("text/plain")),
            (b"GIF89a/*a script that calls itself a picture*/", Some("text/plain")),
            (b"MZ\x90\0\x03\0\0\0", None),
            (b"\x7fELF\x02\x01\x01\0", None),
            (b"<html><script>alert(1)</script>", None),
            (b" \n<svg xmlns='http://www.w3.org/2000/svg'/>", None),
            ("\u{feff}<?xml version='1.0'?>".as_bytes(), None),
            (b"#!/bin/sh\nrm -rf /", None),
            (b"PK\x03\x04 and no directory", None),
            (b"text with a \0 in it", None),
            (b"\xc4\xe3\xba\xc3", None),
        ] {
            assert_eq!(media_type(content), wanted, "{}", String::from_utf8_lossy(content));
        }
    }

    #[test]
    fn a_name_has_no_path_and_nothing_hidden() {
        let png = &KNOWN[0];
        for (name, wanted) in [
            ("杯子.png", "杯子.png"),
            ("杯子.PNG", "杯子.PNG"),
            ("../../etc/passwd", "passwd.png"),
            ("C:\\Users\\a\\照片.png", "照片.png"),
            ("照片.exe", "照片.exe.png"),
            ("a\u{0}b\r\nSet-Cookie: x.png", "abSet-Cookie: x.png"),
            ("gnp.\u{202e}exe.png", "gnp.exe.png"),
            (" .htaccess. ", "htaccess.png"),
            ("%2e%2e%2fpasswd", "%2e%2e%2fpasswd.png"),
        ] {
            assert_eq!(checked_name(name, png).as_deref(), Ok(wanted), "{name:?}");
        }
        for name in ["", "..", "../", "..\\", "a/", " . ", "\u{0}", "\u{202e}", &"长".repeat(121)] {
            assert!(checked_name(name, png).is_err(), "{name:?}");
        }
    }

    #[test]
    fn what_the_settings_leave_out_is_refused() {
        let settings = AttachmentSettings { types: vec!["application/pdf".into()], ..AttachmentSettings::default() };
        let refused = FileProblem::Type { accepted: "application/pdf".into() };
        assert_eq!(settings.check("a.png", PNG.to_vec()), Err(refused));
        assert_eq!(settings.check("a.pdf", Vec::new()), Err(FileProblem::Empty));
        assert_eq!(settings.problems(), Vec::<String>::new());
        let types = vec!["text/html".into(), "image/svg+xml".into()];
        let settings = AttachmentSettings { max_bytes: 0, types, ..settings };
        assert_eq!(settings.problems().len(), 3, "what a browser would run cannot be allowed");
    }
}
