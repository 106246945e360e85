// The recordings that are kept of somebody, in a dialog; each of them can be removed.

import { post } from "./api.js";
import { ask, clock, el } from "./dom.js";
import { statusLine } from "./status.js";

export function showKept(name) {
  const state = statusLine(), table = el("div", { class: "wide kept" });
  const done = el("button", { type: "button", onclick: () => sheet.close() }, "Close");
  const sheet = el("dialog", { class: "broad", "aria-label": `Recordings of ${name}` },
    el("h2", {}, `Recordings of ${name}`),
    el("p", { class: "quiet" }, "Likeness is the cosine with the nearest other recording; a low one may be somebody else's."),
    table, state.root, el("div", { class: "row end" }, done));

  async function load(path, fields) {
    state.busy("Reading …");
    try {
      fill(await post(path, fields));
      state.say("");
    } catch (error) {
      state.fail(error);
    }
    done.focus();
  }

  async function remove(recording) {
    const body = el("p", {}, `What is kept of the recording of ${when(recording)} is removed, every byte of it. This cannot be undone.`);
    if (await ask("Remove this recording?", body, [["", "Keep"], ["yes", "Remove", "danger"]]) === "yes") {
      await load("/api/people/recordings/forget", { name, recording: recording.id });
    }
  }

  function fill({ recordings, apart }) {
    const alone = recordings.length < 2;
    const rows = recordings.map((recording) => el("tr", {},
      el("td", {}, when(recording), el("small", {}, recording.note || recording.id)),
      el("td", {}, clock(recording.seconds)),
      el("td", { class: !alone && recording.likeness < apart ? "error" : "" }, alone ? "" : recording.likeness.toFixed(2)),
      el("td", {}, el("button", { type: "button", class: "danger", disabled: alone,
        "aria-label": `Remove the recording of ${when(recording)}`, onclick: () => remove(recording) }, "Remove"))));
    table.replaceChildren(el("table", {}, el("thead", {}, el("tr", {},
      ["Added", "Audio", "Likeness", ""].map((text) => el("th", { scope: "col" }, text)))), el("tbody", {}, rows)));
  }

  document.body.append(sheet);
  sheet.showModal();
  load("/api/people/recordings", { name });
  return new Promise((resolve) => sheet.addEventListener("close", () => { sheet.remove(); resolve(); }));
}

const when = ({ date }) => date.slice(0, 16).replace("T", " ");
