#!/usr/bin/env python3
"""Builds train.jsonl: customer-service chats of the invented shop 「拾光小铺」.

Usage:  python3 generate.py [--seed 20260101] [--sessions 1740] [--out train.jsonl]

Every sentence comes from the hand-written tables in turns/ (nothing is copied
from a real shop or a public data set):

  turns/<topic>.tsv   intent <TAB> sentiment <TAB> text   messages of customers;
                      ack.tsv has an empty intent (「嗯」「订单号是…」)
  turns/agent.tsv     intent <TAB> text                   answers of the agent;
                      an empty intent marks openings, questions and closings

This program recombines them into sessions of 4 to 9 messages:

  1. an optional greeting;
  2. the main topic: the first topical message, answered by the agent;
  3. follow-ups of the same or a related topic (RELATED), steered by a mood
     track of the session: calm, angry (annoyed, then angry), relieved;
  4. acknowledgements, then optional thanks.

Slots such as {商品} are filled (product, city, courier and order number stay
the same within a session) and customers' messages get light noise: other
punctuation, a homophone, a doubled particle, an emoji, Traditional characters.

One line of the output is one message:

  {"session_id","turn","role","text","intent"?,"sentiment"?,"time","channel"}

The agent's rows carry no labels; an acknowledgement has a sentiment and no
intent. The same seed gives the same bytes: only one random.Random is used and
no set or hash order is iterated. The conditions in check() are verified before
the file is written; when one fails the program ends with an error sentence.
"""
import argparse
import datetime
import json
import os
import random
import re
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
INTENTS = ("物流查询 催发货 改地址 退货 换货 退款进度 发票 优惠券 价保 商品咨询 尺码 库存 取消订单 "
           "运费 支付失败 账号密码 会员积分 投诉 转人工 问候 致谢 闲聊 质量问题 错发漏发 签收异常 "
           "安装使用 活动赠品 修改订单 催促 out_of_scope").split()
SENTIMENTS = ("neutral", "negative", "positive")

# Kept out of the training data: these belong to the tests (compared without
# punctuation and spaces).
HELD_OUT = ["我的快递三天没动了怎么回事", "想退货 你们那个运费谁出啊",
            "你们就是骗子!!再不退钱我打12315", "帮我写首诗"]

# Weight of a topic as the main topic of a session.
MAIN_WEIGHT = {
    "物流查询": 9, "催发货": 7, "改地址": 8, "退货": 7, "换货": 6, "退款进度": 6, "发票": 9,
    "优惠券": 4, "价保": 7, "商品咨询": 6, "尺码": 6, "库存": 6, "取消订单": 7, "运费": 6,
    "支付失败": 9, "账号密码": 8, "会员积分": 7, "投诉": 8, "转人工": 3, "闲聊": 6,
    "质量问题": 7, "错发漏发": 7, "签收异常": 7, "安装使用": 8, "活动赠品": 6, "修改订单": 8,
    "out_of_scope": 16,
}
# What a customer of one topic asks next.
RELATED = {
    "物流查询": ["签收异常", "催发货", "改地址", "退货"],
    "催发货": ["物流查询", "取消订单", "库存", "修改订单"],
    "改地址": ["修改订单", "物流查询", "催发货"],
    "退货": ["退款进度", "运费", "换货", "质量问题"],
    "换货": ["尺码", "运费", "库存", "退货"],
    "退款进度": ["退货", "优惠券", "运费"],
    "发票": ["修改订单", "退款进度"],
    "优惠券": ["活动赠品", "会员积分", "运费", "支付失败"],
    "价保": ["优惠券", "活动赠品", "退款进度", "退货"],
    "商品咨询": ["尺码", "库存", "活动赠品", "优惠券", "安装使用"],
    "尺码": ["库存", "换货", "商品咨询"],
    "库存": ["商品咨询", "催发货", "尺码"],
    "取消订单": ["退款进度", "优惠券", "修改订单"],
    "运费": ["优惠券", "退货", "商品咨询"],
    "支付失败": ["优惠券", "账号密码", "取消订单"],
    "账号密码": ["会员积分", "支付失败"],
    "会员积分": ["优惠券", "活动赠品", "账号密码"],
    "投诉": ["转人工", "退款进度", "质量问题"],
    "转人工": ["投诉", "退货", "物流查询"],
    "闲聊": ["商品咨询", "活动赠品", "out_of_scope", "转人工"],
    "质量问题": ["退货", "换货", "退款进度", "安装使用"],
    "错发漏发": ["换货", "退货", "物流查询", "活动赠品"],
    "签收异常": ["物流查询", "退款进度", "错发漏发"],
    "安装使用": ["质量问题", "商品咨询", "换货"],
    "活动赠品": ["优惠券", "价保", "错发漏发"],
    "修改订单": ["改地址", "催发货", "取消订单"],
    "out_of_scope": ["闲聊", "商品咨询", "out_of_scope", "转人工"],
}
MOODS = (("calm", 0.62), ("angry", 0.21), ("relieved", 0.17))
LENGTHS = ((4, 20), (5, 32), (6, 27), (7, 13), (8, 6), (9, 2))
CHANNELS = (("mini_program", 60), ("wechat", 28), ("web", 12))

