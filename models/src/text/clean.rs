//! Cleaning: one form for what means the same.

use serde::{Deserialize, Serialize};
use unicode_normalization::UnicodeNormalization;

use super::{MAX_ROUNDS, codes, han};

/// The steps of [`clean`], each switchable; all on by default. They run in the order of the fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CleanOptions {
    /// Removes what has no width: controls, bidirectional marks, zero-width characters, BOM, soft hyphens, variation
    /// selectors, skin tones. An emoji sequence falls apart into its base emoji.
    pub invisible: bool,
    /// Unicode normalisation form NFKC (Unicode Standard Annex 15): full-width letters, `①`, `㎡`, presentation forms.
    pub nfkc: bool,
    /// Decodes HTML entities, also those that were encoded more than once (`&amp;nbsp;`).
    pub html_entities: bool,
    /// Removes simple HTML tags (`<br>`, `<p style="...">`, `</div>`); a tag that breaks the line leaves a blank.
    pub html_tags: bool,
    /// Traditional characters to Simplified ones.
    pub simplified: bool,
    /// Any run of white space to one blank; none at the ends. A blank between two Han characters stays: it is often the
    /// customer's comma.
    pub whitespace: bool,
    /// ASCII letters to lower case.
    pub lowercase: bool,
    /// Emoticon codes of JD, WeChat and QQ to `[表情]`; WeChat's `[微笑]` stays, its English names become Chinese.
    pub emoticons: bool,
    /// Mask tokens of upstream data to the contract's: `[数字x]` to `[数字]`, `[ORDERID_10282347]` to `[订单号]`.
    pub mask_tokens: bool,
    /// Cuts a run of one character to three (`哈哈哈哈哈`, `！！！！！！`). Digits are never cut, nor ASCII letters in a word with digits.
    pub repeats: bool,
}

impl Default for CleanOptions {
    fn default() -> Self {
        Self {
            invisible: true,
            nfkc: true,
            html_entities: true,
            html_tags: true,
            simplified: true,
            whitespace: true,
            lowercase: true,
            emoticons: true,
            mask_tokens: true,
            repeats: true,
        }
    }
}

/// Brings a text to the form in which the model reads it, keeping its meaning.
///
/// Idempotent (what one step brings to light, a second round sees) and linear in the length of the text.
#[must_use]
pub fn clean(text: &str, options: &CleanOptions) -> String {
    let mut text = round(text, options);
    for _ in 1..MAX_ROUNDS {
        let again = round(&text, options);
        if again == text {
            break;
        }
        text = again;
    }
    text
}

fn round(text: &str, options: &CleanOptions) -> String {
    let mut text = characters(text, options);
    if options.simplified {
        text = han::simplify(&text);
    }
    if options.whitespace {
        text = one_blank(&text);
    }
    if options.lowercase {
        text.make_ascii_lowercase();
    }
    if options.emoticons {
        text = codes::emoticons(&text).into_owned();
    }
    if options.mask_tokens {
        text = codes::upstream_tokens(&text).into_owned();
    }
    if options.repeats {
        text = cut_repeats(&text);
    }
    text
}

/// The steps that look at characters: invisible ones, NFKC, entities, tags.
fn characters(text: &str, options: &CleanOptions) -> String {
    let mut sink = Markup { out: String::with_capacity(text.len()), open_tags: Vec::new(), options };
    let visible = text.chars().filter(|c| !options.invisible || !is_invisible(*c));
    if options.nfkc {
        visible.nfkc().for_each(|c| sink.push(c));
    } else {
        visible.for_each(|c| sink.push(c));
    }
    sink.out
}

/// Characters without a picture of their own. White space is not among them.
fn is_invisible(c: char) -> bool {
    match c {
        '\t' | '\n' | '\u{B}' | '\u{C}' | '\r' | '\u{85}' => false,
        '\u{AD}' // soft hyphen
        | '\u{34F}' | '\u{61C}' // combining grapheme joiner, Arabic letter mark
        | '\u{115F}' | '\u{1160}' | '\u{3164}' | '\u{FFA0}' // Hangul fillers
        | '\u{17B4}' | '\u{17B5}' | '\u{180B}'..='\u{180F}' // Khmer, Mongolian
        | '\u{200B}'..='\u{200F}' | '\u{202A}'..='\u{202E}' // zero width, bidirectional
        | '\u{2060}'..='\u{206F}' // word joiner, invisible operators, isolates
        | '\u{20E3}' // the frame of a keycap: the digit is its base
        | '\u{FE00}'..='\u{FE0F}' | '\u{FEFF}' // variation selectors, BOM
        | '\u{FFF9}'..='\u{FFFC}' // annotations, object replacement
        | '\u{1F3FB}'..='\u{1F3FF}' // skin tones
        | '\u{1D173}'..='\u{1D17A}' | '\u{E0000}'..='\u{E0FFF}' => true, // musical controls, tags, more selectors
        _ => c.is_control(),
    }
}

