// Alerts: what rules tell supervisors, until one of them has seen it.

import { get, post } from "./api.js";
import { manages } from "./actions.js";
import { button, make, pill } from "./dom.js";
import { attempt, say } from "./notice.js";
import { PRIORITIES, clock, shortId } from "./words.js";

// The list, with the number of alerts beside its heading; nothing where there are none.
export function alertList(me) {
  const node = make("section", { class: "card form alerts", "aria-label": "提醒", hidden: true });

  const row = (alert) => make("li", { "data-id": alert.alert_id },
    pill("priority-" + alert.priority, PRIORITIES[alert.priority] || alert.priority),
    make("a", { href: "#/ticket/" + alert.ticket_id }, alert.intervention + "：" + (alert.category || "工单 " + shortId(alert.ticket_id))),
    make("span", { class: "quiet" }, [alert.assignee || "还没有人负责", clock(alert.created_at)].join(" · ")),
    manages(me) ? button("确认", () => attempt(async () => {
      await post("/v1/desk/alerts/" + encodeURIComponent(alert.alert_id) + "/acknowledge");
      say("提醒已确认");
      await load();
    }), { class: "small" }) : null);

  async function load() {
    const { alerts } = await get("/v1/desk/alerts");
    node.hidden = alerts.length === 0;
    node.replaceChildren(
      make("h2", {}, "提醒 ", make("span", { class: "badge", "aria-label": alerts.length + " 条未确认" }, String(alerts.length))),
      make("ul", {}, alerts.map(row)));
  }

  return { node, load };
}