# ---------------------------------------------------------------- slot values
CLOTHES = "卫衣 毛衣 牛仔裤 衬衫 羽绒服 连衣裙 风衣 T恤 半身裙 休闲裤 针织衫 睡衣 小白鞋 运动鞋 帆布鞋 短靴".split()
DEVICES = "加湿器 电饭煲 蓝牙耳机 台灯 吹风机".split()
HOME = "四件套 收纳箱 抱枕 保温杯 地垫 浴巾 窗帘 置物架 被子 餐具".split()
CITIES = "杭州 成都 武汉 广州 西安 南京 长沙 郑州 青岛 昆明 沈阳 合肥 福州 南昌 哈尔滨 苏州 兰州 贵阳 东莞 义乌".split()
COURIERS = "顺丰 中通 圆通 韵达 申通 极兔 邮政".split()
AGENTS = "小拾 小周 小林 小橙 阿暖 小满 小禾 小棠 木木 小夏 南星 小谷".split()
COLORS = "黑色 白色 米色 灰色 藏青 卡其色 粉色 墨绿 酒红 浅蓝 杏色 咖色".split()
SIZES = "S M L XL 2XL 3XL".split()
SHOE_SIZES = "36 37 38 39 40 41 42 43".split()
ROUND = "59 99 129 159 199 299".split()

# ------------------------------------------- small additions around a message
LEAD = {"neutral": "请问|你好 |那个 |亲 |麻烦问下|想问一下 |问下|客服 |您好 |不好意思 |诶 ".split("|"),
        "negative": "真服了 |烦死了 |等得火大 |我要气疯了 |受够了 |太失望了 |无语 |我真的生气了 |又来问了 烦 ".split("|"),
        "positive": "一直很喜欢你们家 |你们服务真好 |老顾客了 东西一直很满意 |刚才那位客服超耐心 |好评好评 |"
                    "朋友推荐来的 真不错 |东西收到很惊喜 |你们家真靠谱 |开心 ".split("|")}
FOLLOW_LEAD = {"neutral": "那|还有 |对了 |另外 |再问下 |顺便问下 |哦 那|嗯 ".split("|"),
               "negative": "别废话 |少来这套 |每次都这么说 |说得好听 |越说越气 |我不管 |真是服了 |还敷衍我 ".split("|"),
               "positive": "太好了 那|好棒 谢谢 那|你真耐心 再问下 |哈哈好的 开心 那|嗯嗯 你真好 顺便问下 |"
                           "服务真赞 还有个小问题 |解决得真快 再问一个 |谢谢 太贴心了 另外 ".split("|")}
TAIL = {"neutral": " 谢谢| 麻烦了| 在线等| 急| 麻烦看下| 帮忙看看| 亲".split("|"),
        "negative": " 气死我了| 太让人失望了| 无语| 真的烦| 什么服务啊| 服了你们了| 不想再说第二遍".split("|"),
        "positive": " 你们家东西真不错| 先谢谢啦 爱你们| 辛苦啦 给你们点赞| 服务一如既往地好| 期待期待 好开心".split("|")}
