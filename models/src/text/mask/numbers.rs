//! Personal data made of digits and letters.

use std::ops::Range;
use std::sync::LazyLock;

use regex::Regex;

use super::view::View;
use super::{Found, PersonalData};

/// Adds what this module finds.
pub(super) fn find(view: &View, found: &mut Vec<Found>) {
    let runs = digit_runs(view.bytes());
    for at in 0..runs.len() {
        // Letters on both sides: a piece of a hash or a session key.
        let inside_code = runs.get(at).is_some_and(|run| {
            view.byte_before(run.start).is_ascii_lowercase() && view.byte(run.end).is_ascii_lowercase()
        });
        if inside_code
            && runs
                .get(at)
                .is_some_and(|run| view.byte(run.end) != b'x' || view.byte(run.end + 1).is_ascii_alphanumeric())
        {
            continue;
        }
        let candidates = [
            (identity_card(view, &runs, at), PersonalData::IdentityCard),
            (bank_card(view, &runs, at), PersonalData::BankCard),
            (mobile(view, &runs, at), PersonalData::Mobile),
            (landline(view, &runs, at), PersonalData::Landline),
        ];
        found.extend(candidates.into_iter().filter_map(|(span, kind)| span.map(|span| (span, kind))));
    }
    emails(view, found);
    plates(view, found);
    parcels(view, found);
    accounts(view, found);
}

/// Maximal runs of ASCII digits: a number found in them is bounded by what is no digit.
fn digit_runs(bytes: &[u8]) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    for (at, byte) in bytes.iter().enumerate() {
        if byte.is_ascii_digit() {
            match runs.last_mut() {
                Some(run) if run.end == at => run.end = at + 1,
                _ => runs.push(at..at + 1),
            }
        }
    }
    runs
}

/// Whether the runs `at` and `at + 1` are parts of one number: one blank or hyphen between them.
fn joined(view: &View, runs: &[Range<usize>], at: usize) -> bool {
    match (runs.get(at), runs.get(at + 1)) {
        (Some(one), Some(two)) => two.start == one.end + 1 && matches!(view.byte(one.end), b' ' | b'-'),
        _ => false,
    }
}

/// The values of `count` joined runs from `at` on, and their span.
fn digits(view: &View, runs: &[Range<usize>], at: usize, count: usize) -> Option<(Vec<u8>, Range<usize>)> {
    if (at..at + count - 1).any(|run| !joined(view, runs, run)) {
        return None;
    }
    let span = runs.get(at)?.start..runs.get(at + count - 1)?.end;
    let values = view.bytes().get(span.clone())?.iter().filter(|b| b.is_ascii_digit()).map(|b| b - b'0').collect();
    Some((values, span))
}

/// Whether a word before `at` says that the number is one of an order, an article or a parcel.
fn is_order_number(view: &View, at: usize) -> bool {
    const CUES: [&str; 23] = [
        "订单",
        "订单号",
        "单号",
        "编号",
        "订单id",
        "orderid",
        "order",
        "orderno",
        "流水号",
        "工单",
        "运单",
        "货号",
        "型号",
        "款号",
        "sku",
        "商品id",
        "条码",
        "序列号",
        "sn",
        "快递号",
        "物流号",
        "单号码",
        "交易号",
    ];
    let before = view.before(at);
    let before = before.trim_end_matches([' ', ':', '#', '=', '_', '-', '.', '(', '[', '"', '是', '为']);
    CUES.iter().any(|cue| before.ends_with(cue))
}

