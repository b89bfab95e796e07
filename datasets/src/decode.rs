//! Bytes to text: UTF-8 with or without a byte order mark, UTF-16 with one, GB18030.

use encoding_rs::{DecoderResult, Encoding, GB18030, UTF_8};

use crate::error::{DatasetsError, Result};

/// The text of a file, without its byte order mark.
pub(crate) fn decode(file: &str, bytes: Vec<u8>) -> Result<String> {
    let wrong =
        |offset: usize, encoding: &'static str| DatasetsError::Encoding { file: file.to_owned(), offset, encoding };
    let (marked, mark) = match Encoding::for_bom(&bytes) {
        Some((encoding, mark)) => (Some(encoding), mark),
        None => (None, 0),
    };
    match marked {
        Some(encoding) if encoding != UTF_8 => {
            return strictly(encoding, &bytes[mark..]).map_err(|offset| wrong(mark + offset, encoding.name()));
        }
        _ => {}
    }

    let offset = match std::str::from_utf8(&bytes[mark..]) {
        Ok(text) if mark > 0 => return Ok(text.to_owned()),
        Ok(_) => {
            return String::from_utf8(bytes).map_err(|error| wrong(error.utf8_error().valid_up_to(), "UTF-8"));
        }
        Err(error) => mark + error.valid_up_to(),
    };
    if marked.is_some() || is_mostly_utf8(&bytes) {
        return Err(wrong(offset, "UTF-8"));
    }
    strictly(GB18030, &bytes).map_err(|offset| wrong(offset, "UTF-8 or GB18030"))
}

/// Whether this is UTF-8 with a few broken bytes. Such bytes would often pass as GB18030 and be read as wrong
/// characters, silently; Chinese text in GB18030, on the other hand, hardly ever looks like UTF-8.
fn is_mostly_utf8(bytes: &[u8]) -> bool {
    let (mut whole, mut broken) = (0usize, 0usize);
    for chunk in bytes.utf8_chunks() {
        whole += chunk.valid().chars().filter(|&c| c >= '\u{800}').count();
        broken += usize::from(!chunk.invalid().is_empty());
    }
    whole > broken
}

/// Decodes without replacing anything, or says at which byte it stopped.
fn strictly(encoding: &'static Encoding, bytes: &[u8]) -> std::result::Result<String, usize> {
    let mut decoder = encoding.new_decoder_without_bom_handling();
    let room = decoder.max_utf8_buffer_length_without_replacement(bytes.len());
    let mut text = String::with_capacity(room.unwrap_or(bytes.len()));
    let (result, read) = decoder.decode_to_string_without_replacement(bytes, &mut text, true);
    match result {
        DecoderResult::InputEmpty => Ok(text),
        DecoderResult::Malformed(bad, after) => Err(read.saturating_sub(usize::from(bad) + usize::from(after))),
        DecoderResult::OutputFull => Err(read),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "会话,角色\n1,用户想查一下包裹到哪里了\n";

    #[test]
    fn every_encoding_gives_the_same_text() {
        let (gb18030, _, _) = GB18030.encode(TEXT);
        let utf16: Vec<u8> = [0xFF, 0xFE].into_iter().chain(TEXT.encode_utf16().flat_map(u16::to_le_bytes)).collect();
        let marked = [b"\xEF\xBB\xBF", TEXT.as_bytes()].concat();
        for bytes in [TEXT.as_bytes().to_vec(), marked, gb18030.into_owned(), utf16] {
            assert_eq!(decode("a.csv", bytes).expect("text"), TEXT);
        }
    }

    #[test]
    fn broken_utf8_is_not_taken_for_gb18030() {
        let mut bytes = TEXT.as_bytes().to_vec();
        bytes[18] = 0xFF;
        let sentence = decode("a.csv", bytes).expect_err("broken").to_string();
        assert!(sentence.starts_with("a.csv: the byte at offset 16 is not valid UTF-8;"), "{sentence}");
        let mut cut = TEXT.as_bytes().to_vec();
        cut.truncate(TEXT.len() - 2);
        assert!(decode("a.csv", cut).is_err());
    }

    #[test]
    fn other_bytes_name_their_place() {
        let (gb18030, _, _) = GB18030.encode("id,内容\n");
        let mut bytes = gb18030.into_owned();
        let offset = bytes.len();
        bytes.push(0xFF);
        let sentence = decode("a.csv", bytes).expect_err("broken").to_string();
        assert!(sentence.contains(&format!("offset {offset} is not valid UTF-8 or GB18030")), "{sentence}");
    }
}
