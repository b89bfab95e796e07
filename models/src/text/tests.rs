use super::*;

const NASTY: [&str; 44] = [
    "",
    " ",
    "\0",
    "我叫张三，电话１３８ ００１３ ８０００，住广东省深圳市南山区科技路12号",
    "138&#48;0138000",
    "138<b>0013</b>8000",
    "138\u{2066}0013\u{2069}8000",
    "①③⑧⓪⓪①③⑧⓪⓪⓪",
    "&amp;amp;amp;nbsp;&lt;br&gt;",
    "&amp;lt;b&amp;gt;",
    "＆lt；br＆gt；",
    "<b<b<b<br>r>r>r>",
    "<br <br <br",
    ">>>><<<<",
    "&&&&;;;;",
    "&semi;&lt&semi;",
    "[[[[数字x]]]]",
    "[订单编号:[订单x]，",
    "[[ORDERID_1]x]",
    "[数字[数字x]x]",
    "#E-s[数字x]#E-s08#E-#E-s",
    "#E-s[数字[数字x]x]",
    "/:/:/::):)/:,@P",
    "/:/:rose",
    "[Face[Facepalm]palm]",
    "[OK][Ok][ok]",
    "蕭乾乾乾乾乾隆",
    "張法乾 朝乾夕惕",
    "！！！！。。。。……",
    "哈哈哈哈\u{200B}哈哈",
    "👨‍👩‍👧‍👦👍🏽🏽🏽1️⃣🇨🇳",
    "e\u{301}\u{301}\u{301}\u{301}\u{301}",
    "ﷺﷺﷺ",
    "한국어 \u{3164}\u{3164} ｶﾞｶﾞ",
    "*** ****** *",
    "收件人收件人收件人张三张三张三",
    "收件人：[姓名][手机号][地址]3栋501室",
    "我叫我叫我叫王五",
    "13800138000138001380001380013800013800138000",
    "+86+86+86 138 0013 8000 0013 8000",
    "a@b@c@qq.com@qq.com",
    "微信微信号微信abc123456@qq.com",
    "京A12345京A12345D沪B·99999",
    "快递单号快递单号SF1234567890123运单号123456789012",
];

#[test]
fn mask_and_model_text_are_idempotent() {
    let contract = TextContract::default();
    for text in NASTY {
        let once = contract.model_text(text);
        assert_eq!(contract.model_text(&once), once, "model_text of {text:?}");
        let (masked, _) = contract.mask(text);
        assert_eq!(contract.mask(&masked), (masked.clone(), MaskCounts::default()), "mask of {text:?}");
        let cleaned = clean(text, &contract.clean);
        assert_eq!(clean(&cleaned, &contract.clean), cleaned, "clean of {text:?}");
    }
}

/// Random joins of pieces that mean something to one step or another, from a small generator of our own.
#[test]
fn idempotent_on_random_joins() {
    const PIECES: [&str; 72] = [
        "138",
        "0013",
        "8000",
        "13800138000",
        "+86",
        "0755",
        "26881234",
        " ",
        "-",
        "—",
        "（",
        "）",
        ":",
        "：",
        "&",
        "amp;",
        "lt;",
        "&#49;",
        "&nbsp;",
        ";",
        "；",
        "<",
        ">",
        "br",
        "b",
        "/",
        "＜br＞",
        "[",
        "]",
        "x",
        "数字",
        "ORDERID_",
        "姓名",
        "张",
        "三",
        "丰",
        "欧阳",
        "我叫",
        "收件人",
        "订单号",
        "广东省",
        "深圳市",
        "南山区",
        "科技路",
        "12",
        "号",
        "栋",
        "5",
        "单元",
        "室",
        "小区",
        "村",
        "阳光",
        "微信",
        "QQ",
        "abc",
        "_1",
        "@",
        "qq.com",
        "京",
        "A1",
        "2345",
        "SF",
        "#E-s",
        "/:",
        "rose",
        "\u{200B}",
        "\u{FE0F}",
        "乾",
        "隆",
        "哈",
        "！",
    ];
    let contract = TextContract::default();
    let mut state = 0x2545_F491_4F6C_DD1D_u64;
    let mut next = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % below as u64).expect("below a usize")
    };
    for _ in 0..4_000 {
        let text: String = (0..1 + next(24)).map(|_| PIECES[next(PIECES.len())]).collect();
        let once = contract.model_text(&text);
        assert_eq!(contract.model_text(&once), once, "model_text of {text:?}");
        let (masked, _) = contract.mask(&text);
        assert_eq!(contract.mask(&masked).0, masked, "mask of {text:?}");
    }
}

