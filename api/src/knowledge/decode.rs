//! Bytes to text. Excel in China writes CSV in GB18030, or as "Unicode text" in UTF-16; everything else writes UTF-8.

use encoding_rs::{DecoderResult, Encoding, GB18030, UTF_8};

use super::Place;

/// The text of a file without its byte order mark, or where and why there is none.
pub(super) fn decode(bytes: &[u8]) -> Result<String, (Place, String)> {
    let (marked, bytes) = match Encoding::for_bom(bytes) {
        Some((encoding, length)) => (Some(encoding), &bytes[length..]),
        None => (None, bytes),
    };
    if let Some(encoding) = marked.filter(|encoding| *encoding != UTF_8) {
        return strictly(encoding, bytes).map_err(|_| {
            (
                Place::file(),
                format!("it is not valid {}, which its first bytes announce; save it as UTF-8", encoding.name()),
            )
        });
    }
    let broken = match std::str::from_utf8(bytes) {
        Ok(text) => return Ok(text.to_owned()),
        Err(error) => error.valid_up_to(),
    };
    let wrong = |offset: usize, what: &str| {
        let line = 1 + bytes[..offset].iter().filter(|byte| **byte == b'\n').count();
        (Place::line(line), format!("a byte here is not valid {what}; save the file as UTF-8"))
    };
    // A few broken bytes in UTF-8 would often pass as GB18030, and the whole text with them as other characters. Chinese in
    // GB18030, on the other hand, is hardly ever valid UTF-8 over more than a character.
    let (mut whole, mut invalid) = (0, 0);
    for chunk in bytes.utf8_chunks() {
        whole += chunk.valid().chars().filter(|c| c.len_utf8() > 2).count();
        invalid += usize::from(!chunk.invalid().is_empty());
    }
    if marked.is_some() || whole > invalid {
        return Err(wrong(broken, "UTF-8"));
    }
    strictly(GB18030, bytes).map_err(|offset| wrong(offset.min(bytes.len()), "UTF-8 or GB18030"))
}

/// Replaces nothing: an error is the byte where it stopped.
fn strictly(encoding: &'static Encoding, bytes: &[u8]) -> Result<String, usize> {
    let mut decoder = encoding.new_decoder_without_bom_handling();
    let room = decoder.max_utf8_buffer_length_without_replacement(bytes.len()).unwrap_or(bytes.len());
    let mut text = String::with_capacity(room);
    match decoder.decode_to_string_without_replacement(bytes, &mut text, true) {
        (DecoderResult::InputEmpty, _) => Ok(text),
        (_, read) => Err(read.saturating_sub(1)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "编号,标准问题,答案\nk1,怎么退货,在订单页点「退货」\n";

    #[test]
    fn what_excel_and_editors_write_is_recognised() {
        let (gb18030, _, _) = GB18030.encode(TEXT);
        let utf16: Vec<u8> = [0xFF, 0xFE].into_iter().chain(TEXT.encode_utf16().flat_map(u16::to_le_bytes)).collect();
        let marked = [b"\xEF\xBB\xBF", TEXT.as_bytes()].concat();
        for bytes in [TEXT.as_bytes(), &marked, &gb18030, &utf16] {
            assert_eq!(decode(bytes).unwrap(), TEXT);
        }
    }

    #[test]
    fn broken_text_is_not_read_as_something_else() {
        let place = |bytes: &[u8]| decode(bytes).unwrap_err().0.text;
        let mut broken = TEXT.as_bytes().to_vec();
        let second = broken.iter().position(|byte| *byte == b'\n').unwrap() + 1;
        broken[second + 5] = 0xFF;
        assert_eq!(place(&broken), "line 2");
        let (gb18030, _, _) = GB18030.encode(TEXT);
        assert_eq!(place(&[&gb18030[..], b"\xFF"].concat()), "line 3");
        assert_eq!(place(b"\xFF\xFEa"), "the file");
        assert_eq!(place(b"\xEF\xBB\xBFok\n\xD6\xD0"), "line 2");
    }
}