# Leads of another sentiment may stand before a neutral message of these topics.
PLAIN = [i for i in INTENTS if i not in ("问候", "致谢", "闲聊", "催促", "out_of_scope", "投诉", "转人工")]
AGENT_LEAD = [w + "\uff0c" for w in "亲 好的 您好 亲亲 嗯嗯 收到 是这样的 了解 感谢等待".split()]
AGENT_TAIL = ["", "", "哦", "请您放心。", "辛苦您啦。", "有问题再叫我。", "您看这样可以吗\uff1f", "😊", "~",
              "还有其他问题吗\uff1f", "感谢您的理解。", "给您添麻烦了。", "我一直在的。"]

# ---------------------------------------------------------------------- noise
HOMOPHONES = {"的": "地得", "得": "的", "在": "再", "那": "哪", "吗": "嘛么", "做": "作", "已": "以", "呢": "捏",
              "啊": "阿", "块": "快", "帐": "账", "账": "帐", "他": "它", "登": "等", "象": "像", "像": "象",
              "订": "定", "份": "分", "品": "拼", "号": "好", "收": "受", "查": "察", "哪": "那", "吧": "巴",
              "急": "及", "券": "卷", "码": "玛", "请": "清", "刚": "钢", "退": "腿", "需": "须"}
PARTICLES = "啊吧呢呀哦啦嘛"
EMOJI = {"neutral": "🙏🤔😂😅", "negative": "😡😤🙄😠", "positive": "😊🥰👍😄"}
TRADITIONAL_PAIRS = (
    "货貨 发發 单單 订訂 换換 帮幫 个個 这這 么麼 还還 没沒 问問 说說 请請 谢謝 钱錢 买買 卖賣 为為 "
    "时時 间間 吗嗎 话話 电電 动動 达達 运運 费費 优優 价價 补補 质質 坏壞 开開 关關 点點 样樣 颜顏 码碼 "
    "们們 会會 员員 积積 账帳 号號 录錄 验驗 证證 绑綁 错錯 误誤 过過 边邊 进進 远遠 选選 递遞 迟遲 "
    "检檢 标標 权權 机機 构構 来來 东東 车車 书書 长長 门門 见見 气氣 听聽 写寫 诉訴 评評 记記 让讓 认認 "
    "该該 详詳 语語 误誤 调調 谁誰 课課 词詞 试試 诗詩 译譯 读讀 变變 红紅 绿綠 级級 结結 给給 统統 续續 "
    "组組 细細 终終 经經 线線 练練 纸紙 终終 织織 缩縮 总總 义義 习習 乐樂 乱亂 亲親 从從 仓倉 众眾 优優 "
    "伤傷 体體 余餘 侧側 债債 儿兒 兰蘭 兴興 内內 写寫 军軍 农農 冲沖 决決 况況 凉涼 减減 几幾 凭憑 击擊 "
    "创創 别別 办辦 务務 劳勞 势勢 区區 医醫 华華 协協 卫衛 厅廳 历歷 压壓 厂廠 双雙 台臺 叶葉 响響 图圖 "
    "团團 围圍 国國 块塊 场場 处處 备備 头頭 实實 宝寶 对對 导導 将將 尔爾 尽盡 层層 岁歲 币幣 师師 带帶 "
    "应應 库庫 废廢 张張 弹彈 强強 当當 态態 怀懷 恶惡 惊驚 愿願 户戶 执執 扫掃 护護 报報 担擔 拥擁 "
    "择擇 挂掛 损損 据據 断斷 无無 显顯 晒曬 术術 条條 杂雜 极極 欢歡 毁毀 满滿 灯燈 热熱 爱愛 状狀 现現 "
    "球球 电電 画畫 盘盤 码碼 确確 礼禮 离離 种種 称稱 稳穩 穷窮 类類 约約 网網 罚罰 联聯 脏髒 脑腦 药藥 "
    "营營 虽雖 装裝 裤褲 规規 觉覺 订訂 许許 赔賠 赠贈 赶趕 软軟 较較 输輸 连連 适適 邮郵 释釋 钟鐘 闲閒 "
    "闹鬧 难難 预預 题題 骗騙 鸡雞 麦麥 齐齊 龙龍 够夠 里裡 后後 复復 于於")
