use super::*;

fn masked(text: &str) -> String {
    Mask::default().apply(text).0
}

/// Each text with `{}` for what must be masked.
fn positive(kind: PersonalData, table: &[(&str, &str)]) {
    for (text, found) in table {
        let typed = text.replace("{}", found);
        let (masked, counts) = Mask::default().apply(&typed);
        assert_eq!(masked, text.replace("{}", kind.token()), "from {typed:?}");
        assert_eq!(counts.of(kind), text.matches("{}").count(), "{typed:?}");
        assert_eq!(Mask::default().apply(&masked), (masked.clone(), MaskCounts::default()), "twice");
    }
}

fn negative(table: &[&str]) {
    for text in table {
        assert_eq!(masked(text), *text);
    }
}

/// A GB 11643-1999 number with its check character.
fn identity(first_17: &str) -> String {
    let sum: usize = first_17.bytes().enumerate().map(|(at, b)| usize::from(b - b'0') * ((1 << (17 - at)) % 11)).sum();
    let check = (12 - sum % 11) % 11;
    format!("{first_17}{}", if check == 10 { "X".to_owned() } else { check.to_string() })
}

/// A card number with its Luhn digit.
fn card(payload: &str) -> String {
    (0..10).map(|digit| format!("{payload}{digit}")).find(|number| passes_luhn(number)).expect("one of ten digits fits")
}

fn passes_luhn(number: &str) -> bool {
    let mut sum = 0;
    for (place, digit) in number.bytes().rev().map(|b| u32::from(b - b'0')).enumerate() {
        sum += if place % 2 == 1 { digit * 2 / 10 + digit * 2 % 10 } else { digit };
    }
    sum % 10 == 0
}

/// The same number with a last digit that does not fit.
fn broken(number: &str) -> String {
    let (head, last) = number.split_at(number.len() - 1);
    let last = if last == "X" { 1 } else { (last.parse::<u32>().expect("a digit") + 1) % 10 };
    format!("{head}{last}")
}

fn full_width(text: &str) -> String {
    text.chars()
        .map(
            |c| if c.is_ascii_graphic() { char::from_u32(u32::from(c) + 0xFEE0).expect("full-width ASCII") } else { c },
        )
        .collect()
}

#[test]
fn mobile_numbers() {
    positive(
        PersonalData::Mobile,
        &[
            ("{}", "13800138000"),
            ("我电话{}，尽快", "13912345678"),
            ("手机：{}。", "138 0013 8000"),
            ("打{}吧", "138-0013-8000"),
            ("打{}吧", "+8613800138000"),
            ("打{}吧", "+86 138 0013 8000"),
            ("打{}吧", "+86-13800138000"),
            ("打{}吧", "0086 13800138000"),
            ("打{}吧", "008613800138000"),
            ("打{}吧", "8613800138000"),
            ("打{}吧", "(+86)13800138000"),
            ("打{}吧", "１３８００１３８０００"),
            ("打{}吧", "１３８－００１３－８０００"),
            ("打{}吧", "138\u{200B}0013\u{200B}8000"),
            ("打{}吧", "138 00138000"),
            ("订单联系电话{}", "19912345678"),
            ("单号123，手机{}", "16612345678"),
            ("{} 2件", "17712345678"),
            ("微信同号{}", "15912345678"),
            ("電話{}謝謝", "13800138000"),
            ("tel:{}", "13800138000"),
        ],
    );
    assert_eq!(masked("13800138000 13900139000"), "[手机号] [手机号]");
    assert_eq!(masked("13800138000/13900139000、15000150000"), "[手机号]/[手机号]、[手机号]");
    negative(&[
        "12800138000",
        "1380013800",
        "138001380001",
        "订单13800138000",
        "订单号：13800138000",
        "订单编号是13800138000",
        "单号 13800138000",
        "编号#13800138000",
        "[ORDERID_13800138000]",
        "10086",
        "12315",
        "1元",
        "2026-01-01",
        "2026-01-01 12:30:45",
        "价格1399.00",
        "0.13800138000",
        "https://item.jd.com/13800138000.html",
        "1 380 013 8000",
        "20260101123456",
        "138 0013 80001",
        "b9f3af13800138000f3963",
    ]);
}

#[test]
fn landline_numbers() {
    positive(
        PersonalData::Landline,
        &[
            ("电话{}", "010-12345678".replace("1234", "6234").as_str()),
            ("电话{}", "0755-26881234"),
            ("电话{}", "(0755)26881234"),
            ("电话{}", "（0755）26881234"),
            ("电话{}", "0755 26881234"),
            ("电话{}", "021-6888-1234"),
            ("电话{}", "0512-6888123"),
            ("电话{}", "０７５５－２６８８１２３４"),
            ("电话{}。", "0755-26881234-801"),
            ("电话{}。", "0755-26881234转801"),
            ("电话{}。", "+86-10-62345678"),
        ],
    );
    negative(&[
        "400-820-8820",
        "400-8208820",
        "4008208820",
        "800-820-8820",
        "010-12345",
        "0755-123456789",
        "订单号0755-26881234",
        "01-02",
        "0-1",
        "95588",
        "2026-01-01",
        "3-5天",
    ]);
}

