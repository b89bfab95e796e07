//! Codes inside texts: emoticons of the platforms and the mask tokens of upstream data, each brought to one form.

use std::borrow::Cow;
use std::sync::LazyLock;

use regex::{Captures, Regex};

/// Every token in brackets that the contract itself writes, for a tokenizer that wants to keep them whole.
///
/// The first ten are those of our own masking ([`PersonalData::token`](super::PersonalData::token)); the others come
/// from data that was masked before it reached us. WeChat emoticons (`[微笑]`) are an open set and stay as they are.
pub const CONTRACT_TOKENS: [&str; 20] = [
    "[手机号]",
    "[座机]",
    "[身份证]",
    "[银行卡]",
    "[邮箱]",
    "[车牌]",
    "[社交号]",
    "[快递单号]",
    "[地址]",
    "[姓名]",
    "[订单号]",
    "[数字]",
    "[金额]",
    "[日期]",
    "[时间]",
    "[链接]",
    "[站点]",
    "[机构]",
    "[商品]",
    "[表情]",
];

/// WeChat's text codes (`/::)`, `/:rose`), without the leading `/:`.
const WECHAT_CODES: &str = concat!(
    // Made of signs: longer ones first.
    r"8-\)|b-\)|,@-d|\|-\)|!!!|&-\(|>-\||p-\(|x-\)|@x|8\*|--b|<w>|<l>|<o>|<&|&>|<@|@>|@\)|@@|#-0|,@[pofx@!]|\?|",
    r":'\(|:'\||:--b|:-\||:-s|:-o|:,@|:[)~b|<$xz@pdo(+qt!l>8*g]|",
    // Made of letters: they end at a word boundary, or a path such as `/:version` would lose its head.
    r"(?:xx|bye|wipe|dig|handclap|pd|beer|basketb|oo|coffee|eat|pig|rose|fade|showlove|heart|break|cake|li|bome|kn|",
    r"footb|ladybug|shit|moon|sun|gift|hug|strong|weak|share|v|jj|bad|lvu|no|ok|love|jump|shake|circle|kotow|turn|skip|oy|",
    r"hiphot|kiss)\b",
);

static EMOTICONS: LazyLock<Regex> = LazyLock::new(|| {
    // JD: `#E-s08`, and the same after a masking of digits, `#E-s[数字x]`. WeChat and QQ: `/:,@P`, `/::)`.
    Regex::new(&format!(r"(?i)#E-[a-z](?:\[数字x*\]|[0-9]{{1,3}}|\b)|/:(?:{WECHAT_CODES})"))
        .expect("a constant pattern")
});

static ENGLISH_EMOTICONS: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"\[([A-Za-z]{2,12})\]").expect("a constant pattern"));

/// English names that WeChat gives its emoticons on a phone set to English.
const ENGLISH: [(&str, &str); 40] = [
    ("smile", "微笑"),
    ("grimace", "撇嘴"),
    ("drool", "色"),
    ("scowl", "发呆"),
    ("coolguy", "得意"),
    ("sob", "流泪"),
    ("shy", "害羞"),
    ("silent", "闭嘴"),
    ("sleep", "睡"),
    ("cry", "大哭"),
    ("awkward", "尴尬"),
    ("angry", "发怒"),
    ("tongue", "调皮"),
    ("grin", "呲牙"),
    ("surprise", "惊讶"),
    ("frown", "难过"),
    ("blush", "囧"),
    ("scream", "抓狂"),
    ("puke", "吐"),
    ("chuckle", "偷笑"),
    ("joyful", "愉快"),
    ("slight", "白眼"),
    ("smug", "傲慢"),
    ("panic", "惊恐"),
    ("laugh", "憨笑"),
    ("scold", "咒骂"),
    ("shocked", "疑问"),
    ("dizzy", "晕"),
    ("toasted", "衰"),
    ("bye", "再见"),
    ("wow", "惊讶"),
    ("facepalm", "捂脸"),
    ("smirk", "奸笑"),
    ("hey", "嘿哈"),
    ("rose", "玫瑰"),
    ("heart", "爱心"),
    ("thumbsup", "强"),
    ("salute", "抱拳"),
    ("ok", "OK"),
    ("fist", "拳头"),
];