TRADITIONAL = {p[0]: p[1] for p in TRADITIONAL_PAIRS.split()}
QUESTION_END = "吗嗎么嘛呢不没伐呀啥谁"
QUESTION_WORD = re.compile("怎么|怎麼|多少|什么|哪|多久|为啥|咋|几天|几点|啥|谁|如何")
PUNCT = re.compile("[\\s,.?!~:;/\u3001\u3002\uff0c\uff1f\uff01\uff5e\uff1a\uff1b\u300c\u300d\u2026]+")
# Full-width punctuation, written as escapes so that no editor changes it.
COMMA, QUESTION, EXCLAIM = "\uff0c", "\uff1f", "\uff01"
HALF_WIDTH = {0xff0c: ",", 0xff1f: "?", 0xff01: "!"}
FULL_WIDTH = {0x2c: COMMA, 0x3f: QUESTION, 0x21: EXCLAIM}
MARKS = ",?!\u3002" + COMMA + QUESTION + EXCLAIM
EMOJI_RE = re.compile("[\U0001F300-\U0001FAFF\u2600-\u27BF\uFE0F]")


def fail(sentence):
    sys.exit("error: " + sentence)


def plain(text):
    """The text without punctuation, spaces and emoji, for comparisons."""
    return EMOJI_RE.sub("", PUNCT.sub("", text))


def weighted(rng, pairs):
    return rng.choices([p[0] for p in pairs], [p[1] for p in pairs])[0]


def load_turns():
    """(customer, agent): {intent: {sentiment: [text]}} and {intent: [text]}."""
    users = {i: {s: [] for s in SENTIMENTS} for i in INTENTS + [""]}
    agent = {i: [] for i in INTENTS + [""]}
    folder = os.path.join(HERE, "turns")
    for name in sorted(os.listdir(folder)):
        if not name.endswith(".tsv"):
            continue
        with open(os.path.join(folder, name), encoding="utf-8") as handle:
            rows = [line.rstrip("\n").split("\t") for line in handle if line.strip("\n")]
        for number, row in enumerate(rows[1:], 2):
            if len(row) != len(rows[0]):
                fail(f"turns/{name} line {number} has {len(row)} columns, {len(rows[0])} expected.")
            if row[0] not in users:
                fail(f"turns/{name} line {number} names the unknown intent {row[0]!r}.")
            if name == "agent.tsv":
                agent[row[0]].append(row[1])
            elif row[1] not in SENTIMENTS:
                fail(f"turns/{name} line {number} names the unknown sentiment {row[1]!r}.")
            else:
                users[row[0]][row[1]].append(row[2])
    return users, agent


class Deck:
    """Deals the items of a list in shuffled rounds, so all are used about equally."""

    def __init__(self, rng, items):
        self.rng, self.items, self.left = rng, list(items), []

    def deal(self):
        if not self.left:
            self.left = list(self.items)
            self.rng.shuffle(self.left)
        return self.left.pop()


class Session:
    """What stays the same within one session."""

    def __init__(self, rng):
        self.product = rng.choice(rng.choices([CLOTHES, DEVICES, HOME], [5, 4, 3])[0])
        self.clothes = self.product if self.product in CLOTHES else rng.choice(CLOTHES)
        self.device = self.product if self.product in DEVICES else rng.choice(DEVICES)
        self.city, self.courier = rng.choice(CITIES), rng.choice(COURIERS)
        self.agent = rng.choice(AGENTS)
        self.amount = rng.choice([str(rng.randint(5, 60)), str(rng.randint(60, 399)), "19.9", "39.9"])
        self.order = "SG" + "".join(rng.choice("0123456789") for _ in range(8))
        self.style = weighted(rng, (("comma", 46), ("space", 30), ("none", 11), ("mixed", 13)))
        self.traditional = rng.random() < 0.03
        self.mood = weighted(rng, MOODS)