#[test]
fn identity_cards() {
    let numbers: Vec<String> = [
        "11010119900307775",
        "44030519851231001",
        "31010420000229123",
        "65010019781115002",
        "51010719991201456",
        "81000019930606001",
    ]
    .map(identity)
    .into();
    for number in &numbers {
        positive(PersonalData::IdentityCard, &[("身份证{}，请查", number), ("{}", number), ("号码:{} 谢谢", number)]);
        positive(PersonalData::IdentityCard, &[("身份证{}，请查", full_width(number).as_str())]);
        negative(&[broken(number).as_str(), format!("1{number}").as_str()]);
    }
    // One whose check character is X, in both cases.
    let with_x = (0..100)
        .map(|n| identity(&format!("110101199003070{n:02}")))
        .find(|number| number.ends_with('X'))
        .expect("one in eleven");
    positive(PersonalData::IdentityCard, &[("证{}。", &with_x), ("证{}。", with_x.to_lowercase().as_str())]);
    let (a, b, c) = (&with_x[..6], &with_x[6..14], &with_x[14..]);
    positive(PersonalData::IdentityCard, &[("证{}。", format!("{a} {b} {c}").as_str())]);
    positive(PersonalData::IdentityCard, &[("证{}。", "110101900307775"), ("证{}。", "440305851231001")]);
    negative(&[
        identity("11010119901307775").as_str(), // month 13
        identity("11010119900230775").as_str(), // 30 February
        identity("11010119010229775").as_str(), // no leap year
        identity("99010119900307775").as_str(), // no such province
        identity("11010117900307775").as_str(), // 1790
        "110101901307775",                      // old form, month 13
        "990101900307775",
        "订单号110101900307775",
        "11010190030777",
        "1101019003077751",
        &format!("{with_x}X"),
        &format!("{}Y", &with_x[..17]),
    ]);
}

#[test]
fn bank_cards() {
    let numbers: Vec<String> = [
        "622202020011223",
        "62220202001122334",
        "622848001234567890",
        "436742001234567890",
        "552433001234567",
        "356600123456789",
        "60138200080012345",
    ]
    .map(card)
    .into();
    for number in &numbers {
        let grouped = number.as_bytes().chunks(4).map(|four| String::from_utf8_lossy(four)).collect::<Vec<_>>();
        positive(
            PersonalData::BankCard,
            &[("卡号{}，", number), ("{}", number), ("卡号{}，", full_width(number).as_str())],
        );
        positive(
            PersonalData::BankCard,
            &[("卡号{}，", grouped.join(" ").as_str()), ("卡号{}，", grouped.join("-").as_str())],
        );
        negative(&[broken(number).as_str(), format!("订单号{number}").as_str(), format!("{number}0000").as_str()]);
    }
    negative(&[
        card("122202020011223").as_str(),
        card("222202020011223").as_str(),
        card("722202020011223").as_str(),
        card("92220202001122").as_str(),
        "6222 0202 0011",
        "1234 5678 9012 3456",
        "20260101120000123",
        "订单编号 6222020200112233445",
    ]);
    assert_eq!(masked(&format!("{} 12件", card("622202020011223"))), "[银行卡] 12件");
}

#[test]
fn emails() {
    positive(
        PersonalData::Email,
        &[
            ("发到{}。", "zhang.san@qq.com"),
            ("发到{}谢谢", "13800138000@163.com"),
            ("发到{}谢谢", "a_b-c+d@mail.example.com.cn"),
            ("发到{}", "ＡＢＣ＠ＱＱ．ＣＯＭ"),
            ("邮箱:{},", "Li4@Gmail.Com"),
            ("邮箱{}.", "x@y.cn"),
            ("QQ邮箱{}", "12345678@qq.com"),
        ],
    );
    negative(&[
        "@张三",
        "a@b",
        "@qq.com",
        "user@",
        "logo@2x.png",
        "好@的@吧",
        "1@2",
        "a@b..c",
        "@@@@",
        "京东@客服",
        "a@.com",
        "5@ 3.com",
    ]);
}

