#!/usr/bin/env python3
"""Makes the golden files beside it: a tiny BERT, and what PyTorch and transformers compute with it.

Made with Python 3.11.7 and
    torch==2.15.0  transformers==5.23.0  tokenizers==0.23.3  safetensors==0.8.0  numpy==2.4.6
Run, from anywhere (needs no network and no GPU; one run takes seconds):
    python3 -m venv ~/golden-venv
    ~/golden-venv/bin/pip install torch==2.15.0 transformers==5.23.0 tokenizers==0.23.3 safetensors==0.8.0 numpy==2.4.6
    HF_HUB_OFFLINE=1 ~/golden-venv/bin/python tests/golden/make_golden.py
A second run writes the same bytes. The tests read the files and never run this script.

Weights are stored as float32. All expected numbers are computed from them in float64 and written with 7 significant
digits, so a difference is the rounding of the program under test and not PyTorch's. The script also repeats everything in
float32 and prints the largest differences: a guide for tolerances.

tiny-bert/      config.json, vocab.txt, tokenizer.json, model.safetensors and pytorch_model.bin (the same
                weights): a Hugging Face BertModel folder.
heads.safetensors   intent.weight [5, 32], intent.bias [5], sentiment.weight [3, 32], sentiment.bias [3].
expected.json   forward pass, loss, one AdamW step, contrastive loss. Lists are nested as the tensors are: [batch][position]
                [hidden]. Hidden states at padding positions are computed too but mean nothing: skip them where
                attention_mask is 0.
tokens.json     token ids of texts.
"""

import json
import math
import os
import shutil
import tempfile
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import numpy as np  # noqa: E402
import torch  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers, processors  # noqa: E402
from tokenizers import decoders  # noqa: E402
from torch import nn  # noqa: E402
from transformers import BertConfig, BertModel, BertTokenizerFast  # noqa: E402

HERE = Path(__file__).resolve().parent
FOLDER = HERE / "tiny-bert"
SEED = 20240607
MAX_LENGTH = 64

# ---------------------------------------------------------------------------------------------------------- vocabulary

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
CHINESE = (
    "的一是不了在人有我他这个们中来上大为和国地到以说时要就出会可也你对生能而子那得于着下自之年过发后作里"
    "用道行所然家种事成方多经么去法学如都同现当没动面起看定天分还进好小部其些主样理心本前开但因只从想实"
    "日三四二五六七八九十月号点半明今昨早晚周钱元块价格优惠券积红包付款支退货换快递物流单订查询客服务问"
    "请谢您帮忙收件寄送达签错坏破修保质量差真假慢急等久催烦气投诉举报满意喜欢太很非常最再又给把被让叫吗呢"
    "吧啊哦嗯码手机电话地址改密登录账户名会员买卖店商品衣裤鞋颜色尺寸型"
    "什少請問訂單貨運費還沒"
)
LATIN_PIECES = [
    "app", "vip", "ok", "pro", "max", "iphone", "hello", "wi", "##fi", "##pro", "##max", "##phone", "##ok", "##ing",
    "##er", "sf", "jd", "cafe", "size", "l1",
]
ASCII_PUNCTUATION = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"
WIDE_PUNCTUATION = "\uff0c\uff01\uff1f\uff1a\uff1b\uff08\uff09\uff5e\uff05\uffe5。、「」『』《》【】“”‘’—…·"  # full-width , ! ? : ; ( ) ~ % ¥, then others
EMOJI = ["😀", "##😀", "😡", "👍", "❤"]


def vocabulary():
    entries = list(SPECIAL)
    entries += list(dict.fromkeys(CHINESE))
    for character in "0123456789abcdefghijklmnopqrstuvwxyz":
        entries += [character, "##" + character]
    entries += LATIN_PIECES + list(ASCII_PUNCTUATION) + list(WIDE_PUNCTUATION) + EMOJI
    assert len(entries) == len(set(entries)), sorted(e for e in set(entries) if entries.count(e) > 1)
    return entries