class Generator:
    def __init__(self, seed):
        self.rng = random.Random(seed)
        self.users, self.agent = load_turns()
        self.decks = {}
        self.seen = {}        # text -> times used
        self.labels = {}      # text, and text without punctuation -> (intent, sentiment)
        self.agent_texts, self.uses = {}, {}
        self.counts = {i: 0 for i in INTENTS}   # messages of each intent so far
        self.held_out = [plain(t) for t in HELD_OUT]

    def deck(self, intent, sentiment):
        key = (intent, sentiment)
        if key not in self.decks:
            items = self.users[intent][sentiment]
            if not items:
                fail(f"turns/ has no customer's text for {intent!r} {sentiment}.")
            self.decks[key] = Deck(self.rng, items)
        return self.decks[key]

    def fill(self, text, s):
        rng = self.rng
        device = s.device
        if "{商品}" in text and device == s.product:
            device = rng.choice([d for d in DEVICES if d != s.product])
        shoes = "鞋" in text or "脚" in text or (s.product.endswith(("鞋", "靴")) and "{商品}" in text)
        text = re.sub(r"满\{金额\}", lambda m: "满" + rng.choice(ROUND), text)
        values = {"商品": lambda: s.product, "衣物": lambda: s.clothes, "电器": lambda: device,
                  "城市": lambda: s.city, "快递": lambda: s.courier, "客服": lambda: s.agent, "订单号": lambda: s.order,
                  "天数": lambda: rng.choice(["2", "3", "4", "5", "6", "7", "8", "三", "四", "五", "六"]),
                  "金额": lambda: s.amount,
                  "颜色": lambda: rng.choice(COLORS),
                  "尺码值": lambda: rng.choice(SHOE_SIZES if shoes else SIZES)}

        def value(match):
            if match.group(1) not in values:
                fail(f"the slot {match.group(0)} in {text!r} is unknown.")
            return values[match.group(1)]()
        return re.sub(r"\{([^{}]+)\}", value, text)

    def punctuate(self, text, s, sentiment):
        """Turns the spaces between clauses into this customer's punctuation."""
        rng = self.rng
        parts = text.split(" ")
        keywords = len(parts) > 1 and all(len(p) <= 4 for p in parts)
        if keywords and rng.random() < 0.8:
            return text
        marks = {"comma": COMMA, "space": " ", "none": ""}
        out = parts[0]
        for part in parts[1:]:
            ascii_both = out[-1:].isascii() and out[-1:].isalnum() and part[:1].isascii() and part[:1].isalnum()
            mark = marks.get(s.style) if s.style != "mixed" else rng.choice([COMMA, "\u3002", " ", ","])
            if ascii_both:
                mark = " "
            elif out[-1:] in MARKS:
                mark = ""
            out += mark + part
        last = parts[-1]
        if out[-1:] in MARKS + "~" or EMOJI_RE.match(out[-1:]) or out.isdigit():
            return out
        roll = rng.random()
        if last[-1:] in QUESTION_END or QUESTION_WORD.search(last):
            out += QUESTION if roll < 0.36 else "?" if roll < 0.42 else QUESTION * 2 if roll < 0.45 else ""
        elif sentiment == "negative":
            out += EXCLAIM if roll < 0.18 else EXCLAIM * 2 if roll < 0.24 else "。" if roll < 0.3 else ""
        else:
            out += "。" if roll < 0.12 else "~" if roll < 0.15 else ""
        return out

    def noise(self, text, s, sentiment):
        rng = self.rng
        if rng.random() < 0.05 and not text.isascii():
            text = re.sub("[" + MARKS + "]", "", text) or text
        if rng.random() < 0.05 and len(text) > 4:
            spots = [i for i, c in enumerate(text) if c in HOMOPHONES]
            if spots:
                i = rng.choice(spots)
                text = text[:i] + rng.choice(HOMOPHONES[text[i]]) + text[i + 1:]
        if rng.random() < 0.05 and text[-1] in PARTICLES:
            text += text[-1] * rng.choice([1, 1, 2])
        if rng.random() < 0.05:
            text = text.translate(HALF_WIDTH)
        elif rng.random() < 0.02:
            text = text.translate(FULL_WIDTH)
        if s.traditional or rng.random() < 0.006:
            text = "".join(TRADITIONAL.get(c, c) for c in text)
        if rng.random() < 0.035 and not EMOJI_RE.search(text):
            text += rng.choice(EMOJI[sentiment])
        return text

    def decorate(self, template, intent, want, opening):
        """A neutral message may get a short lead or tail; it carries the mood."""
        rng = self.rng
        if intent not in PLAIN and not (intent == "out_of_scope" and want == "neutral"):
            return template
        polite = re.search("请|請|你好|您好|麻烦|谢|謝|想问|唔该|问下|问一下", template)
        chance = 0.16 if want == "neutral" else 1.0
        if rng.random() >= chance or (want == "neutral" and (polite or len(template) < 5)):
            return template
        if rng.random() < (0.72 if want != "negative" else 0.55):
            return rng.choice((LEAD if opening else FOLLOW_LEAD)[want]) + template
        return template + rng.choice(TAIL[want])

    def user(self, s, intent, want, opening=False):
        """One customer's message: (text, intent, sentiment)."""
        rng = self.rng
        for _ in range(200):
            mixed = want != "neutral" and intent in PLAIN and \
                rng.random() < (0.72 if want == "positive" else 0.22)
            source = "neutral" if mixed else want
            template = self.deck(intent, source).deal()
            if mixed and (len(template) < 4 or re.match("请|請|你好|谢", template) or "谢" in template):
                continue
            if mixed and want == "positive" and not (  # a cheerful lead suits a question only
                    template[-1] in QUESTION_END or QUESTION_WORD.search(template)):
                continue
            if want == "neutral" or mixed:
                template = self.decorate(template, intent, want, opening)
            text = self.noise(self.punctuate(self.fill(template, s), s, want), s, want)
            bare, label = plain(text), (intent, want)
            if bare in self.held_out or text in self.agent_texts:
                continue
            if self.labels.get(text, label) != label or (bare and self.labels.get(bare, label) != label):
                continue
            if self.seen.get(text, 0) >= (3 if len(text) > 6 else 30):
                continue
            self.labels[text] = label
            if bare:
                self.labels[bare] = label
            self.seen[text] = self.seen.get(text, 0) + 1
            return {"role": "user", "text": text, "intent": intent, "sentiment": want}
        fail(f"no fresh text is left for {intent or 'acknowledgements'} {want}; write more in turns/.")

    def ranked_answers(self, intent, pattern, asked):
        """The agent's texts, those that fit what was asked and are less used first."""
        def score(text):
            words = {asked["text"][i:i + 2] for i in range(len(asked["text"]) - 1)} if asked else ()
            fit = 0.8 * sum(text[i:i + 2] in words for i in range(len(text) - 1))
            if re.search("抱歉|对不起|理解您|糟心|久等", text):
                fit += 1.5 if asked and asked["sentiment"] == "negative" else -0.8
            return fit - 0.22 * self.uses.get(text, 0) + self.rng.random()
        texts = [t for t in self.agent[intent] if not pattern or re.search(pattern, t)]
        return [t for _, t in sorted(((score(t), t) for t in texts), reverse=True)]

    def answer(self, s, intent, pattern=None, asked=None):
        rng = self.rng
        ranked = self.ranked_answers(intent, pattern, asked)
        for attempt in range(12 * len(ranked)):
            template = ranked[attempt // 3 % len(ranked)]
            text = self.fill(template, s)
            if not re.match("您好|亲|好的|在的|抱歉|非常抱歉|不好意思|早上好|欢迎|我在|实在|请问|收到|感谢|对不起|久等|嗯", text) \
                    and rng.random() < 0.35:
                text = rng.choice(AGENT_LEAD) + text
            tail = rng.choice(AGENT_TAIL) if rng.random() < 0.5 or attempt > 20 else ""
            if tail and text[-1] not in "?" + QUESTION:
                if tail in "哦~":
                    text = text.rstrip("。") + tail if text.rstrip("。")[-1] not in "哦呢呀啦吗" else text
                elif not (intent in ("致谢", "问候", "out_of_scope") and len(tail) > 1):
                    text += tail
            if self.seen.get(text, 0) >= (3 if len(text) > 6 else 30) or text in self.labels:
                continue
            self.seen[text] = self.seen.get(text, 0) + 1
            self.agent_texts[text] = True
            self.uses[template] = self.uses.get(template, 0) + 1
            return {"role": "agent", "text": text}
        fail(f"no fresh agent text is left for {intent!r}; write more in turns/agent.tsv.")

    def sentiment(self, s, step):
        """The mood track: the sentiment of a session's step-th topical message."""
        roll = self.rng.random()
        if s.mood == "calm":
            return "neutral" if roll < 0.96 else "positive"
        if s.mood == "angry":
            return "negative" if roll < (0.45, 0.75)[min(step, 1)] else "neutral"
        if step == 0:
            return "negative" if roll < 0.3 else "neutral"
        return "positive" if roll < 0.36 else "neutral"

    def session(self, main):
        rng = self.rng
        s = Session(rng)
        if main in ("投诉",) and rng.random() < 0.7:
            s.mood = "angry"
        length, rows = weighted(rng, LENGTHS), []
        closing = []
        if rng.random() < {"calm": 0.2, "angry": 0.08, "relieved": 0.5}[s.mood]:
            mood = {"calm": "neutral" if rng.random() < 0.6 else "positive", "angry": "negative",
                    "relieved": "positive"}[s.mood]
            closing = [self.user(s, "致谢", mood)]
            if rng.random() < 0.45:
                closing.append(self.answer(s, "致谢"))
        if length >= 5 and rng.random() < 0.16:
            mood = "neutral"
            if s.mood == "angry" and rng.random() < 0.3:
                mood = "negative"
            elif s.mood == "relieved" and rng.random() < 0.15:
                mood = "positive"
            rows.append(self.user(s, "问候", mood))
            if rng.random() < 0.75:
                rows.append(self.answer(s, "问候"))
        room = length - len(closing)
        opening = self.user(s, main, self.sentiment(s, 0), opening=True)
        rows.append(opening)
        if main in PLAIN and main not in ("商品咨询", "尺码", "库存", "活动赠品") \
                and room - len(rows) >= 3 and rng.random() < 0.16:
            rows.append(self.answer(s, "", "订单号发|提供一下订单号"))
            rows.append({"role": "user", "text": self.order_number(s), "intent": "", "sentiment": "neutral"})
        topic, step = main, 1
        rows.append(self.answer(s, main, asked=opening))
        while len(rows) < room:
            roll, mood = rng.random(), self.sentiment(s, step)
            if roll < 0.14:
                rows.append(self.user(s, "", mood))
                if len(rows) < room and rng.random() < 0.6:
                    rows.append(self.answer(s, "", "^(稍等|请稍|好的|收到|看到|您说|请您放|请问还|如果|后续|感谢|那先)"))
                continue
            if roll < 0.19:
                nxt = "催促"
            elif s.mood == "angry" and roll < 0.34:
                nxt = rng.choice(["投诉", "投诉", "转人工", "催促"])
            elif roll < 0.22 and topic != "转人工":
                nxt = "转人工"
            elif roll < 0.245 and s.mood == "calm":
                nxt = rng.choice(["out_of_scope", "闲聊"])
            elif roll < 0.66 or topic not in RELATED:
                nxt = topic
            else:
                nxt = rng.choice(RELATED[topic])
            rows.append(self.user(s, nxt, mood))
            step += 1
            if nxt not in ("催促", "转人工", "投诉", "闲聊", "out_of_scope"):
                topic = nxt
            if len(rows) < room:
                rows.append(self.answer(s, nxt, asked=rows[-1]))
        return rows[:room] + closing

    def order_number(self, s):
        form = self.rng.choice(["{}", "订单号是{}", "单号{}", "{} 这个", "是这个 {}", "订单编号 {}", "就是{}这单"])
        return form.format(s.order)

    def run(self, count):
        rng = self.rng
        topics, weights = list(MAIN_WEIGHT), list(MAIN_WEIGHT.values())
        base = datetime.datetime(2025, 9, 1, tzinfo=datetime.timezone(datetime.timedelta(hours=8)))
        starts = sorted((rng.randrange(120), rng.randint(8 * 3600, 22 * 3600 + 1800)) for _ in range(count))
        lines = []
        for number, (day, second) in enumerate(starts, 1):
            # A topic that lags behind an even pace is chosen more often.
            now_weights = []
            for topic, weight in zip(topics, weights):
                lag = self.counts[topic] / ((270 if topic == "out_of_scope" else 160) * number / count)
                now_weights.append(weight * (8 if lag < 0.9 else 4 if lag < 1 else 1))
            rows = self.session(rng.choices(topics, now_weights)[0])
            for row in rows:
                if row.get("intent"):
                    self.counts[row["intent"]] += 1
            channel = weighted(rng, CHANNELS)
            now = base + datetime.timedelta(days=day, seconds=second)
            for turn, row in enumerate(rows):
                line = {"session_id": f"s{number:04d}", "turn": turn, "role": row["role"], "text": row["text"]}
                if row.get("intent"):
                    line["intent"] = row["intent"]
                if "sentiment" in row:
                    line["sentiment"] = row["sentiment"]
                line["time"], line["channel"] = now.isoformat(), channel
                lines.append(line)
                now += datetime.timedelta(seconds=rng.randint(4, 40) if rng.random() < 0.6 else rng.randint(40, 240))
        return lines


def check(lines, data):
    """Verifies what this file promises; ends the program where it does not hold."""
    sessions, labels, times = {}, {}, {}
    intents, moods = {i: 0 for i in INTENTS}, {m: 0 for m in SENTIMENTS}
    held_out = [plain(t) for t in HELD_OUT]
    for line in lines:
        rows = sessions.setdefault(line["session_id"], [])
        if line["turn"] != len(rows):
            fail(f"the turns of session {line['session_id']} are not 0, 1, 2, ...")
        if rows and not rows[-1]["time"] < line["time"]:
            fail(f"the time does not grow in session {line['session_id']}.")
        rows.append(line)
        text = line["text"]
        if not text.strip() or "{" in text or "\t" in text:
            fail(f"the text {text!r} is empty or has an unfilled slot.")
        if plain(text) in held_out:
            fail(f"the held-out test message {text!r} is in the training data.")
        times[text] = times.get(text, 0) + 1
        if len(text) > 6 and times[text] > 3:
            fail(f"the long text {text!r} appears more than 3 times.")
        if line["role"] == "agent":
            if "intent" in line or "sentiment" in line:
                fail(f"the agent's message {text!r} carries a label.")
            continue
        moods[line["sentiment"]] += 1
        if "intent" in line:
            intents[line["intent"]] += 1
        label = (line.get("intent"), line["sentiment"])
        for key in [text] + ([plain(text)] if plain(text) else []):
            if labels.setdefault(key, label) != label:
                fail(f"the text {text!r} has two labels: {labels[key]} and {label}.")
    if len(sessions) < 1700:
        fail(f"there are {len(sessions)} sessions, at least 1700 expected.")
    if len(lines) < 9500:
        fail(f"there are {len(lines)} messages, at least 9500 expected.")
    for name, rows in sessions.items():
        if not 4 <= len(rows) <= 9:
            fail(f"session {name} has {len(rows)} messages, 4 to 9 expected.")
    for intent, number in intents.items():
        if number < 120:
            fail(f"the intent {intent} has {number} messages, at least 120 expected.")
    total = sum(moods.values())
    for mood, low, high in (("neutral", .72, .78), ("negative", .13, .17), ("positive", .08, .12)):
        if not low <= moods[mood] / total <= high:
            fail(f"{mood} messages are {moods[mood] / total:.1%}, {low:.0%} to {high:.0%} expected.")
    if len(data) >= 2_000_000:
        fail(f"the file would have {len(data)} bytes, fewer than 2000000 expected.")
    return sessions, intents, moods


def main():
    parser = argparse.ArgumentParser(description="Builds train.jsonl from turns/*.tsv.")
    parser.add_argument("--seed", type=int, default=20260101)
    parser.add_argument("--sessions", type=int, default=1740)
    parser.add_argument("--out", default=os.path.join(HERE, "train.jsonl"))
    args = parser.parse_args()
    lines = Generator(args.seed).run(args.sessions)
    text = "".join(json.dumps(x, ensure_ascii=False, separators=(",", ":")) + "\n" for x in lines)
    data = text.encode("utf-8")
    sessions, intents, moods = check(lines, data)
    with open(args.out, "wb") as handle:
        handle.write(data)
    users = sum(moods.values())
    print(f"{len(sessions)} sessions, {len(lines)} messages ({users} of customers), {len(data)} bytes")
    print("sentiment: " + ", ".join(f"{m} {n} ({n / users:.1%})" for m, n in moods.items()))
    print("intent: " + ", ".join(f"{i} {n}" for i, n in intents.items())
          + f", (none) {users - sum(intents.values())}")


if __name__ == "__main__":
    main()
