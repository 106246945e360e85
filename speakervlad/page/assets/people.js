// Who is enrolled, and whose voice a recording is.

import { example, get, post } from "./api.js";
import { ask, clock, el } from "./dom.js";
import { enrolAsking } from "./enrol.js";
import { showKept } from "./kept.js";
import { certainty } from "./scale.js";
import { recordingSlot, tryExamples } from "./slot.js";
import { statusLine } from "./status.js";

const RATES = [[0.1, "1 in 10"], [0.05, "1 in 20"], [0.01, "1 in 100"], [0.001, "1 in 1,000"]];

export function openPeople(root) {
  const enrolling = statusLine(), identifying = statusLine(), listing = statusLine();
  const list = el("div", { id: "enrolled" }), answers = el("div", { id: "identified" });

  const name = el("input", { name: "person", autocomplete: "off", list: "known-names", maxlength: 200, required: true });
  const names = el("datalist", { id: "known-names" });
  const samples = recordingSlot({ title: "Recordings of this person", multiple: true, onchange: () => ready(),
    hint: "Of this person alone, ten seconds or more. Add other days, rooms and microphones later under the same name." });
  const enrol = el("button", { class: "primary", disabled: true }, "Enrol");
  const ready = () => { enrol.disabled = !samples.files.length || !name.value.trim(); };
  name.addEventListener("input", ready);
  const form = el("form", { class: "card", onsubmit: async (event) => {
    event.preventDefault();
    enrol.disabled = true;
    enrolling.busy("Listening …");
    try {
      const added = await enrolAsking({ name: name.value, recording: samples.files });
      if (!added) {
        enrolling.say("Nothing was enrolled.");
        ready();
        return;
      }
      samples.clear();
      name.value = "";
      name.focus();
      await refresh();
      enrolling.say([`${added.name}: ${added.new} new recording${added.new === 1 ? "" : "s"}.`,
        added.known.length ? ` Known already: ${added.known.join(", ")}.` : "",
        added.elsewhere.length ? ` Also enrolled as ${added.elsewhere.join(", ")}: is that right?` : "",
        ...added.notes.map((note) => ` ${note}.`)].join(""));
    } catch (error) {
      enrolling.fail(error);
    }
    ready();
  } }, el("h2", {}, "Enrol"), el("label", {}, "Name", name, names), el("br"), samples.root,
  el("div", { class: "row end" }, enrol), enrolling.root);

  const rate = el("select", { onchange: () => identify() }, RATES.map(([value, text]) =>
    el("option", { value, selected: value === 0.01 }, text)));
  let run = 0;
  const unknown = recordingSlot({ title: "Recordings to identify", multiple: true, onchange: () => identify(),
    hint: "Each of one voice, ten minutes at most. Drop many at once." });

  async function identify() {
    const mine = ++run;
    answers.replaceChildren();
    identifying.say("");
    if (!unknown.files.length) return;
    const { files } = unknown;
    for (const [at, file] of files.entries()) {
      identifying.busy(files.length > 1 ? `Listening to ${at + 1} of ${files.length} …` : "Listening …");
      let found;
      try {
        ({ recordings: [found] } = await post("/api/identify", { recording: file, fpir: rate.value }));
      } catch (error) {
        if (mine !== run) return;
        // What names no file is wrong with the list or the server, for all files.
        if (files.length === 1 || !error.message.includes(file.name)) { identifying.fail(error); return; }
        found = { name: file.name, error: error.message };
      }
      if (mine !== run) return;
      answers.append(answer(found));
    }
    identifying.say("");
  }

  async function change(path, fields) {
    const buttons = () => [...list.querySelectorAll("button")], held = buttons().indexOf(document.activeElement);
    try {
      show(await post(path, fields));
      if (held >= 0) (buttons()[held] || buttons().at(-1) || name).focus();
      listing.say("");
    } catch (error) {
      listing.fail(error);
    }
  }

  async function rename(person) {
    const input = el("input", { value: person, maxlength: 200, autofocus: true });
    const done = await ask(`Rename ${person}`, el("label", {}, "New name", input), [["", "Keep"], ["yes", "Rename", "primary"]]);
    if (done === "yes") await change("/api/people/rename", { name: person, new: input.value });
  }

  async function forget(person) {
    const body = el("p", {}, "The voice is removed from the file, every byte of it. This cannot be undone.");
    if (await ask(`Forget ${person}?`, body, [["", "Keep"], ["yes", "Forget", "danger"]]) === "yes") {
      await change("/api/people/forget", { name: person });
    }
  }

  async function kept(person) {
    const row = [...list.querySelectorAll("button")].indexOf(document.activeElement);
    await showKept(person);
    await refresh();
    list.querySelectorAll("button")[row]?.focus();
  }

  function show({ people, where }) {
    names.replaceChildren(...people.map((person) => el("option", { value: person.name })));
    if (!people.length) {
      list.replaceChildren(el("p", { class: "empty" }, "Nobody is enrolled yet."), tryExamples(async () => {
        for (const person of ["Alex", "Jo"]) {
          await post("/api/people/add", { name: person, recording: await example(`${person.toLowerCase()}-1`) });
        }
        await refresh();
        unknown.put([await example("alex-2"), await example("sam-1")]);
      }), el("p", { class: "quiet" }, `Kept in ${where}`));
      return;
    }
    const rows = people.map((person) => el("tr", {}, el("td", {}, el("b", {}, person.name),
      person.num_voices > 1 ? el("small", {}, `${person.num_voices} voices far apart`) : ""),
    el("td", {}, `${person.num_recordings} recording${person.num_recordings === 1 ? "" : "s"}`), el("td", {}, clock(person.seconds)), el("td", {}, person.last_date.slice(0, 10)),
    el("td", {}, el("div", { class: "row" },
      el("button", { type: "button", "aria-label": `Recordings of ${person.name}`, onclick: () => kept(person.name) }, "Recordings"),
      el("button", { type: "button", "aria-label": `Rename ${person.name}`, onclick: () => rename(person.name) }, "Rename"),
      el("button", { type: "button", class: "danger", "aria-label": `Forget ${person.name}`, onclick: () => forget(person.name) }, "Forget")))));
    list.replaceChildren(el("div", { class: "wide" }, el("table", {}, el("thead", {}, el("tr", {},
      ["Name", "Kept of", "Audio", "Last", ""].map((text) => el("th", { scope: "col" }, text)))), el("tbody", {}, rows))),
    el("p", { class: "quiet" }, `${people.length} ${people.length === 1 ? "person" : "people"}, kept in ${where}`));
  }

  async function refresh() {
    try { show(await get("/api/people")); } catch (error) { listing.fail(error); }
  }

  root.append(el("h1", {}, "Whose voice is it?"),
    el("p", { class: "lead" }, "Enrol people once; their voices are recognised later, and strangers stay unknown."),
    el("div", { class: "two top" }, form,
      el("div", { class: "card" }, el("h2", {}, "Identify"), unknown.root, el("br"),
        el("label", { class: "short" }, "Strangers who may get a name", rate), identifying.root, answers)),
    el("div", { class: "card" }, el("h2", {}, "Enrolled"), listing.root, list));
  return { shown: refresh };
}