#[test]
fn number_plates() {
    positive(
        PersonalData::NumberPlate,
        &[
            ("车牌{}。", "京A12345"),
            ("车牌{}。", "沪C·1A234"),
            ("车牌{}。", "粤B D12345"),
            ("车牌{}。", "粤BD12345"),
            ("车牌{}。", "浙a12345"),
            ("車牌{}。", "滬A88888"),
            ("车牌{}。", "粤A12345D"),
            ("车牌{}。", "粤Z1234港"),
            ("车牌{}。", "苏Ｅ１２３４５"),
        ],
    );
    negative(&[
        "新Mate60pro",
        "新iPhone15",
        "京A1234",
        "京东12345",
        "全新A12345",
        "京A123456789",
        "新款A1",
        "云盘12345",
        "京I12345",
        "京Aabcde",
    ]);
}

#[test]
fn parcel_numbers() {
    positive(
        PersonalData::ParcelNumber,
        &[
            ("查{}到哪", "SF1234567890123"),
            ("查{}到哪", "sf1234567890123"),
            ("查{}到哪", "YT1234567890123"),
            ("查{}到哪", "JDVB12345678901"),
            ("查{}到哪", "JD0123456789012-1-1-"),
            ("查{}到哪", "ZTO123456789012"),
            ("查{}到哪", "EA123456789CN"),
            ("快递单号{}", "431234567890"),
            ("快递单号：{}，", "7731234567890"),
            ("运单号是{}", "110101900307775"),
            ("物流单号 {}", "4312345678901"),
            ("快遞單號{}", "431234567890"),
        ],
    );
    negative(&[
        "431234567890",
        "快递单号是多少",
        "快递单号12345",
        "SF12345",
        "JD600",
        "订单号JD0123456789012",
        "ASF1234567890123",
        "SF",
        "顺丰快递",
        "运单号13800138000",
    ]);
}

#[test]
fn social_accounts() {
    positive(
        PersonalData::SocialAccount,
        &[
            ("微信号{}", "zhangsan_88"),
            ("微信：{}", "zhangsan"),
            ("加我微信{}", "abc12345"),
            ("我的VX：{}，", "Abc-12345"),
            ("vx{}", "1234567"),
            ("wx:{}", "abcdefg"),
            ("V信 {}", "abc123456"),
            ("QQ{}", "123456789"),
            ("QQ号是{}", "10001234"),
            ("扣扣:{}", "45678"),
            ("企鹅号{}", "987654321"),
            ("微信號是{}", "zhangsan_88"),
            ("ＱＱ：{}", "１２３４５６"),
            ("加{}", "wxid_abc123def456"),
        ],
    );
    assert_eq!(masked("微信13800138000"), "微信[手机号]");
    negative(&[
        "微信支付",
        "微信小程序打不开",
        "微信8.0.30版本",
        "QQ登录不了",
        "微信10086",
        "QQ号10086",
        "微信iPhone15",
        "微信 100000元",
        "加我一下",
        "qq.com",
        "https://wx.qq.com/abc123456",
        "QQ音乐会员12个月",
        "微信wechat",
        "加我订单号12345678",
    ]);
}

#[test]
fn addresses() {
    positive(
        PersonalData::Address,
        &[
            ("地址改成{}，谢谢", "广东省深圳市南山区科技路12号3栋501室"),
            ("寄到{}", "北京市朝阳区建国路88号"),
            ("寄到{}", "上海市浦东新区世纪大道100号2楼"),
            ("请送到{}", "浙江杭州西湖区文三路478号华星大厦5楼"),
            ("我住{}。", "中山路123号阳光花园3栋2单元501室"),
            ("我住{}。", "阳光小区3栋2单元501室"),
            ("我住{}。", "阳光花园5号楼1201"),
            ("我住{}。", "幸福村12号"),
            ("我住{}。", "南京市鼓楼区湖南路3巷5号"),
            ("收货地址：{}", "廣東省深圳市南山區科技路１２號"),
            ("麻烦尽快寄{}", "四川省成都市武侯区人民南路四段1号"),
            ("寄到{}", "深圳市南山区科兴科学园A座1501室"),
            ("寄到{}", "湖北省黄冈市黄梅县小池镇"),
            ("寄到{}", "广东省 深圳市 南山区 科技路 12号"),
            ("寄到{}", "中山路12弄3号501室"),
            ("寄到{}", "张家口市桥东区胜利路9号"),
            ("寄到{}", "经三路66号"),
            ("寄到{}", "江苏省盐城市亭湖区人民路5号"),
            ("寄到{}", "福建省厦门市思明区花园路12号"),
            ("寄到{}", "江苏省镇江市京口区学府路8号3单元"),
            ("寄到{}", "浙江省台州市路桥区新村路5号"),
            ("寄到{}", "东直门胡同15号"),
        ],
    );
    assert_eq!(masked("中山路12号13800138000"), "[地址][手机号]");
    negative(&[
        "地址怎么改",
        "收货地址填错了",
        "5号发货",
        "地铁2号线",
        "科技路2号线",
        "上海市浦东新区",
        "广东省",
        "发到北京要几天",
        "送到小区",
        "我们小区3号封了",
        "一楼还是二楼",
        "12号楼",
        "超市1号店",
        "走路10分钟",
        "3月5号到",
        "你们公司在哪个城市",
        "省钱吗",
        "朝阳区5月1号能到吗",
        "包装破了一路颠簸",
        "型号A5",
    ]);
}