/// The longest entity name of HTML has 31 letters.
const LONGEST_ENTITY: usize = 33;
/// No simple tag is longer.
const LONGEST_TAG: usize = 1000;

/// Decodes entities and drops tags as characters arrive. Looking back from each `;` and `>` (instead of forward from each
/// `&` and `<`) makes one pass enough for nested ones: what a decoding or a removal brings together is seen at once.
struct Markup<'o> {
    out: String,
    /// Where the `<` in `out` are that no `>` has answered yet.
    open_tags: Vec<usize>,
    options: &'o CleanOptions,
}

impl Markup<'_> {
    fn push(&mut self, c: char) {
        if c == '<' && self.options.html_tags {
            self.open_tags.push(self.out.len());
        }
        self.out.push(c);
        match c {
            ';' if self.options.html_entities => self.end_of_entity(),
            '>' if self.options.html_tags => self.end_of_tag(),
            _ => {}
        }
    }

    fn end_of_entity(&mut self) {
        let bytes = self.out.as_bytes();
        let from = bytes.len().saturating_sub(LONGEST_ENTITY);
        let Some(start) = bytes[from..].iter().rposition(|b| *b == b'&').map(|at| from + at) else { return };
        let Some(entity) = self.out.get(start..) else { return };
        let decoded = html_escape::decode_html_entities(entity).into_owned();
        if decoded == entity {
            return;
        }
        self.out.truncate(start);
        while self.open_tags.pop_if(|open| *open >= start).is_some() {}
        // A decoded `;` or `>` may end another entity or tag: `push` looks. Each decoding shortens the text.
        let visible = decoded.chars().filter(|c| !self.options.invisible || !is_invisible(*c));
        let visible: String = if self.options.nfkc { visible.nfkc().collect() } else { visible.collect() };
        visible.chars().for_each(|c| self.push(c));
    }

    fn end_of_tag(&mut self) {
        let Some(start) = self.open_tags.last().copied() else { return };
        let breaks_line = match self.out.get(start..) {
            Some(tag) if tag.len() <= LONGEST_TAG => simple_tag(tag),
            _ => None,
        };
        let Some(breaks_line) = breaks_line else { return };
        self.open_tags.pop();
        self.out.truncate(start);
        if breaks_line {
            self.out.push(' ');
        }
    }
}

/// Whether `tag`, from `<` to `>`, is a tag that rich-text editors and chat windows leave behind; and whether it breaks the line.
fn simple_tag(tag: &str) -> Option<bool> {
    const BREAKING: [&str; 22] = [
        "br",
        "p",
        "div",
        "hr",
        "ul",
        "ol",
        "li",
        "table",
        "tbody",
        "thead",
        "tr",
        "td",
        "th",
        "h1",
        "h2",
        "h3",
        "h4",
        "h5",
        "h6",
        "section",
        "article",
        "blockquote",
    ];
    const INLINE: [&str; 19] = [
        "span", "b", "i", "u", "s", "a", "em", "strong", "font", "small", "big", "sub", "sup", "label", "img",
        "center", "code", "pre", "mark",
    ];
    let inside = tag.strip_prefix('<')?.strip_suffix('>')?;
    let inside = inside.strip_prefix('/').unwrap_or(inside);
    let length = inside.bytes().take_while(u8::is_ascii_alphanumeric).count();
    let (name, rest) = inside.split_at(length);
    if !(rest.is_empty() || rest.starts_with('/') || rest.starts_with(char::is_whitespace)) {
        return None;
    }
    if BREAKING.iter().any(|known| known.eq_ignore_ascii_case(name)) {
        Some(true)
    } else if INLINE.iter().any(|known| known.eq_ignore_ascii_case(name)) {
        Some(false)
    } else {
        None
    }
}

fn one_blank(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for word in text.split_whitespace() {
        if !out.is_empty() {
            out.push(' ');
        }
        out.push_str(word);
    }
    out
}

