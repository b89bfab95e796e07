//! Names of persons, after a word that announces one.

use std::sync::LazyLock;

use regex::Regex;

use super::view::View;
use super::{Found, PersonalData};
use crate::text::han::is_han;

/// The 200 or so most frequent surnames of one character, less those that more often begin a word in a customer's sentence.
const SURNAMES: &str = concat!(
    "王李张刘陈杨黄赵吴周徐孙马朱胡郭何林罗高郑梁谢宋唐许邓韩冯曹彭曾肖田董潘袁蔡蒋余于杜叶程魏苏吕丁任卢姚沈钟姜崔谭陆范汪廖石金韦贾夏付方邹熊白孟秦邱侯江尹薛闫雷龙",
    "黎史陶贺毛郝顾龚邵万覃武钱戴严莫孔向常汤康易乔赖文施洪季殷庄章鲁倪庞邢俞翟蓝聂齐葛柴伍覃骆关焦柳欧祝纪尚毕耿芦左季管符辛苗詹曲欧靳祁路涂兰甘裴梅童翁霍游阮尤岳柯牛",
    "滕谷舒卜丛饶宁凌盛查单冉鲍华包屈房喻解蒲卫简时连车项闵邬吉党阳司费蒙席晏隋古强穆姬申冼粱肖萧闻褚臧佟娄窦宫苟迟艾景仇麦巫冷应池桂占辜刁楚鞠宗虞柏瞿戚盖桑沙荆荀茅储"
);

const COMPOUND: [&str; 24] = [
    "欧阳", "上官", "司马", "诸葛", "东方", "皇甫", "尉迟", "公孙", "令狐", "慕容", "司徒", "夏侯", "端木", "南宫",
    "独孤", "轩辕", "宇文", "长孙", "澹台", "呼延", "闻人", "百里", "司空", "东郭",
];

/// Words that begin like a name.
const NOT_NAMES: [&str; 86] = [
    "方便", "方式", "方面", "时间", "时候", "高兴", "应该", "任何", "任意", "何时", "何必", "安排", "关于", "关系",
    "关闭", "马上", "成功", "曾经", "包裹", "包括", "包装", "金额", "金牌", "许多", "万一", "左右", "左边", "单位",
    "单号", "单独", "经常", "连接", "连续", "于是", "余额", "常用", "常常", "管理", "项目", "向你", "向您", "向客",
    "卫生", "平台", "文字", "文件", "路上", "路线", "查询", "查看", "查不", "查一", "解决", "解释", "解绑", "解除",
    "强制", "高级", "简称", "简单", "车主", "车子", "车辆", "车牌", "申请", "申诉", "申通", "申报", "白天", "白色",
    "明天", "房东", "房间", "房子", "游戏", "夏天", "司机", "黄色", "黄牛", "童装", "甘肃", "江苏", "路人", "程序",
    "盖章", "应当",
];

/// What follows a name in a sentence and is in none: a name ends before it.
const FOLLOWERS: &str = "电我你您他她它的是在想要吗呢啊吧了也都不没怎哪什这那跟与请麻寄送退换买把给被住填收写错改";

/// The same for words whose characters do occur in names.
const FOLLOWING_WORDS: [&str; 16] = [
    "手机", "地址", "信息", "联系", "先生", "女士", "小姐", "号码", "订单", "今天", "昨天", "已经", "可以", "和他",
    "和我", "以及",
];

/// Adds the names that the text announces.
pub(super) fn find(view: &View, found: &mut Vec<Found>) {
    static CUE: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(concat!(
            r"(?:我叫|我的名字|我名字|姓名|收件人|收货人|联系人|寄件人|签收人)",
            r"(?:姓名|名字)?[ \n:,=()]{0,3}(?:改成|改为|换成|叫做|叫|是|为|写)?[ \n:,=]{0,3}",
        ))
        .expect("a constant pattern")
    });
    for cue in CUE.find_iter(&view.text) {
        if let Some(length) = name(view.after(cue.end())) {
            found.push((cue.end()..cue.end() + length, PersonalData::Name));
        }
    }
}

/// The length in bytes of the name with which `text` begins.
fn name(text: &str) -> Option<usize> {
    if let Some(length) = dotted(text) {
        return Some(length);
    }
    let run: Vec<char> = text.chars().take(12).take_while(|c| is_han(*c)).collect();
    let surname = if COMPOUND.iter().any(|compound| text.starts_with(compound)) {
        2
    } else if run.first().is_some_and(|c| SURNAMES.contains(*c)) && !NOT_NAMES.iter().any(|word| text.starts_with(word))
    {
        1
    } else {
        return None;
    };
    // One or two given characters, ended by what is no Han character or by a word that follows names.
    let given = run.get(surname..)?;
    let title = ["先生", "女士", "小姐"].iter().any(|title| given.iter().take(2).copied().eq(title.chars()));
    let ended = |at: usize| {
        let rest = given.get(at..).unwrap_or_default();
        let word: String = rest.iter().take(2).collect();
        rest.first().is_none_or(|c| FOLLOWERS.contains(*c)) || FOLLOWING_WORDS.contains(&word.as_str())
    };
    let given = match (title, ended(0), ended(1)) {
        (true, ..) => 2,
        (_, true, _) => return None,
        (_, _, true) => 1,
        _ => 2,
    };
    Some(run.get(..surname + given)?.iter().map(|c| c.len_utf8()).sum())
}

/// Names of the form 买买提·艾力.
fn dotted(text: &str) -> Option<usize> {
    static DOTTED: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"^\p{Han}{1,8}(?:·\p{Han}{1,8}){1,3}").expect("a constant pattern"));
    // A window keeps the search short, whatever follows.
    let end = text.char_indices().nth(40).map_or(text.len(), |(at, _)| at);
    DOTTED.find(text.get(..end)?).map(|name| name.end())
}