def write_tokenizer(entries):
    # newline="\n": a line feed on every system.
    (FOLDER / "vocab.txt").write_text("".join(e + "\n" for e in entries), encoding="utf-8", newline="\n")
    ids = {entry: index for index, entry in enumerate(entries)}
    tokenizer = Tokenizer(models.WordPiece(ids, unk_token="[UNK]", max_input_chars_per_word=100))
    tokenizer.normalizer = normalizers.BertNormalizer(
        clean_text=True, handle_chinese_chars=True, strip_accents=None, lowercase=True
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", ids["[SEP]"]), ("[CLS]", ids["[CLS]"]))
    tokenizer.decoder = decoders.WordPiece(prefix="##", cleanup=True)
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in SPECIAL])
    assert tokenizer.get_vocab_size(with_added_tokens=True) == len(entries)
    tokenizer.save(str(FOLDER / "tokenizer.json"), pretty=False)


# ------------------------------------------------------------------------------------------------------------- weights

INTENTS = ["订单查询", "物流查询", "退货退款", "投诉", "其他"]
SENTIMENTS = ["negative", "neutral", "positive"]


def write_model(vocab_size):
    config = {
        "architectures": ["BertModel"],
        "model_type": "bert",
        "vocab_size": vocab_size,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 64,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "max_position_embeddings": MAX_LENGTH,
        "type_vocab_size": 2,
        "initializer_range": 0.02,
        "layer_norm_eps": 1e-12,
        "pad_token_id": 0,
        "position_embedding_type": "absolute",
        "use_cache": True,
    }
    (FOLDER / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8", newline="\n")
    generator = np.random.Generator(np.random.PCG64(SEED))

    def draw(name, shape):
        numbers = generator.standard_normal(shape) * 0.2
        # Norm weights lie around 1, as in a trained model.
        return torch.from_numpy((numbers + (1.0 if name.endswith("LayerNorm.weight") else 0.0)).astype(np.float32))

    shapes = {name: tuple(t.shape) for name, t in BertModel(BertConfig(**config)).state_dict().items()}
    shapes = {name: shape for name, shape in shapes.items() if not name.endswith("position_ids")}
    weights = {name: draw(name, shapes[name]) for name in sorted(shapes)}
    save_file(weights, FOLDER / "model.safetensors", metadata={"format": "pt"})
    # The same weights as an old checkpoint has them; the loader must give the same from both.
    torch.save(weights, FOLDER / "pytorch_model.bin")
    heads = {}
    for name, labels in [("intent", len(INTENTS)), ("sentiment", len(SENTIMENTS))]:
        heads[f"{name}.weight"] = draw(name, (labels, 32))
        heads[f"{name}.bias"] = draw(name, (labels,))
    save_file(heads, HERE / "heads.safetensors", metadata={"format": "pt"})


# ------------------------------------------------------------------------------------------------------------ the model


class MultiTask(nn.Module):
    """Encoder, mean pooling, two heads; parameter names are those of the two safetensors files."""

    def __init__(self, dtype):
        super().__init__()
        self.bert, loading = BertModel.from_pretrained(
            FOLDER, attn_implementation="eager", dtype=torch.float32, output_loading_info=True
        )
        assert not loading["missing_keys"] and not loading["unexpected_keys"], loading
        heads = load_file(HERE / "heads.safetensors")
        self.intent = nn.Linear(32, len(INTENTS))
        self.sentiment = nn.Linear(32, len(SENTIMENTS))
        with torch.no_grad():
            for name in ["intent", "sentiment"]:
                getattr(self, name).weight.copy_(heads[f"{name}.weight"])
                getattr(self, name).bias.copy_(heads[f"{name}.bias"])
        self.to(dtype)

    def parameters_by_name(self):
        return {name.removeprefix("bert."): p for name, p in sorted(self.named_parameters())}

    def forward(self, input_ids, attention_mask):
        output = self.bert(input_ids=input_ids, attention_mask=attention_mask, output_hidden_states=True)
        mask = attention_mask.unsqueeze(-1).to(output.last_hidden_state.dtype)
        pooled = (output.last_hidden_state * mask).sum(1) / mask.sum(1)
        return {
            "hidden_states": output.hidden_states,
            "pooled": pooled,
            "embedding": nn.functional.normalize(pooled, dim=-1),
            "intent_logits": self.intent(pooled),
            "sentiment_logits": self.sentiment(pooled),
        }


def padded(tokenizer, texts):
    rows = [tokenizer.encode(text).ids for text in texts]
    length = max(map(len, rows))
    assert length <= MAX_LENGTH
    ids = torch.tensor([row + [0] * (length - len(row)) for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (length - len(row)) for row in rows])
    return ids, mask


TEXTS = [
    "订单什么时候发货\uff1f",
    "你好",
    "我昨天买的iPhone 15 Pro还没到\uff0c物流3天没动了,客服也不理人\uff0c太慢了\uff01",
]
INTENT_TARGETS = [1, -100, 3]
SENTIMENT_TARGETS = [1, 2, -100]
INTENT_WEIGHTS = [0.5, 0.75, 1.25, 2.0, 0.5]
LEFT = ["怎么退货", "什么时候发货"]
RIGHT = ["请问退货要怎么办\uff1f", "订单哪天能寄出"]
TEMPERATURE = 0.05
LEARNING_RATE, BETAS, EPSILON, WEIGHT_DECAY, MAX_NORM = 1e-3, (0.9, 0.999), 1e-8, 0.01, 1.0


def decays(name):
    return not name.endswith(".bias") and "LayerNorm" not in name


def compute(tokenizer, dtype):
    """Everything of expected.json, as tensors and numbers."""
    model = MultiTask(dtype).train()  # every dropout is 0
    ids, mask = padded(tokenizer, TEXTS)
    left, left_mask = padded(tokenizer, LEFT)
    right, right_mask = padded(tokenizer, RIGHT)
    result = {"input_ids": ids, "attention_mask": mask}

    with torch.no_grad():
        a, b = model(left, left_mask)["embedding"], model(right, right_mask)["embedding"]
        similarity = a @ b.T / TEMPERATURE
        diagonal = torch.arange(len(LEFT))
        ways = [nn.functional.cross_entropy(s, diagonal) for s in (similarity, similarity.T)]
        result["contrastive"] = {
            "left_input_ids": left, "left_attention_mask": left_mask, "left_embedding": a,
            "right_input_ids": right, "right_attention_mask": right_mask, "right_embedding": b,
            "loss": (ways[0] + ways[1]) / 2,
        }

    intent_loss = nn.CrossEntropyLoss(weight=torch.tensor(INTENT_WEIGHTS, dtype=dtype), ignore_index=-100)
    sentiment_loss = nn.CrossEntropyLoss(ignore_index=-100)

    def losses(output):
        parts = (
            intent_loss(output["intent_logits"], torch.tensor(INTENT_TARGETS)),
            sentiment_loss(output["sentiment_logits"], torch.tensor(SENTIMENT_TARGETS)),
        )
        return {"intent": parts[0], "sentiment": parts[1], "total": parts[0] + parts[1]}

    output = model(ids, mask)
    result["hidden_states"] = [state.detach() for state in output["hidden_states"]]
    for key in ["pooled", "embedding", "intent_logits", "sentiment_logits"]:
        result[key] = output[key].detach()
    before = losses(output)
    result["loss_before"] = {key: value.detach() for key, value in before.items()}

    named = model.parameters_by_name()
    before["total"].backward()
    gradients = {name: None if p.grad is None else p.grad.norm() for name, p in named.items()}
    result["gradient_norm"] = nn.utils.clip_grad_norm_(model.parameters(), MAX_NORM)
    optimizer = torch.optim.AdamW(
        [
            {"params": [p for name, p in named.items() if decays(name)], "weight_decay": WEIGHT_DECAY},
            {"params": [p for name, p in named.items() if not decays(name)], "weight_decay": 0.0},
        ],
        lr=LEARNING_RATE, betas=BETAS, eps=EPSILON,
    )
    optimizer.step()
    with torch.no_grad():
        result["loss_after"] = losses(model(ids, mask))
        result["parameters"] = {
            name: {
                "shape": list(p.shape),
                "trained": gradients[name] is not None,
                "gradient_norm": gradients[name],
                "sum": p.sum(), "sum_of_squares": p.square().sum(), "first": p.flatten()[:8].clone(),
                "all": p.clone(),
            }
            for name, p in named.items()
        }
    return result


def number(value):
    if isinstance(value, int):
        return value
    # Below this only the noise of float64 is left: the gradient of a key bias is 0, since softmax does not see shifts.
    if abs(value) < 1e-13:
        return 0.0
    assert math.isfinite(value)
    return float(f"{value:.7g}")


def plain(value):
    if isinstance(value, torch.Tensor):
        return plain(value.tolist())
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items() if key != "all"}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return number(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else value


def write_json(path, content):
    """One line for each top-level key, and for each item of a list or map of objects."""

    def line(value):
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))

    lines = []
    for key, value in content.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            text = "[\n  " + ",\n  ".join(map(line, value)) + "\n ]"
        else:
            text = line(value)
        lines.append(f" {line(key)}: {text}")
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8", newline="\n")


