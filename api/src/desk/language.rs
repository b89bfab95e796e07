//! Which language a customer writes, as two letters of ISO 639-1, so that somebody who speaks it can be found.

use whatlang::{Detector, Lang};

/// The languages that are told apart.
const LANGUAGES: [(Lang, &str); 14] = [
    (Lang::Cmn, CHINESE),
    (Lang::Eng, ENGLISH),
    (Lang::Jpn, "ja"),
    (Lang::Kor, "ko"),
    (Lang::Rus, "ru"),
    (Lang::Tha, "th"),
    (Lang::Vie, "vi"),
    (Lang::Ind, "id"),
    (Lang::Ara, "ar"),
    (Lang::Fra, "fr"),
    (Lang::Deu, "de"),
    (Lang::Spa, "es"),
    (Lang::Por, "pt"),
    (Lang::Ita, "it"),
];
const CHINESE: &str = "zh";
const ENGLISH: &str = "en";
/// Words of which two make a message English: statistics over letters say nothing of a message this short, and English is by far
/// the likeliest then.
const ENGLISH_WORDS: [&str; 32] = [
    "the", "i", "i'm", "my", "you", "your", "it", "it's", "is", "are", "was", "not", "and", "of", "this", "that",
    "what", "when", "where", "how", "why", "want", "need", "have", "can", "can't", "don't", "please", "order",
    "refund", "speak", "talk",
];

/// The language of a customer: what the caller says of them (`zh-CN` is `zh`), or else in which they wrote most, the first of `written`
/// where there was as much of another. `None` when nobody can tell: of an order number, an emoji, `OK`.
pub fn language<'a>(said: Option<&str>, written: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let known = said.and_then(primary);
    known.or_else(|| {
        let mut words: Vec<(&str, usize)> = Vec::new();
        for (language, count) in written.into_iter().filter_map(written_in) {
            match words.iter_mut().find(|(known, _)| *known == language) {
                Some((_, all)) => *all += count,
                None => words.push((language, count)),
            }
        }
        // The last of equal ones would win.
        words.into_iter().rev().max_by_key(|(_, count)| *count).map(|(language, _)| language.to_owned())
    })
}

/// The first part of a language tag (RFC 5646), in lower case; `None` of what is none.
pub fn primary(tag: &str) -> Option<String> {
    let first = tag.trim().split(['-', '_']).next().unwrap_or_default();
    let is_language = matches!(first.len(), 2 | 3) && first.chars().all(|letter| letter.is_ascii_alphabetic());
    is_language.then(|| first.to_ascii_lowercase())
}

/// The language of one message, if it tells, and about how many words it has: whoever asks for a person with 转人工, as they were told
/// to, need not be Chinese.
fn written_in(text: &str) -> Option<(&'static str, usize)> {
    let text = without_masks(text);
    let (mut han, mut kana) = (0, 0);
    for letter in text.chars() {
        match letter {
            '\u{3041}'..='\u{3096}' | '\u{30a1}'..='\u{30fa}' => kana += 1,
            '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' | '\u{20000}'..='\u{323af}' => han += 1,
            _ => {}
        }
    }
    let words: Vec<String> = text
        .split(|letter: char| !letter.is_ascii_alphabetic() && letter != '\'' && letter != '’')
        .filter(|word| !word.is_empty())
        .map(|word| word.replace('’', "'").to_ascii_lowercase())
        .collect();
    // 我的iPhone15ProMax坏了 has more Latin letters than others, and is Chinese.
    if kana == 0 && han > 0 && han >= words.len() {
        return Some((CHINESE, han.div_ceil(2)));
    }
    if words.iter().filter(|word| ENGLISH_WORDS.contains(&word.as_str())).count() >= 2 {
        return Some((ENGLISH, words.len()));
    }
    let detector = Detector::with_allowlist(LANGUAGES.iter().map(|(language, _)| *language).collect());
    let found = detector.detect(&text).filter(|found| found.is_reliable())?.lang();
    let (_, code) = LANGUAGES.iter().find(|(language, _)| *language == found)?;
    // A word of two characters, where there are no spaces.
    Some((
        code,
        text.split_whitespace().map(|run| if run.is_ascii() { 1 } else { run.chars().count().div_ceil(2) }).sum(),
    ))
}

/// A text without what stands for personal data and pictures, such as `[手机号]`: it is always Chinese.
fn without_masks(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('[') {
        let Some(end) = rest[at..].find(']') else { break };
        kept.push_str(&rest[..at]);
        kept.push(' ');
        rest = &rest[at + end + 1..];
    }
    kept.push_str(rest);
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Option<String> {
        language(None, [text])
    }

    #[test]
    fn what_is_written_tells_the_language() {
        for (code, texts) in [
            ("zh", &["快递啥时候到", "我的iPhone15ProMax坏了", "退款!!", "嗯", "请问 when 发货"][..]),
            (
                "en",
                &[
                    "I want a refund",
                    "WHERE IS MY ORDER???",
                    "Can you speak English?",
                    "I’m very angry, it’s a scam",
                    "please cancel order [订单号]",
                ],
            ),
            ("ja", &["いつ届きますか", "注文をキャンセルしたい"]),
            ("ko", &["배송이 언제 오나요"]),
            ("ru", &["Где мой заказ?"]),
            ("th", &["ฉันต้องการคืนเงิน"]),
            ("vi", &["Tôi muốn hoàn tiền"]),
            ("fr", &["Bonjour, je voudrais savoir quand ma commande arrivera, cela fait deux semaines que j'attends"]),
            ("de", &["Guten Tag, ich warte seit zwei Wochen auf meine Bestellung und niemand antwortet mir"]),
        ] {
            for text in texts {
                assert_eq!(of(text).as_deref(), Some(code), "{text}");
            }
        }
    }

    #[test]
    fn what_tells_nothing_is_not_guessed() {
        for text in
            ["", "  ", "OK", "😡😡😡", "XK20261109000001", "iPhone 15 Pro Max", "[图片]", "[手机号]", "zaima", "???"]
        {
            assert_eq!(of(text), None, "{text}");
        }
        assert_eq!(of(&"为什么".repeat(7_000)).as_deref(), Some("zh"));
        assert_eq!(of("[不完整").as_deref(), Some("zh"));
    }

    #[test]
    fn what_was_written_most_counts() {
        for (code, written) in [
            ("en", &["转人工", "OK", "where is my order? I want a refund"][..]),
            ("zh", &["OK", "[图片]", "快递啥时候到，都三天了", "where is it?"]),
            ("ja", &["人工", "いつ届きますか"]),
            ("zh", &["退款退款", "I want"]),
            ("en", &["I want", "退款退款"]),
        ] {
            assert_eq!(language(None, written.iter().copied()).as_deref(), Some(code), "{written:?}");
        }
    }

    #[test]
    fn what_the_caller_says_counts_first() {
        for (tag, code) in [("en", "en"), ("zh-CN", "zh"), ("ZH_hant", "zh"), (" yue ", "yue")] {
            assert_eq!(language(Some(tag), ["いつ届きますか"]).as_deref(), Some(code), "{tag}");
        }
        for tag in ["", "中文", "english", "e", "1-2"] {
            assert_eq!(language(Some(tag), ["いつ届きますか"]).as_deref(), Some("ja"), "{tag}");
        }
    }
}