/// Identity card: GB 11643-1999, and the 15 digits of GB 11643-1989.
fn identity_card(view: &View, runs: &[Range<usize>], at: usize) -> Option<Range<usize>> {
    // In one piece or as people group it: 6-8-4, 6-4-4-4.
    for count in 1..=4 {
        let Some((values, span)) = digits(view, runs, at, count) else { break };
        match values.len() {
            17 if view.byte(span.end) == b'x' && !view.byte(span.end + 1).is_ascii_alphanumeric() => {
                return is_identity_number(&values, 10).then_some(span.start..span.end + 1);
            }
            18 => return is_identity_number(values.get(..17)?, *values.get(17)?).then_some(span),
            15 if count == 1 => {
                let dated = is_province(&values) && is_date(1900 + number(values.get(6..8)?), values.get(8..12)?);
                return (dated && !is_order_number(view, span.start)).then_some(span);
            }
            19.. => return None,
            _ => {}
        }
    }
    None
}

/// Province, date of birth, and the check character of ISO 7064 MOD 11-2.
fn is_identity_number(values: &[u8], check: u8) -> bool {
    const WEIGHTS: [usize; 17] = [7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2];
    let (Some(year), Some(month_and_day)) = (values.get(6..10), values.get(10..14)) else { return false };
    let sum: usize = values.iter().zip(WEIGHTS).map(|(value, weight)| usize::from(*value) * weight).sum();
    values.len() == 17
        && is_province(values)
        && (1900..2100).contains(&number(year))
        && is_date(number(year), month_and_day)
        && (12 - sum % 11) % 11 == usize::from(check)
}

/// The province codes of GB/T 2260, and those of residence permits.
fn is_province(values: &[u8]) -> bool {
    matches!(values, [a, b, ..] if matches!(a * 10 + b, 11..=15 | 21..=23 | 31..=37 | 41..=46 | 50..=54 | 61..=65 | 71 | 81..=83 | 91))
}

fn number(values: &[u8]) -> u32 {
    values.iter().fold(0, |sum, value| sum * 10 + u32::from(*value))
}

fn is_date(year: u32, month_and_day: &[u8]) -> bool {
    let (month, day) = (number(month_and_day) / 100, number(month_and_day) % 100);
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let days = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        _ => 0,
    };
    (1..=days).contains(&day)
}

/// Bank card (ISO/IEC 7812-1): in one piece, or in groups of four of which the last may be shorter.
fn bank_card(view: &View, runs: &[Range<usize>], at: usize) -> Option<Range<usize>> {
    let first = runs.get(at)?;
    let count = match first.len() {
        16..=19 => 1,
        4 if at == 0 || !joined(view, runs, at - 1) => {
            let mut count = 1;
            while count < 5 && joined(view, runs, at + count - 1) && runs.get(at + count - 1)?.len() == 4 {
                count += 1;
            }
            // 4-4-4-4 with something else behind a blank is 16 digits.
            if count == 5 && runs.get(at + 4)?.len() > 3 { 4 } else { count }
        }
        _ => return None,
    };
    let (values, span) = digits(view, runs, at, count)?;
    let known = (16..=19).contains(&values.len()) && matches!(values.first(), Some(3..=6));
    if known && luhn(&values) && !is_order_number(view, span.start) {
        return Some(span);
    }
    // "6222 0200 1234 5678 12": is the tail a part of the number or a quantity? The check digit tells.
    let (values, span) = digits(view, runs, at, 4).filter(|_| count == 5)?;
    (values.len() == 16 && matches!(values.first(), Some(3..=6)) && luhn(&values) && !is_order_number(view, span.start))
        .then_some(span)
}

/// The check digit of ISO/IEC 7812-1, annex B.
fn luhn(values: &[u8]) -> bool {
    let sum: u32 = values
        .iter()
        .rev()
        .enumerate()
        .map(|(place, value)| {
            let value = u32::from(*value) << (place % 2);
            if value > 9 { value - 9 } else { value }
        })
        .sum();
    sum.is_multiple_of(10)
}