def write_expected():
    tokenizer = Tokenizer.from_file(str(FOLDER / "tokenizer.json"))
    exact = compute(tokenizer, torch.float64)
    expected = {
        "about": "Written by make_golden.py, see there. float64 results, 7 significant digits.",
        "intents": INTENTS,
        "sentiments": SENTIMENTS,
        "texts": TEXTS,
        **{key: exact[key] for key in ["input_ids", "attention_mask"]},
        "embeddings_output": exact["hidden_states"][0],
        "layer_outputs": exact["hidden_states"][1:],
        **{key: exact[key] for key in ["pooled", "embedding", "intent_logits", "sentiment_logits"]},
        "intent_targets": INTENT_TARGETS,
        "sentiment_targets": SENTIMENT_TARGETS,
        "intent_class_weights": INTENT_WEIGHTS,
        "loss_before": exact["loss_before"],
        "gradient_norm": exact["gradient_norm"],
        "optimizer": {
            "learning_rate": LEARNING_RATE, "beta1": BETAS[0], "beta2": BETAS[1], "epsilon": EPSILON,
            "weight_decay": WEIGHT_DECAY, "max_norm": MAX_NORM,
        },
        "parameters_after": [{"name": name, **values} for name, values in exact["parameters"].items()],
        "loss_after": exact["loss_after"],
        "contrastive": {"left": LEFT, "right": RIGHT, "temperature": TEMPERATURE, **exact["contrastive"]},
    }
    write_json(HERE / "expected.json", plain(expected))

    single = compute(tokenizer, torch.float32)
    off = lambda a, b: float((a.double() - b.double()).abs().max())  # noqa: E731
    print("largest differences of a float32 run:")
    for index, (a, b) in enumerate(zip(exact["hidden_states"], single["hidden_states"], strict=True)):
        real = exact["attention_mask"].bool()
        print(f"  hidden state {index}: {off(a[real], b[real]):.1e}")
    for key in ["pooled", "embedding", "intent_logits", "sentiment_logits", "gradient_norm"]:
        print(f"  {key}: {off(exact[key], single[key]):.1e}")
    for key in ["loss_before", "loss_after"]:
        print(f"  {key}: {off(exact[key]['total'], single[key]['total']):.1e}")
    print(f"  contrastive: {off(exact['contrastive']['loss'], single['contrastive']['loss']):.1e}")
    print(f"  losses: {float(exact['loss_before']['total']):.4f} -> {float(exact['loss_after']['total']):.4f}",
          f"gradient norm {float(exact['gradient_norm']):.4f}, contrastive {float(exact['contrastive']['loss']):.4f}")
    worst = sorted(
        ((off(values["all"], single["parameters"][name]["all"]), name) for name, values in exact["parameters"].items()),
        reverse=True,
    )
    for difference, name in worst[:8]:
        values, other = exact["parameters"][name], single["parameters"][name]
        print(f"  {name} after the step: {difference:.1e} (first 8: {off(values['first'], other['first']):.1e},"
              f" sum {off(values['sum'], other['sum']):.1e},"
              f" sum of squares {off(values['sum_of_squares'], other['sum_of_squares']):.1e})")


