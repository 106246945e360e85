// What a panel is doing, what went wrong: one line that screen readers are told.

import { el } from "./dom.js";

export function statusLine() {
  const root = el("div", { class: "status", role: "status", "aria-live": "polite", hidden: true });
  return {
    root,
    busy(text) { root.hidden = false; root.replaceChildren(el("span", { class: "spin" }), text); },
    say(text) { root.hidden = !text; root.replaceChildren(text || ""); },
    fail(error) {
      root.hidden = false;
      root.replaceChildren(el("span", { class: "error", role: "alert" }, error.message));
    },
  };
}
