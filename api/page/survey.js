// The survey page. Nothing from the server is ever read as HTML.
"use strict";

// What is asked, the scores from the first on with their words, and what may have been the reason, by the highest score that each
// list is for.
const KINDS = {
  csat: {
    question: "您对本次服务满意吗？",
    thanks: "谢谢您的评价！",
    first: 1,
    words: ["很不满意", "不满意", "一般", "满意", "很满意"],
    reasons: [
      [2, ["回复太慢", "问题没有解决", "态度不好", "要反复说明", "被转来转去"]],
      [3, ["回复有点慢", "只解决了一部分", "说明不够清楚"]],
      [5, ["回复快", "解决了问题", "态度好", "说明清楚"]],
    ],
  },
  nps: {
    question: "您有多大可能把我们推荐给朋友？",
    hint: "0 分表示完全不可能，10 分表示非常可能。",
    thanks: "谢谢您的回答！",
    first: 0,
    words: Array(11).fill(""),
    reasons: [
      [6, ["商品质量", "价格", "物流", "客服", "使用不方便"]],
      [8, ["商品还可以", "价格可以再低", "物流可以再快", "服务可以更好"]],
      [10, ["商品好", "价格实惠", "物流快", "服务好"]],
    ],
  },
};

const form = document.getElementById("survey");
const kind = KINDS[form.dataset.kind];
const reasons = document.getElementById("reasons");
const problem = document.getElementById("problem");
const submit = form.querySelector("button");
let shown = null;

const score = () => form.querySelector("input[name=score]:checked")?.value;

// A choice with its label; `texts` are pairs of class and text.
function choice(type, name, value, texts) {
  const label = document.createElement("label");
  const input = document.createElement("input");
  Object.assign(input, { type, name, value });
  label.append(input, ...texts.map(([className, text]) => Object.assign(document.createElement("span"), { className, textContent: text })));
  return label;
}

function ask() {
  document.getElementById("question").textContent = kind.question;
  document.querySelector("#thanks h1").textContent = kind.thanks;
  const hint = document.getElementById("hint");
  hint.textContent = kind.hint || "";
  hint.hidden = !kind.hint;
  const scores = form.querySelector(".scores");
  scores.classList.add(form.dataset.kind);
  scores.append(...kind.words.map((word, index) => {
    const number = String(kind.first + index);
    return choice("radio", "score", number, [["number", number], ...(word ? [["word", word]] : [])]);
  }));
}

// The reasons that fit the score. Those of another list are forgotten.
function showReasons() {
  const [, words] = kind.reasons.find(([most]) => Number(score()) <= most);
  if (words === shown) return;
  shown = words;
  reasons.querySelector(".reasons").replaceChildren(...words.map((word) => choice("checkbox", "reason", word, [["", word]])));
  reasons.hidden = false;
}

function complain(text) {
  problem.textContent = text;
  problem.hidden = false;
}

async function send() {
  const comment = document.getElementById("comment").value.trim();
  const body = {
    score: Number(score()),
    reasons: Array.from(form.querySelectorAll("input[name=reason]:checked"), (box) => box.value),
  };
  if (comment) body.comment = comment;
  const token = location.pathname.split("/").pop();
  let response;
  let answer = null;
  try {
    response = await fetch("/v1/surveys/" + token, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(body),
      cache: "no-store",
    });
    answer = await response.json();
  } catch { /* no answer, or none of ours: told below */ }
  if (response?.ok) {
    form.hidden = true;
    const thanks = document.getElementById("thanks");
    thanks.hidden = false;
    thanks.focus();
  } else if (answer?.error) {
    complain(answer.error.message + "。" + answer.error.hint);
  } else {
    complain("没有提交成功，请检查网络后重试。");
  }
}

form.addEventListener("change", (event) => {
  if (event.target.name !== "score") return;
  problem.hidden = true;
  showReasons();
});

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  if (score() === undefined) {
    complain("请先选择一个分数。");
    form.querySelector("input[name=score]").focus();
    return;
  }
  problem.hidden = true;
  submit.disabled = true;
  await send();
  submit.disabled = false;
});

ask();