#[test]
fn model_text_masks_then_cleans() {
    let contract = TextContract::default();
    let table = [
        ("您好，我叫張三，電話138 0013 8000！！！！", "您好,我叫[姓名],电话[手机号]!!!"),
        ("138&#48;0138000", "[手机号]"),
        ("寄到广东省深圳市南山区科技路12号&nbsp;谢谢#E-s08", "寄到[地址] 谢谢[表情]"),
        ("订单[ORDERID_10282347]&amp;nbsp;退款", "订单[订单号] 退款"),
        ("订单号13800138000", "订单号13800138000"),
        ("1元 12315 10086 2026-01-01", "1元 12315 10086 2026-01-01"),
        ("", ""),
    ];
    for (raw, seen) in table {
        assert_eq!(contract.model_text(raw), seen);
    }
}

#[test]
fn mask_keeps_the_rest_as_typed() {
    let (masked, counts) = TextContract::default().mask("ＡＢＣ  請打１３８００１３８０００！！！！！<br>");
    assert_eq!(masked, "ＡＢＣ  請打[手机号]！！！！！<br>");
    assert_eq!((counts.mobile, counts.total()), (1, 1));
}

#[test]
fn long_pastes_finish() {
    let contract = TextContract::default();
    let long = |piece: &str| piece.chars().cycle().take(20_000).collect::<String>();
    let pieces = [
        "0123456789",
        "1",
        "13",
        "138 0013 8000 ",
        "6222 ",
        "[",
        "]",
        "[数字x",
        "省",
        "市",
        "区",
        "号",
        "路",
        "广东省深圳市南山区科技路12号",
        "中山路1号楼2单元",
        "1号",
        "一",
        "张",
        "我叫",
        "我叫张三",
        "收件人：",
        "·",
        "买买提·",
        "@",
        "a",
        "a@",
        "a@b.",
        ".",
        "微信",
        "微信a",
        "wx",
        "+86",
        "(",
        "<",
        ">",
        "<b",
        "<br>",
        "<b>",
        "&",
        ";",
        "&amp;",
        "&amp",
        "amp;",
        "&#49;",
        "#E-s",
        "/:",
        "乾",
        "哈",
        "\u{200B}",
        "\u{301}",
        "ﷺ",
        "👍🏽",
        " ",
        "京A",
        "京A12345",
        "SF1",
        "小区3栋",
        "村1号",
    ];
    for piece in pieces {
        let text = long(piece);
        let once = contract.model_text(&text);
        assert_eq!(contract.model_text(&once), once, "{piece}");
        let (masked, _) = contract.mask(&text);
        assert_eq!(contract.mask(&masked).0, masked, "{piece}");
    }
    let nested = format!("{}{}{}", "&".repeat(5_000), "amp;".repeat(5_000), "lt;");
    assert_eq!(contract.model_text(&contract.model_text(&nested)), contract.model_text(&nested));
}

#[test]
fn options_are_stored() {
    let contract: TextContract = serde_json::from_str("{}").expect("everything has a default");
    assert_eq!(contract, TextContract::default());
    let contract: TextContract =
        serde_json::from_str(r#"{"mask":{"name":false},"clean":{"repeats":false}}"#).expect("named switches");
    assert!(!contract.mask.name && contract.mask.mobile && !contract.clean.repeats && contract.clean.nfkc);
    let json = serde_json::to_string(&contract).expect("plain switches");
    assert_eq!(serde_json::from_str::<TextContract>(&json).expect("our own output"), contract);
    assert!(serde_json::from_str::<TextContract>(r#"{"mask":{"nmae":false}}"#).is_err());
}

#[test]
fn tokens_survive_the_contract() {
    let contract = TextContract::default();
    for token in CONTRACT_TOKENS {
        assert_eq!(contract.model_text(token), token);
    }
    for kind in PersonalData::ALL {
        assert!(CONTRACT_TOKENS.contains(&kind.token()));
    }
}