fn cut_repeats(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let mut last = '\0';
    let mut run = 0_usize;
    while let Some(c) = rest.chars().next() {
        // A word of ASCII letters with digits in it is a number of something: it stays whole.
        let length = rest.bytes().take_while(u8::is_ascii_alphanumeric).count();
        let (word, after) = rest.split_at(if length == 0 { c.len_utf8() } else { length });
        rest = after;
        if word.bytes().any(|b| b.is_ascii_digit()) {
            out.push_str(word);
            (last, run) = ('\0', 0);
            continue;
        }
        for c in word.chars() {
            run = if c == last { run + 1 } else { 1 };
            last = c;
            if run <= 3 || c.is_whitespace() || c.is_numeric() && !han::is_han(c) {
                out.push(c);
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(table: &[(&str, &str)]) {
        let options = CleanOptions::default();
        for (from, to) in table {
            assert_eq!(clean(from, &options), *to, "from {from:?}");
            assert_eq!(clean(to, &options), *to, "twice");
        }
    }

    #[test]
    fn entities_and_tags() {
        check(&[
            ("你好&nbsp;在吗", "你好 在吗"),
            ("你好&amp;nbsp;在吗", "你好 在吗"),
            ("&amp;amp;amp;lt;", "<"),
            ("a &lt; b", "a < b"),
            ("&#20320;&#x597d;", "你好"),
            ("AT&T; a&b", "at&t; a&b"),
            ("&nbsp", "&nbsp"),
            ("第一行<br/>第二行<BR>第三行", "第一行 第二行 第三行"),
            ("<p class=\"x\">您好</p><b>重要</b>", "您好 重要"),
            ("&lt;br&gt;您好", "您好"),
            ("<b<i>r>x", "x"),
            ("爱你<3 呢>_<", "爱你<3 呢>_<"),
            ("<微笑>", "<微笑>"),
            ("<sep>", "<sep>"),
            ("1<2 和 3>2", "1<2 和 3>2"),
        ]);
    }

    #[test]
    fn width_script_and_invisible() {
        check(&[
            ("ＡＢＣ１２３！？", "abc123!?"),
            ("①㎡ﾊ", "1m2ハ"),
            ("請問餅乾什麼時候發貨", "请问饼干什么时候发货"),
            ("你\u{200B}好\u{FEFF}\u{202E}\u{0}呀\u{AD}", "你好呀"),
            ("❤️👍🏽👨‍👩‍👧1️⃣", "❤👍👨👩👧1"),
            ("乾\u{200D}隆", "乾隆"),
            ("iPhone 15 Pro", "iphone 15 pro"),
        ]);
    }

    #[test]
    fn blanks() {
        check(&[
            ("  你好 \t\r\n 在吗　　", "你好 在吗"),
            ("衣服 破了 退款", "衣服 破了 退款"),
            ("\u{A0}\u{2028}", ""),
            ("", ""),
        ]);
    }

    #[test]
    fn repeats() {
        check(&[
            ("哈哈哈哈哈", "哈哈哈"),
            ("！！！！！！", "!!!"),
            ("。。。。。……", "。。。..."),
            ("订单1000000000", "订单1000000000"),
            ("AAAAA11111", "aaaaa11111"),
            ("zzzzzz", "zzz"),
            ("******", "***"),
            ("66666", "66666"),
            ("😂😂😂😂😂", "😂😂😂"),
            ("〇〇〇〇", "〇〇〇"),
        ]);
    }

    #[test]
    fn codes() {
        check(&[
            ("好的#E-s[数字x] #E-s08", "好的[表情] [表情]"),
            ("［微笑］[捂脸]/::)", "[微笑][捂脸][表情]"),
            ("[ORDERID_10282347]订单[订单x]", "[订单号]订单[订单号]"),
            ("[数字x]-[数字x]", "[数字]-[数字]"),
            ("[手机号][座机][身份证]", "[手机号][座机][身份证]"),
        ]);
    }

    #[test]
    fn every_switch_off_leaves_the_text_alone() {
        let on = CleanOptions::default();
        let table: [(CleanOptions, &str); 10] = [
            (CleanOptions { invisible: false, ..on }, "你\u{200B}好"),
            (CleanOptions { nfkc: false, ..on }, "１２３"),
            (CleanOptions { html_entities: false, ..on }, "&lt;"),
            (CleanOptions { html_tags: false, ..on }, "<br>"),
            (CleanOptions { simplified: false, ..on }, "請問"),
            (CleanOptions { whitespace: false, ..on }, " 你  好 "),
            (CleanOptions { lowercase: false, ..on }, "ABC"),
            (CleanOptions { emoticons: false, ..on }, "#e-s08"),
            (CleanOptions { mask_tokens: false, ..on }, "[数字x]"),
            (CleanOptions { repeats: false, ..on }, "哈哈哈哈哈"),
        ];
        for (options, text) in table {
            assert_eq!(clean(text, &options), text);
            assert_ne!(clean(text, &on), text);
        }
        let off = CleanOptions {
            invisible: false,
            nfkc: false,
            html_entities: false,
            html_tags: false,
            simplified: false,
            whitespace: false,
            lowercase: false,
            emoticons: false,
            mask_tokens: false,
            repeats: false,
        };
        let nasty = " ＡＡＡＡ<br>&lt;請\u{200B}#E-s08[数字x]哈哈哈哈 ";
        assert_eq!(clean(nasty, &off), nasty);
    }
}