/// Mobile number: 3-4-4 with or without separators, country code before it.
fn mobile(view: &View, runs: &[Range<usize>], at: usize) -> Option<Range<usize>> {
    // "1 380 013 8000" is no way to write one: the first run holds 3, 7 or 11 digits besides the country code.
    for count in 1..=3 {
        let Some((values, span)) = digits(view, runs, at, count) else { break };
        let country = match values.as_slice() {
            [0, 0, 8, 6, ..] => 4,
            [8, 6, ..] => 2,
            _ => 0,
        };
        let [1, 3..=9, ..] = values.get(country..)? else { return None };
        if values.len() > country + 11 {
            return None;
        }
        let ends: Vec<usize> = runs
            .get(at..at + count)?
            .iter()
            .scan(0, |sum, run| {
                *sum += run.len();
                Some(*sum - country.min(*sum))
            })
            .collect();
        if values.len() < country + 11 || !ends.iter().all(|end| matches!(end, 3 | 7 | 11)) {
            continue;
        }
        let mut start = span.start;
        if country == 0 {
            // "+86 138...", "(+86)138...", "0086-138..."
            let before = view.before(start);
            start = ["(+86)", "(0086)", "(86)", "+86", "0086", "86"]
                .iter()
                .filter_map(|code| before.strip_suffix([' ', '-']).unwrap_or(before).strip_suffix(code))
                .find(|rest| !rest.ends_with(|c: char| c.is_ascii_digit()))
                .map_or(start, str::len);
        }
        if view.byte_before(start) == b'+' {
            start -= 1;
        }
        let decimal = view.byte_before(start) == b'.' && start >= 2 && view.byte(start - 2).is_ascii_digit();
        let page = view.after(span.end).starts_with(".htm");
        return (!decimal && !page && !is_order_number(view, start)).then_some(start..span.end);
    }
    None
}

/// Landline number: area code, then 7 or 8 digits, then maybe an extension.
fn landline(view: &View, runs: &[Range<usize>], at: usize) -> Option<Range<usize>> {
    let code = runs.get(at)?;
    let text = view.bytes().get(code.clone())?;
    let mut start = code.start;
    // Abroad style drops the zero: +86-10-12345678.
    let national = match text {
        [b'0', rest @ ..] => rest,
        _ => {
            let before = view.before(start).strip_suffix(['-', ' '])?;
            let rest = before.strip_suffix("+86").or_else(|| before.strip_suffix("0086"))?;
            start = rest.len();
            text
        }
    };
    let digits_after = match national {
        [b'1', b'0'] | [b'2', _] => 8..=8,
        [b'3'..=b'9', _, _] => 7..=8,
        _ => return None,
    };
    let mut next = code.end;
    if view.byte(next) == b')' && view.byte_before(start) == b'(' {
        start -= 1;
        next += 1;
        if matches!(view.byte(next), b' ' | b'-') {
            next += 1;
        }
    } else if matches!(view.byte(next), b' ' | b'-') {
        next += 1;
    } else {
        return None;
    }
    if view.byte_before(start) == b'-'
        && start >= 2
        && view.byte(start - 2).is_ascii_digit()
        && !view.before(start - 1).ends_with("86")
    {
        return None;
    }
    let first = runs.get(at + 1).filter(|run| run.start == next)?;
    let mut last = at + 1;
    let mut length = first.len();
    // 6888-1234
    if matches!(length, 3 | 4) && joined(view, runs, last) && runs.get(last + 1)?.len() == 4 {
        last += 1;
        length += 4;
    }
    if !digits_after.contains(&length) || !matches!(view.byte(first.start), b'2'..=b'8') || is_order_number(view, start)
    {
        return None;
    }
    let mut end = runs.get(last)?.end;
    let extension = ["转分机", "分机号", "分机", "转", "-"]
        .iter()
        .find(|word| view.after(end).starts_with(**word))
        .map_or(0, |word| word.len());
    if extension > 0
        && let Some(run) = runs.get(last + 1)
        && run.start == end + extension
        && run.len() <= 6
    {
        end = run.end;
    }
    Some(start..end)
}

