// The addresses that are told of tickets, and what did not reach them. For admins.

import { address as path, call, get, post } from "./api.js";
import { button, choice, empty, field, make, pill, table } from "./dom.js";
import { ask } from "./dialog.js";
import { attempt, say } from "./notice.js";
import { EVENTS, clock, shortId } from "./words.js";

const SHOWN = 50;
const webhookPath = (webhook, action = "") => "/v1/webhooks/" + encodeURIComponent(webhook.webhook_id) + (action && "/" + action);

const PROBLEMS = { late: "10 秒内没有回应", unreachable: "连不上" };

// What came of an attempt, in words.
function outcome({ status, problem }) {
  if (problem === "status") return "返回状态码 " + status;
  return PROBLEMS[problem] || problem || "—";
}

const eventsText = (events) => (events.length ? events.map((event) => EVENTS[event] || event).join("、") : "全部");

// Shows a secret once, with a way to take it along.
function showSecret(secret) {
  const input = make("input", { value: secret, readonly: true, "aria-label": "签名密钥", onfocus: () => input.select() });
  const dialog = make("dialog", { class: "secret", "aria-label": "签名密钥", onclose: () => dialog.remove() },
    make("form", { method: "dialog" },
      make("h2", {}, "签名密钥"),
      make("p", { class: "quiet" }, "接收方用它核对签名。只显示这一次，请现在复制并妥善保存。"),
      input,
      make("div", { class: "row end" },
        button("复制", async () => {
          try {
            await navigator.clipboard.writeText(secret);
            say("已复制");
          } catch {
            // Without https a browser lets no page write there.
            input.select();
            say("浏览器不允许自动复制，请按 Ctrl+C");
          }
        }, { class: "copy" }),
        button("我已保存", null, { type: "submit", class: "main" }))));
  document.body.append(dialog);
  dialog.showModal();
  input.focus();
}

export function showWebhooks(container) {
  const list = make("div", { class: "webhooks" });
  const lost = make("div", { class: "lost" });
  const address = make("input", { name: "address", type: "url", required: true, maxlength: 2000, autocomplete: "off", placeholder: "接收通知的网址" });
  const ticks = Object.entries(EVENTS).map(([event, label]) => {
    const tick = make("input", { type: "checkbox", name: event });
    return [tick, make("label", { class: "tick" }, tick, label)];
  });
  const form = make("form", {
    class: "card form wide",
    onsubmit: (event) => {
      event.preventDefault();
      attempt(async () => {
        const events = ticks.filter(([tick]) => tick.checked).map(([tick]) => tick.name);
        const made = await post("/v1/webhooks", { address: address.value.trim(), events });
        form.reset();
        showSecret(made.secret);
        await load();
      });
    },
  },
  make("h2", {}, "添加对接地址"),
  field("网址", address),
  make("details", {}, make("summary", {}, "只通知这些事件（都不选即全部）"), make("div", { class: "fields" }, ticks.map(([, label]) => label))),
  make("div", { class: "row" }, button("添加", null, { type: "submit", class: "main" })));

  const state = choice([["dead", "推送失败"], ["pending", "等待推送"], ["done", "已送达"]], "dead", { "aria-label": "推送状态", onchange: () => attempt(loadLost) });
  const again = button("全部重新发送", () => attempt(async () => {
    const { retried } = await post("/v1/webhook-deliveries/retry-dead");
    say(retried + " 条推送已重新发送");
    await load();
  }), { class: "small" });
  container.replaceChildren(make("div", { class: "sheet" },
    make("h1", {}, "对接"), list, form,
    make("div", { class: "row" }, make("h2", {}, "推送记录"), state, again), lost));

  function row(webhook) {
    const change = (what, done) => attempt(async () => {
      await call("PATCH", webhookPath(webhook), what);
      say(done);
      await load();
    });
    return [
      make("span", {}, webhook.address, webhook.active ? null : pill("disabled", "已停用")),
      eventsText(webhook.events),
      webhook.failures ? pill("mood-negative", "连续失败 " + webhook.failures + " 次") : "正常",
      clock(webhook.created_at),
      make("div", { class: "row" },
        button("测试", () => attempt(async () => {
          const answer = await post(webhookPath(webhook, "test"));
          if (answer.delivered) say("对方已收到，用时 " + answer.milliseconds + " 毫秒");
          else say("没有送达：" + outcome(answer), "alarm", "请检查网址，以及对方的服务是否正常。");
        }), { class: "small test" }),
        button(webhook.active ? "停用" : "启用", () => change({ active: !webhook.active }, webhook.active ? "已停用" : "已启用"), { class: "small switch" }),
        button("删除", () => ask("删除这个对接地址？", webhook.address + " 不再收到通知，没有送达的推送也一并删除。", "删除", [], async () => {
          await call("DELETE", webhookPath(webhook));
          await load();
        }), { class: "small danger" })),
    ];
  }

  function lostRow(delivery) {
    return [
      make("a", { href: "#/ticket/" + delivery.ticket_id }, shortId(delivery.ticket_id)),
      EVENTS[delivery.event] || delivery.event,
      clock(delivery.created_at),
      delivery.attempts + " 次",
      outcome(delivery),
      delivery.state === "dead" ? button("重新发送", () => attempt(async () => {
        await post("/v1/webhook-deliveries/" + encodeURIComponent(delivery.delivery_id) + "/retry");
        say("已重新发送");
        await loadLost();
      }), { class: "small again" }) : delivery.next_attempt_at ? clock(delivery.next_attempt_at) + " 再试" : "",
    ];
  }

  async function loadLost() {
    const { deliveries, next_cursor: more } = await get(path("/v1/webhook-deliveries", { state: state.value, limit: SHOWN }));
    again.hidden = state.value !== "dead" || !deliveries.length;
    lost.replaceChildren(
      deliveries.length ? table(["工单", "事件", "时间", "已尝试", "结果", "操作"], deliveries.map(lostRow), "推送记录") : empty(state.value === "dead" ? "没有失败的推送" : "没有推送"),
      more ? make("p", { class: "quiet" }, "只显示最近 " + SHOWN + " 条") : "");
  }

  async function load() {
    const { webhooks } = await get("/v1/webhooks");
    list.replaceChildren(webhooks.length
      ? table(["网址", "事件", "状态", "添加时间", "操作"], webhooks.map(row), "对接地址")
      : empty("还没有对接地址。添加后，工单的每个变化都会推送过去。"));
    await loadLost();
  }

  attempt(load);
}