/// Words of upstream mask tokens and what they become.
const UPSTREAM: [(&str, &str); 34] = [
    ("地址", "[地址]"),
    ("收货地址", "[地址]"),
    ("姓名", "[姓名]"),
    ("人名", "[姓名]"),
    ("数字", "[数字]"),
    ("金额", "[金额]"),
    ("日期", "[日期]"),
    ("时间", "[时间]"),
    ("链接", "[链接]"),
    ("网址", "[链接]"),
    ("站点", "[站点]"),
    ("组织机构", "[机构]"),
    ("机构", "[机构]"),
    ("商品", "[商品]"),
    ("商品快照", "[商品]"),
    ("订单", "[订单号]"),
    ("订单号", "[订单号]"),
    ("订单编号", "[订单号]"),
    ("orderid", "[订单号]"),
    ("order_id", "[订单号]"),
    ("电话", "[手机号]"),
    ("电话号码", "[手机号]"),
    ("手机", "[手机号]"),
    ("手机号", "[手机号]"),
    ("手机号码", "[手机号]"),
    ("座机", "[座机]"),
    ("身份证号", "[身份证]"),
    ("身份证", "[身份证]"),
    ("银行卡", "[银行卡]"),
    ("银行卡号", "[银行卡]"),
    ("邮箱", "[邮箱]"),
    ("车牌", "[车牌]"),
    ("快递单号", "[快递单号]"),
    ("url", "[链接]"),
];

static UPSTREAM_TOKENS: LazyLock<Regex> = LazyLock::new(|| {
    // The longest word first: an alternation takes the first that fits.
    let mut words: Vec<&str> = UPSTREAM.iter().map(|(word, _)| *word).collect();
    words.sort_by_key(|word| std::cmp::Reverse(word.len()));
    Regex::new(&format!(r"(?i)\[ ?({})(?:_?(?:x{{1,3}}|n|[0-9]{{1,24}}))? ?\]", words.join("|")))
        .expect("a constant pattern")
});

/// Platform codes to `[表情]`, and English WeChat names to the Chinese ones.
pub(super) fn emoticons(text: &str) -> Cow<'_, str> {
    let coded = EMOTICONS.replace_all(text, "[表情]");
    let named = ENGLISH_EMOTICONS.replace_all(&coded, |found: &Captures<'_>| {
        match ENGLISH.iter().find(|(english, _)| english.eq_ignore_ascii_case(&found[1])) {
            // Not "[OK]": that name is the same in both languages, and letters are another step's business.
            Some((_, chinese)) if !chinese.is_ascii() => format!("[{chinese}]"),
            _ => found[0].to_owned(),
        }
    });
    match named {
        Cow::Borrowed(_) => coded,
        Cow::Owned(named) => Cow::Owned(named),
    }
}

/// Mask tokens of upstream data (`[数字x]`, `[ORDERID_10282347]`) to the contract's form (`[数字]`, `[订单号]`).
pub(super) fn upstream_tokens(text: &str) -> Cow<'_, str> {
    UPSTREAM_TOKENS.replace_all(text, |found: &Captures<'_>| {
        UPSTREAM
            .iter()
            .find(|(word, _)| word.eq_ignore_ascii_case(&found[1]))
            .map_or_else(|| found[0].to_owned(), |(_, token)| (*token).to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn emoticon_codes_take_one_form() {
        let table = [
            ("好的#E-s08", "好的[表情]"),
            ("好的#E-s[数字x]#E-s57", "好的[表情][表情]"),
            ("#E-s", "[表情]"),
            ("#E-series", "#E-series"),
            ("/::)谢谢/:,@P", "[表情]谢谢[表情]"),
            ("/:rose/:ROSE", "[表情][表情]"),
            ("/:!!! /:?", "[表情] [表情]"),
            ("/:version", "/:version"),
            ("改国策/:转基因", "改国策/:转基因"),
            ("http://a.b/c", "http://a.b/c"),
            ("[微笑][捂脸]", "[微笑][捂脸]"),
            ("[Facepalm]", "[捂脸]"),
            ("[OK]", "[OK]"),
            ("[abc]", "[abc]"),
        ];
        for (from, to) in table {
            assert_eq!(emoticons(from), to);
            assert_eq!(emoticons(to), to);
        }
    }

    #[test]
    fn upstream_tokens_take_one_form() {
        let table = [
            ("[数字x]-[数字x]天", "[数字]-[数字]天"),
            ("[订单编号:[订单x]，", "[订单编号:[订单号]，"),
            ("[ORDERID_10282347][姓名x]", "[订单号][姓名]"),
            ("[订单编号] [orderid_9]", "[订单号] [订单号]"),
            ("[金额x] [日期x] [地址x] [电话x] [身份证号x]", "[金额] [日期] [地址] [手机号] [身份证]"),
            ("[组织机构x]", "[机构]"),
            ("[数字", "[数字"),
            ("[微笑] [数字游戏]", "[微笑] [数字游戏]"),
        ];
        for (from, to) in table {
            assert_eq!(upstream_tokens(from), to);
            assert_eq!(upstream_tokens(to), to);
        }
    }

    #[test]
    fn tokens_map_to_contract_tokens_that_map_to_themselves() {
        for (_, token) in UPSTREAM {
            assert!(CONTRACT_TOKENS.contains(&token), "{token}");
            assert_eq!(upstream_tokens(token), token);
        }
    }
}