function answer(found) {
  if (found.error) {
    return el("article", { class: "answer" },
      el("div", { class: "verdict no", role: "status" }, el("b", {}, "No answer"), el("span", { class: "quiet" }, found.name)),
      el("p", { class: "error", role: "alert" }, found.error));
  }
  const top = Math.max(found.threshold * 1.3, ...found.candidates.map(({ score }) => score));
  const share = (score) => `${Math.max(0, Math.min(100, (100 * score) / top))}%`;
  return el("article", { class: "answer" },
    el("div", { class: `verdict ${found.identified ? "yes" : "no"}`, role: "status" }, el("b", {}, found.identified || "Unknown"),
      el("span", { class: "quiet" }, found.name)),
    found.notes.map((note) => el("p", { class: "note" }, note)),
    el("ul", { class: "candidates" }, found.candidates.map(({ name, score, probability }) => el("li", {},
      el("span", { class: "name" }, name),
      el("span", { class: "track", role: "img", "aria-label": `score ${score.toFixed(1)}, named from ${found.threshold.toFixed(1)} on` },
        el("i", { class: score >= found.threshold ? "known" : "", style: { width: share(score) } }),
        el("u", { style: { left: share(found.threshold) } })),
      el("span", { class: "value" }, probability === null ? score.toFixed(2) : certainty(probability))))),
    el("p", { class: "quiet" }, `Named from a score of ${found.threshold.toFixed(2)} on (the line), at the present size of the list.`));
}
