// The survey page. Nothing from the server is ever read as HTML.
"use strict";

// What may have been the reason, by the highest score that each list is for.
const REASONS = {
  csat: [
    [2, ["回复太慢", "问题没有解决", "态度不好", "要反复说明", "被转来转去"]],
    [3, ["回复有点慢", "只解决了一部分", "说明不够清楚"]],
    [5, ["回复快", "解决了问题", "态度好", "说明清楚"]],
  ],
  nps: [
    [6, ["商品质量", "价格", "物流", "客服", "使用不方便"]],
    [8, ["商品还可以", "价格可以再低", "物流可以再快", "服务可以更好"]],
    [10, ["商品好", "价格实惠", "物流快", "服务好"]],
  ],
};

const form = document.getElementById("survey");
const reasons = document.getElementById("reasons");
const problem = document.getElementById("problem");
const submit = form.querySelector("button");
let shown = null;

const score = () => form.querySelector("input[name=score]:checked")?.value;

// The reasons that fit the score. Those of another list are forgotten.
function showReasons() {
  const [, words] = REASONS[form.dataset.kind].find(([most]) => Number(score()) <= most);
  if (words === shown) return;
  shown = words;
  reasons.querySelector(".reasons").replaceChildren(...words.map((word) => {
    const label = document.createElement("label");
    const box = document.createElement("input");
    box.type = "checkbox";
    box.name = "reason";
    box.value = word;
    const text = document.createElement("span");
    text.textContent = word;
    label.append(box, text);
    return label;
  }));
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

// A browser that goes back may have kept the choice.
if (score() !== undefined) showReasons();