#[test]
fn names() {
    positive(
        PersonalData::Name,
        &[
            ("我叫{}", "张三"),
            ("我叫{}，查订单", "王小明"),
            ("姓名：{}", "李雷"),
            ("姓名 {} 电话", "陈建国"),
            ("收件人{}", "欧阳娜娜"),
            ("收货人是{}。", "诸葛亮"),
            ("联系人：{}", "买买提·艾力"),
            ("收件人{}电话", "刘洋"),
            ("收货人改成{}", "赵六"),
            ("我的名字是{}", "孙悟空"),
            ("我的名字叫{}", "周星"),
            ("收貨人：{}", "陳大文"),
            ("我叫{}我要退货", "林青霞"),
            ("我叫{}我要退货", "林峰"),
            ("收件人{}收货地址", "王先明"),
            ("收件人{}联系电话", "何以"),
            ("我叫{}", "张和平"),
            ("收件人姓名：{}", "黄晓明"),
            ("联系人\n{}", "吴京"),
        ],
    );
    assert_eq!(masked("收件人张三13800138000广东省深圳市南山区科技路12号"), "收件人[姓名][手机号][地址]");
    negative(&[
        "我叫你们退货",
        "姓名怎么改",
        "收件人信息怎么改",
        "联系人电话",
        "收货人的手机",
        "收件人是谁",
        "收件人和电话都错了",
        "姓名写错了",
        "收货人方便改吗",
        "我叫顺丰来取",
        "联系人",
        "我叫",
        "我叫车了",
        "姓名和地址要改",
        "收件人是我",
        "张三",
        "收货人时间",
        "[姓名]",
    ]);
}

#[test]
fn each_switch_off_leaves_its_kind_alone() {
    let (identity, card) = (identity("11010119900307775"), card("622202020011223"));
    let on = MaskOptions::default();
    let table: [(PersonalData, MaskOptions, &str); 10] = [
        (PersonalData::IdentityCard, MaskOptions { identity_card: false, ..on }, &identity),
        (PersonalData::BankCard, MaskOptions { bank_card: false, ..on }, &card),
        (PersonalData::Email, MaskOptions { email: false, ..on }, "a@qq.com"),
        (PersonalData::Mobile, MaskOptions { mobile: false, ..on }, "13800138000"),
        (PersonalData::Landline, MaskOptions { landline: false, ..on }, "0755-26881234"),
        (PersonalData::NumberPlate, MaskOptions { number_plate: false, ..on }, "京A12345"),
        (PersonalData::ParcelNumber, MaskOptions { parcel_number: false, ..on }, "SF1234567890123"),
        (PersonalData::SocialAccount, MaskOptions { social_account: false, ..on }, "微信号zhangsan"),
        (PersonalData::Address, MaskOptions { address: false, ..on }, "中山路123号"),
        (PersonalData::Name, MaskOptions { name: false, ..on }, "我叫张三"),
    ];
    for (kind, options, text) in table {
        assert_eq!(Mask::new(options).apply(text), (text.to_owned(), MaskCounts::default()));
        assert_eq!(Mask::new(on).apply(text).1.of(kind), 1, "{text}");
    }
}

#[test]
fn counts_add_up() {
    let (_, mut counts) = Mask::default().apply("我叫张三，13800138000，13900139000，a@qq.com");
    assert_eq!((counts.name, counts.mobile, counts.email, counts.total()), (1, 2, 1, 4));
    counts += Mask::default().apply("京A12345").1;
    assert_eq!((counts.number_plate, counts.total()), (1, 5));
    let json = serde_json::to_string(&counts).expect("plain numbers");
    assert_eq!(serde_json::from_str::<MaskCounts>(&json).expect("our own output"), counts);
}

#[test]
fn finds_are_in_order_apart_and_on_character_boundaries() {
    let text = "😀收件人：張三，１３８００１３８０００（广东省深圳市南山区科技路12号）a@qq.com京A12345";
    let found = Mask::default().find(text);
    assert_eq!(found.len(), 5);
    let mut end = 0;
    for (span, _) in found {
        assert!(end <= span.start && text.get(span.clone()).is_some());
        end = span.end;
    }
}