fn emails(view: &View, found: &mut Vec<Found>) {
    let bytes = view.bytes();
    for at in bytes.iter().enumerate().filter(|(_, byte)| **byte == b'@').map(|(at, _)| at) {
        let is_local = |b: &u8| b.is_ascii_alphanumeric() || b"._%+-".contains(b);
        let is_domain = |b: &u8| b.is_ascii_alphanumeric() || b".-".contains(b);
        let local = bytes.get(..at).unwrap_or_default().iter().rev().take(64).take_while(|b| is_local(b)).count();
        let mut start = at - local;
        while start < at && !view.byte(start).is_ascii_alphanumeric() {
            start += 1;
        }
        let mut end =
            at + 1 + bytes.get(at + 1..).unwrap_or_default().iter().take(253).take_while(|b| is_domain(b)).count();
        // Back to the last label that can be a top-level domain.
        while end > at + 1 {
            let domain = view.text.get(at + 1..end).unwrap_or_default();
            let top = domain.rsplit('.').next().unwrap_or_default();
            let well_formed = !domain.starts_with(['.', '-']) && !domain.contains("..");
            if well_formed
                && top.len() < domain.len()
                && (2..=24).contains(&top.len())
                && top.bytes().all(|b| b.is_ascii_alphabetic())
            {
                break;
            }
            end -= (top.len() + 1).min(end - at - 1);
        }
        // `logo@2x.png` is a picture.
        let domain = view.text.get(at + 1..end).unwrap_or_default();
        let picture = [".png", ".jpg", ".jpeg", ".gif", ".webp"].iter().any(|ending| domain.ends_with(ending));
        if start < at && end > at + 1 && !picture {
            found.push((start..end, PersonalData::Email));
        }
    }
}

fn plates(view: &View, found: &mut Vec<Found>) {
    static PLATE: LazyLock<Regex> = LazyLock::new(|| {
        // GA 36-2018: five characters without I and O; new energy: six, D or F (or another of the list) first or last.
        Regex::new(concat!(
            "[京津沪渝冀豫云辽黑湘皖鲁新苏浙赣鄂桂甘晋蒙陕吉闽贵粤青藏川宁琼][a-hj-z][· .-]?",
            "(?:[0-9]{5}[abcdefghjk]|[abcdefghjk][0-9a-hj-np-z][0-9]{4}|[0-9a-hj-np-z]{4}[0-9a-hj-np-z挂学警港澳])",
        ))
        .expect("a constant pattern")
    });
    for plate in PLATE.find_iter(&view.text) {
        let digits = plate.as_str().bytes().filter(u8::is_ascii_digit).count();
        let a_new_one = plate.as_str().starts_with('新')
            && view.before(plate.start()).ends_with(['全', '最', '更', '崭', '重', '刷']);
        if digits >= 3 && !a_new_one && !view.byte(plate.end()).is_ascii_alphanumeric() {
            found.push((plate.range(), PersonalData::NumberPlate));
        }
    }
}