# --------------------------------------------------------------------------------------------------------------- tokens

TOKEN_TEXTS = [
    ("plain", "请问我的订单什么时候发货"),
    ("digit beside a character", "3天还没到"),
    ("full-width marks", "你好\uff0c在吗\uff1f我要退货\uff01\uff08急\uff09"),
    ("ASCII marks", "你好,在吗?订单号:12345..."),
    ("quotes and dashes", "他说“明天到”——真的吗…"),
    ("emoji in the vocabulary", "谢谢👍"),
    ("the same emoji twice: its ## piece is in the vocabulary", "好😀😀"),
    ("an emoji twice without ## piece", "差😡😡"),
    ("emoji out of the vocabulary", "谢谢🥺"),
    ("emoji of Unicode 14", "烦🫠"),
    ("emoji with a variation selector", "喜欢❤\ufe0f"),
    ("emoji sequence with zero-width joiners", "家人👨\u200d👩\u200d👧到了"),
    ("one character", "好"),
    ("one character out of the vocabulary", "龘"),
    ("a character outside the basic plane", "𠮷家"),
    ("Traditional", "請問我的訂單運費是多少,還沒到貨嗎"),
    ("Latin words in pieces", "iPhone15Pro和WiFi的App"),
    ("Latin words with letters out of the vocabulary", "señor Straße Ωmega"),
    ("accents are stripped", "café CAFÉ"),
    ("full-width letters and digits", "\uff21\uff22\uff23\uff11\uff12\uff13号"),
    ("the full-width yen sign and tilde are no punctuation", "\uffe5199优惠\uff5e\uff5e"),
    ("empty", ""),
    ("whitespace only", " \t\r\n "),
    ("ideographic and no-break space", "我\u3000要\u00a0退\u3000货"),
    ("newlines inside", "你好\n我要\r\n换货\t谢谢"),
    ("zero-width space, joiner and byte order mark", "退\u200b货\u200d换\ufeff货"),
    ("control and replacement characters", "退\u0000货\u0007换\ufffd货"),
    ("[MASK] typed by a user", "请把[MASK]退给我"),
    ("special tokens typed by a user", "[CLS]你好[SEP][PAD][UNK]"),
    ("[mask] in lower case is no special token", "请把[mask]退给我"),
    ("a contract token that this vocabulary lacks", "我的手机是[手机号]"),
    ("only out of the vocabulary", "饕餮魑魅魍魉"),
    ("a phone number and a mail address", "电话13800138000 abc@sf.com"),
    ("a word of 101 letters", "a" * 101),
    ("a word of 100 letters, longer than 64 tokens", "a" * 100),
    ("100 characters, longer than 64 tokens", "我要退货换货查询物流" * 10),
    ("62 characters: 64 tokens, just fits", "我要退货换货查询物流" * 6 + "你好"),
    ("63 characters: one too many", "我要退货换货查询物流" * 6 + "你好吗"),
]


