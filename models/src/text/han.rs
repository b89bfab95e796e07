//! Traditional to Simplified, one character at a time.
//!
//! OpenCC's phrase conversion is quick (start 0.2 ms, about 0.4 µs a character) but not idempotent: `蕭乾` becomes
//! `萧乾`, and that, no longer a phrase of the dictionary, becomes `萧干`. It also leaves the Taiwanese `著` (for `着`)
//! alone. So it is asked once for every character on its own (some 10 ms, at first use), and the few characters whose
//! simplified form depends on a neighbour are decided here, on neighbours that are simplified already: the second time
//! gives what the first gave, and a mixed text is treated like a pure one.

use std::sync::LazyLock;

use ferrous_opencc::{OpenCC, config::BuiltinConfig};

const FIRST: u32 = 0x3400;
const LAST: u32 = 0x9FFF;

static SIMPLIFIED: LazyLock<Vec<char>> = LazyLock::new(|| {
    let opencc =
        OpenCC::from_config(BuiltinConfig::T2s).expect("the t2s dictionaries are compiled into ferrous-opencc");
    (FIRST..=LAST)
        .map(|code| {
            let from = char::from_u32(code).expect("no surrogates between U+3400 and U+9FFF");
            // Twice: a few go on (薴, 苧, 苎), and the table must be stable.
            let by_opencc = opencc.convert(&opencc.convert(from.encode_utf8(&mut [0; 4])));
            let mut to = by_opencc.chars();
            match (from, to.next(), to.next()) {
                // Customers' second persons and pronouns for things: one form.
                ('妳', ..) => '你',
                ('牠', ..) => '它',
                // 干 (dry) or 乾 (the trigram, the emperor) is decided by the neighbour.
                ('乾', ..) => '乾',
                // Where the simplified form lies beyond the BMP no vocabulary knows it: the old form is better.
                (_, Some(one), None) if u32::from(one) <= 0xFFFF => one,
                _ => from,
            }
        })
        .collect()
});

/// Whether `c` is a Han character (CJK ideographs of the BMP, and the supplementary planes).
pub(super) fn is_han(c: char) -> bool {
    matches!(c, '\u{3400}'..='\u{9FFF}' | '\u{F900}'..='\u{FAFF}' | '\u{20000}'..='\u{3FFFF}' | '〇')
}

/// The simplified form of one character, without regard to its neighbours.
pub(super) fn simplified(c: char) -> char {
    match u32::from(c) {
        code @ FIRST..=LAST => SIMPLIFIED.get((code - FIRST) as usize).copied().unwrap_or(c),
        _ => c,
    }
}

/// The simplified form of a text.
pub(super) fn simplify(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().map(simplified).peekable();
    let mut before = '\0';
    while let Some(c) = chars.next() {
        let after = chars.peek().copied().unwrap_or('\0');
        let c = in_context(before, c, after);
        out.push(c);
        before = c;
    }
    out
}

/// Decides the characters that OpenCC's character table cannot decide. `before` and `after` are simplified.
fn in_context(before: char, c: char, after: char) -> char {
    match c {
        '乾' if !"隆坤卦陵".contains(after) && !"康萧".contains(before) => '干',
        '瞭' if after != '望' => '了',
        '藉' if !"狼慰枕蕴".contains(before) && after != '藉' && before != '藉' => '借',
        '祇' if before != '神' && before != '地' => '只',
        '甚' if after == '么' => '什',
        '覆' if "回答重反函电示".contains(before) || after == '信' => '复',
        '著' if !"名显原编土巨专论卓昭遗合译拙新".contains(before) && !"作名称书述录者".contains(after) => {
            '着'
        }
        _ => c,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traditional_becomes_simplified_without_garbage() {
        let table = [
            ("請問什麼時候發貨", "请问什么时候发货"),
            ("甚麼時候到", "什么时候到"),
            ("餅乾受潮了，不夠乾燥", "饼干受潮了，不够干燥"),
            ("乾隆年間 乾坤", "乾隆年间 乾坤"),
            ("皇后鎮的後臺", "皇后镇的后台"),
            ("頭髮 發票 麵條 面膜", "头发 发票 面条 面膜"),
            ("我瞭解了 瞭望塔", "我了解了 瞭望塔"),
            ("看著這本著名的著作", "看着这本著名的著作"),
            ("藉口 狼藉", "借口 狼藉"),
            ("請儘快回覆，覆蓋", "请尽快回复，覆盖"),
            ("妳們隻有一隻嗎", "你们只有一只吗"),
            ("裡面 裏面 里程", "里面 里面 里程"),
            ("於是 关于", "于是 关于"),
            ("快递到了吗abc123😀", "快递到了吗abc123😀"),
        ];
        for (from, to) in table {
            assert_eq!(simplify(from), to);
            assert_eq!(simplify(to), to, "twice: {to}");
        }
    }

    #[test]
    fn table_is_stable() {
        for c in (FIRST..=LAST).filter_map(char::from_u32) {
            let once = simplified(c);
            assert_eq!(simplified(once), once, "{c}");
        }
    }
}