fn parcels(view: &View, found: &mut Vec<Found>) {
    static PREFIXED: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(concat!(
            r"(?:(?:sf|yt|yd|zto|zt|sto|st|jt|dpk|dp|db|ems|lp|htky|ht|best|uc|ky|zjs|tt)[ -]?[0-9]{12,18}",
            r"|jd[a-z]{0,3}[0-9]{10,18}(?:-[0-9]{1,3}-[0-9]{1,3}-?)?",
            // UPU standard S10
            r"|[a-z]{2}[0-9]{9}cn)",
        ))
        .expect("a constant pattern")
    });
    static ANNOUNCED: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(concat!(
            r"(?:快递单号|运单号|物流单号|快递号|物流号|运单编号|快递编号|物流编号|包裹号|包裹单号|面单号|运单|快递单|物流单)",
            r"(?:号码|码|号)?[ :#=]{0,3}(?:是|为)?[ :#=]{0,3}([a-z]{0,5}[0-9]{12,15})",
        ))
        .expect("a constant pattern")
    });
    let whole = |span: &Range<usize>| {
        !view.byte_before(span.start).is_ascii_alphanumeric() && !view.byte(span.end).is_ascii_alphanumeric()
    };
    for parcel in PREFIXED.find_iter(&view.text) {
        let before = view.before(parcel.start()).trim_end_matches([' ', ':', '#', '是', '为']);
        let of_order = ["订单", "订单号", "订单编号", "orderid"].iter().any(|cue| before.ends_with(cue));
        if whole(&parcel.range()) && !of_order {
            found.push((parcel.range(), PersonalData::ParcelNumber));
        }
    }
    for parcel in ANNOUNCED.captures_iter(&view.text).filter_map(|captures| captures.get(1)) {
        if whole(&parcel.range()) {
            found.push((parcel.range(), PersonalData::ParcelNumber));
        }
    }
}

fn accounts(view: &View, found: &mut Vec<Found>) {
    static CUE: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(concat!(
            // WeChat's internal account names say themselves what they are.
            r"(?P<wxid>wxid_[a-z0-9_-]{6,24})|",
            r"(?P<cue>微信|威信|薇信|v信|vx|wx|wechat|weixin|扣扣|企鹅|qq|加我|加v|\+v)",
            r"(?P<firm>(?:号码|帐号|账号|号|id)?(?:我的)?(?:是|为)?[ :=#(]{0,3}(?:是|为)?[ :=]{0,2})",
            r"(?P<id>[a-z][a-z0-9_-]{5,}|[0-9]{5,})",
        ))
        .expect("a constant pattern")
    });
    const SERVICES: [&str; 14] = [
        "iphone", "ipad", "android", "windows", "version", "wechat", "weixin", "alipay", "huawei", "xiaomi", "harmony",
        "taobao", "login", "music",
    ];
    for account in CUE.captures_iter(&view.text) {
        if let Some(wxid) = account.name("wxid") {
            found.push((wxid.range(), PersonalData::SocialAccount));
            continue;
        }
        let (Some(cue), Some(firm), Some(id)) = (account.name("cue"), account.name("firm"), account.name("id")) else {
            continue;
        };
        // "wx" inside a word or an address is no cue.
        let attached = view.byte_before(cue.start());
        if cue.as_str().is_ascii()
            && (attached.is_ascii_alphanumeric() || matches!(attached, b'@' | b'.' | b'/' | b'_'))
        {
            continue;
        }
        if view.byte(id.end()).is_ascii_alphanumeric() || matches!(view.byte(id.end()), b'@' | b'/') {
            continue;
        }
        let word = id.as_str().trim_end_matches('-');
        let firm = firm.as_str().trim();
        let (shortest, longest) = if word.starts_with(|c: char| c.is_ascii_digit()) {
            // Five-digit numbers are QQ's oldest and every service line's (10086, 95588).
            let service = word.len() == 5 && ["10", "12", "95", "96"].iter().any(|line| word.starts_with(line));
            let quantity = view
                .after(id.end())
                .trim_start()
                .starts_with(['元', '块', '个', '条', '人', '次', '年', '月', '日', '分', '积', '多', '万', '%']);
            if service || (quantity && firm.is_empty()) || is_order_number(view, id.start()) {
                continue;
            }
            (if firm.is_empty() { 6 } else { 5 }, 12)
        } else {
            let known = SERVICES.iter().any(|service| word.starts_with(service));
            let looks_made_up = word.contains(|c: char| c.is_ascii_digit() || c == '_');
            if known || (firm.is_empty() && !looks_made_up) {
                continue;
            }
            (6, 20)
        };
        if (shortest..=longest).contains(&word.len()) {
            found.push((id.start()..id.start() + word.len(), PersonalData::SocialAccount));
        }
    }
}
