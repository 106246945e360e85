// The four tabs, the token, the theme.

import { get, setMostBytes, setToken, takeToken } from "./api.js";
import { one } from "./dom.js";
import { openConversation } from "./conversation.js";
import { openLive } from "./live.js";
import { openPeople } from "./people.js";
import { openReport } from "./report.js";
import { openVerify } from "./verify.js";

const PANELS = { verify: openVerify, people: openPeople, conversation: openConversation, live: openLive, report: openReport };
const opened = {};
let about = null;

function select(name, focus = false) {
  for (const panel of Object.keys(PANELS)) {
    const tab = one(`#tab-${panel}`), isChosen = panel === name;
    tab.setAttribute("aria-selected", String(isChosen));
    tab.tabIndex = isChosen ? 0 : -1;
    one(`#${panel}`).hidden = !isChosen || !about;
    if (isChosen && focus) tab.focus();
  }
  if (!about) return;
  opened[name] ??= PANELS[name](one(`#${name}`), about) || {};
  opened[name].shown?.();
}

one(".tabs").addEventListener("click", ({ target }) => {
  if (target.role === "tab" || target.getAttribute("role") === "tab") select(target.id.slice(4));
});
one(".tabs").addEventListener("keydown", (event) => {
  const names = Object.keys(PANELS), at = names.indexOf(document.activeElement.id.slice(4));
  const moves = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: names.length - 1 };
  if (!(event.key in moves)) return;
  event.preventDefault();
  select(names[(moves[event.key] + names.length) % names.length], true);
});

const THEMES = { "": "◐ system", light: "○ light", dark: "● dark" };
function showTheme(theme) {
  document.documentElement.dataset.theme = theme;
  one("#theme").textContent = THEMES[theme];
  one("#theme").setAttribute("aria-label", `Theme: ${THEMES[theme].slice(2)}`);
}
one("#theme").addEventListener("click", () => {
  const names = Object.keys(THEMES), now = document.documentElement.dataset.theme || "";
  const next = names[(names.indexOf(now) + 1) % names.length];
  localStorage.setItem("speakervlad.theme", next);
  showTheme(next);
});
showTheme(THEMES[localStorage.getItem("speakervlad.theme")] ? localStorage.getItem("speakervlad.theme") : "");

// A file dropped beside its place must not replace the page.
for (const kind of ["dragover", "drop"]) window.addEventListener(kind, (event) => event.preventDefault());

async function enter() {
  try {
    about = await get("/api/about");
  } catch (error) {
    one("#door").hidden = false;
    one("#verify").hidden = true;
    one("#door-error").textContent = error.message;
    one("#door-error").hidden = false;
    return;
  }
  setMostBytes(about.most_bytes);
  one("#door").hidden = true;
  one("#encoder").textContent = `encoder ${about.encoder}`;
  select(one("[aria-selected=true]").id.slice(4));
}

one("#unlock").addEventListener("submit", (event) => {
  event.preventDefault();
  const given = event.target.token.value.trim();
  setToken(given.split("token=").pop());
  enter();
});
takeToken();
enter();
