//! Postal addresses.
//!
//! Characters are first put into classes, one ASCII letter each ("省" is P, "路" is R, digits are 0), and a small pattern
//! then reads the classes. That keeps the automaton small and the search linear, however the text is made.

use std::collections::HashMap;
use std::sync::LazyLock;

use regex::bytes::Regex;

use super::view::View;
use super::{Found, PersonalData};
use crate::text::han::is_han;

/// Words of several characters with a class of their own, longest first; each character gets the class.
const WORDS: [(&str, u8); 56] = [
    ("特别行政区", b'P'),
    ("自治区", b'P'),
    ("自治州", b'C'),
    ("自治县", b'D'),
    ("写字楼", b'G'),
    ("工业园", b'G'),
    ("科技园", b'G'),
    ("产业园", b'G'),
    ("工业区", b'G'),
    ("开发区", b'D'),
    ("居委会", b'G'),
    ("村委会", b'G'),
    ("街道", b'T'),
    ("大道", b'R'),
    ("大街", b'R'),
    ("胡同", b'R'),
    ("公路", b'R'),
    ("号楼", b'B'),
    ("号院", b'N'),
    ("单元", b'U'),
    ("小区", b'G'),
    ("花园", b'G'),
    ("公寓", b'G'),
    ("新村", b'G'),
    ("家园", b'G'),
    ("社区", b'G'),
    ("广场", b'G'),
    ("大厦", b'G'),
    ("山庄", b'G'),
    ("庄园", b'G'),
    ("华庭", b'G'),
    ("豪庭", b'G'),
    ("华府", b'G'),
    ("名苑", b'G'),
    ("雅苑", b'G'),
    ("嘉苑", b'G'),
    ("宿舍", b'G'),
    ("大楼", b'G'),
    ("别墅", b'G'),
    ("学院", b'G'),
    ("大学", b'G'),
    // Words that hold a character of an address and are none.
    ("超市", b'x'),
    ("上市", b'x'),
    ("股市", b'x'),
    ("节省", b'x'),
    ("走路", b'x'),
    ("网路", b'x'),
    ("线路", b'x'),
    ("思路", b'x'),
    ("电路", b'x'),
    ("迷路", b'x'),
    ("顺路", b'x'),
    ("农村", b'x'),
    ("地区", b'C'),
    ("专区", b'x'),
    ("逛街", b'x'),
];

/// [`WORDS`] by their first characters, in the same order.
static WORDS_BY_HEAD: LazyLock<HashMap<char, Vec<(&str, u8)>>> = LazyLock::new(|| {
    let mut by_head: HashMap<char, Vec<(&str, u8)>> = HashMap::new();
    for (word, class) in WORDS {
        if let Some(head) = word.chars().next() {
            by_head.entry(head).or_default().push((word, class));
        }
    }
    by_head
});

/// Characters that stand around addresses in a sentence and hardly in one.
const AROUND: &str = "到在是给我你您他她它们的住寄送把了请帮改换址为货这那哪本该个吗呢啊吧嘛想没有叫麻烦发";

const PROVINCES: [&str; 34] = [
    "北京",
    "天津",
    "上海",
    "重庆",
    "河北",
    "山西",
    "辽宁",
    "吉林",
    "黑龙江",
    "江苏",
    "浙江",
    "安徽",
    "福建",
    "江西",
    "山东",
    "河南",
    "湖北",
    "湖南",
    "广东",
    "海南",
    "四川",
    "贵州",
    "云南",
    "陕西",
    "甘肃",
    "青海",
    "台湾",
    "内蒙古",
    "广西",
    "西藏",
    "宁夏",
    "新疆",
    "香港",
    "澳门",
];