def token_rows(tokenizer):
    rows = []
    for note, text in TOKEN_TEXTS:
        full = tokenizer(text)["input_ids"]
        ids = tokenizer(text, max_length=MAX_LENGTH, truncation=True)["input_ids"]
        row = {"note": note, "text": text, "ids": ids}
        if ids != full:
            row["full_ids"] = full
        rows.append(row)
    return rows


def write_tokens():
    from_json = token_rows(BertTokenizerFast.from_pretrained(FOLDER))
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(FOLDER / "vocab.txt", folder)
        from_vocab = token_rows(BertTokenizerFast.from_pretrained(folder))
    # transformers may rebuild a tokenizer instead of reading tokenizer.json: the file itself must say the same.
    plain_tokenizer = Tokenizer.from_file(str(FOLDER / "tokenizer.json"))
    for row in from_json:
        assert plain_tokenizer.encode(row["text"]).ids == row.get("full_ids", row["ids"]), row
    print("vocab.txt alone gives", "the same ids" if from_json == from_vocab else "OTHER ids")
    write_json(
        HERE / "tokens.json",
        {
            "about": "Written by make_golden.py with transformers BertTokenizerFast on tiny-bert/, special tokens included,"
            " on the text as it stands (no text contract). ids: truncated to 64, which keeps the beginning and [SEP];"
            " full_ids: not truncated, only where that differs. The same texts in both sets; `note` says what a text is for.",
            "max_length": MAX_LENGTH,
            "from_tokenizer_json": from_json,
            "from_vocab_txt": from_vocab,
        },
    )


def main():
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    entries = vocabulary()
    write_tokenizer(entries)
    write_model(len(entries))
    write_expected()
    write_tokens()
    files = [*FOLDER.iterdir(), *HERE.glob("*.json"), *HERE.glob("*.safetensors")]
    for file in files:
        file.chmod(0o644)
    print(f"{len(entries)} vocabulary entries; {sum(p.stat().st_size for p in files):,} bytes in {len(files)} files")


if __name__ == "__main__":
    main()
