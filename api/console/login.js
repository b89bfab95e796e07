// Logging in: the first time, and whenever the login has ended while somebody works.

import { call, rememberToken } from "./api.js";
import { button, field, make } from "./dom.js";

const place = document.getElementById("log-in");

// Covers the page until somebody has logged in. What lies below stays as it is, with everything that was being written.
export function askForLogIn(current) {
  return new Promise((done) => {
    let isDone = false;
    const login = make("input", { name: "login", autocomplete: "username", required: true, autofocus: true, maxlength: 64, autocapitalize: "none", spellcheck: "false" });
    const password = make("input", { name: "password", type: "password", autocomplete: "current-password", required: true, maxlength: 256 });
    const problem = make("p", { class: "problem", role: "alert" });
    const enter = button("登录", null, { type: "submit", class: "main" });
    const form = make("form", {
      class: "card form",
      onsubmit: async (event) => {
        event.preventDefault();
        enter.disabled = true;
        problem.textContent = "";
        try {
          const answer = await call("POST", "/v1/login", { login: login.value, password: password.value });
          rememberToken(answer.csrf_token);
          // The page below belongs to somebody else.
          if (current && current() && current().user_id !== answer.user.user_id) return location.reload();
          isDone = true;
          place.close();
          done();
        } catch (failure) {
          problem.textContent = failure.message + (failure.hint ? "。" + failure.hint : "");
          password.value = "";
          password.focus();
        } finally {
          enter.disabled = false;
        }
      },
    },
    make("span", { class: "mark large", "aria-hidden": "true" }, "应"),
    make("h1", {}, "应答客服台"),
    current && current() ? make("p", { class: "quiet" }, "登录已失效，请重新登录；登录后回到原来的位置。") : null,
    field("登录名", login), field("密码", password), problem, enter);
    place.replaceChildren(form);
    // A dialog lies above any other that is open. It is left by logging in, not by Escape.
    place.onclose = () => (isDone ? place.replaceChildren() : place.showModal());
    place.showModal();
  });
}