static ADDRESS: LazyLock<Regex> = LazyLock::new(|| {
    // h: Han character, n: Chinese numeral, 0: digit of a short run, a: letter. Names of places hold characters with a
    // class of their own (厦门市, 鼓楼区, 镇江市, 市中区, 花园路).
    let (city, district, town) = ("[hnFOBSVGTR]{1,7}C+ ?", "[hnFOBSVGTRC]{1,8}D+ ?", "[hnFOBSVGR]{1,7}T+ ?");
    let admin = format!("(?:[hn]{{2,7}}P+ ?)?(?:{city})?(?:{district})?(?:{town})?");
    let some_admin = format!("(?:[hn]{{2,7}}P+ ?|{city}|{district})(?:{city})?(?:{district})?(?:{town})?");
    let road = "[hnFOSVGCDT]{1,8}(?:0{1,3})?R+(?:(?:n{1,2}|0{1,2}|h)E)?";
    let numeral = "(?:a?0{1,5}a?|n{1,4}|a)(?:-a?0{1,4}){0,3}";
    // 栋 单元 室 楼 号 in a chain; after the first a bare flat number may stand.
    let unit = format!("{numeral}[NBUSFO]+");
    let units = format!("(?:[ -]?{unit}){{1,6}}(?:(?:-0{{1,4}}){{1,3}}|[ -]?0{{3,4}}[NSO]?)?");
    let house = format!("{numeral}N(?:-0{{1,4}})?");
    let estate = "[hna]{2,10}G+";
    // Road and house number, with what stands before and after.
    let by_road = format!(
        "{admin}(?:[hn]{{1,8}}G+ ?)?{road} ?(?:{numeral}R+ ?)?{house}(?: ?(?:{estate} ?)?{units}| ?{estate}){{0,3}}"
    );

    // Estate and the number of a building or a flat.
    let by_estate = format!("{admin}(?:{road} ?)?{estate} ?{units}");
    // A village: number or group.
    let by_village = format!("{admin}[hn]{{1,6}}V ?(?:[hn]{{1,4}}V ?)?{units}");
    // A district, some place, and two numbers: 南山区科兴A座1501室.
    let by_district = format!("{some_admin}(?:[hnaRGV]{{1,14}}) ?{unit}[ -]?(?:{unit}|0{{3,4}})(?:[ -]?{unit}){{0,4}}");
    // City, district, and town or village: small enough to find a family.
    let by_town =
        format!("(?:(?:[hn]{{2,7}}P+ ?)?{city}{district}|[hn]{{2,7}}P+ ?{district}){town}(?:[hn]{{1,6}}[GV]+)?");
    Regex::new(&format!("(?-u)(?:{by_road}|{by_estate}|{by_village}|{by_district}|{by_town})"))
        .expect("a constant pattern")
});

/// Adds the addresses of the text.
pub(super) fn find(view: &View, found: &mut Vec<Found>) {
    let (classes, starts) = classify(&view.text);
    let place = |at: usize| starts.get(at).copied().unwrap_or(view.text.len());
    for address in ADDRESS.find_iter(&classes) {
        let (mut start, mut end) = (place(address.start()), place(address.end()));
        let text = view.text.get(start..end).unwrap_or_default();
        // The pattern may have swallowed words before a province: "麻烦尽快" + "广东省...".
        let head_end = text.find(['省', '市', '区', '县', '路', '街', '镇', '乡']).unwrap_or(0);
        let head = text.get(..head_end).unwrap_or_default();
        if let Some(at) = PROVINCES.iter().filter_map(|province| head.find(province)).min() {
            start += at;
        }
        // "科技路2号线" is a metro line, "2号店" a shop.
        if view.text.get(..end).is_some_and(|text| text.ends_with('号'))
            && view.after(end).starts_with(['线', '店', '仓', '码', '机', '链'])
        {
            continue;
        }
        while view.text.get(start..end).is_some_and(|text| text.ends_with(' ')) {
            end -= 1;
        }
        found.push((start..end, PersonalData::Address));
    }
}

/// One class for each character, and where each character starts.
fn classify(text: &str) -> (Vec<u8>, Vec<usize>) {
    let mut classes = Vec::with_capacity(text.len() / 2);
    let mut starts = Vec::with_capacity(text.len() / 2);
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let at = text.len() - rest.len();
        let word = WORDS_BY_HEAD.get(&c).and_then(|words| words.iter().find(|(word, _)| rest.starts_with(word)));
        let (length, class) = match word {
            Some((word, class)) => (word.len(), *class),
            None if c.is_ascii_digit() => {
                // A long run is a phone or an order number, not a house number.
                let length = rest.bytes().take_while(u8::is_ascii_digit).count();
                (length, if length > 5 { b'L' } else { b'0' })
            }
            None => (c.len_utf8(), class_of(c)),
        };
        let (piece, after) = rest.split_at(length);
        for (offset, _) in piece.char_indices() {
            classes.push(class);
            starts.push(at + offset);
        }
        rest = after;
    }
    (classes, starts)
}

fn class_of(c: char) -> u8 {
    match c {
        'a'..='z' => b'a',
        ' ' => b' ',
        '-' | '#' => b'-',
        '省' => b'P',
        '市' | '盟' => b'C',
        '区' | '县' | '旗' => b'D',
        '镇' | '乡' => b'T',
        '路' | '街' | '巷' | '弄' => b'R',
        '段' => b'E',
        '号' => b'N',
        '栋' | '幢' | '座' => b'B',
        '室' | '户' => b'S',
        '楼' | '层' => b'F',
        '院' | '门' | '组' | '队' => b'O',
        '村' | '屯' | '寨' => b'V',
        '苑' | '庄' => b'G',
        '一' | '二' | '三' | '四' | '五' | '六' | '七' | '八' | '九' | '十' | '百' | '零' | '〇' => b'n',
        _ if AROUND.contains(c) => b'x',
        _ if is_han(c) => b'h',
        _ => b'.',
    }
}
