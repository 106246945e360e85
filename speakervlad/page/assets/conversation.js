// Who speaks when: lanes over the waveform, a player that follows, names, merging and splitting.

import { example, postForFile, postForLines } from "./api.js";
import { ask, clock, download, el, one } from "./dom.js";
import { enrolAsking } from "./enrol.js";
import { COLOURS, timeAxis } from "./pictures.js";
import { recordingSlot, tryExamples } from "./slot.js";
import { statusLine } from "./status.js";

const STEPS = { reading: "Reading the recording", searching: "Looking for speech", listening: "Listening to voices", drawing: "Drawing" };
const SHORTEST = 0.05, ROWS = 50;

export function openConversation(root) {
  const status = statusLine(), result = el("div", { id: "lanes" });
  const bar = el("progress", { max: 1, "aria-label": "progress" });
  const cancel = el("button", { type: "button" }, "Cancel");
  const waiting = el("div", { class: "card", hidden: true }, status.root, bar, el("div", { class: "row end" }, cancel));
  const count = el("input", { type: "number", min: 1, max: 50, placeholder: "found by itself" });
  const named = el("input", { type: "checkbox", checked: true }), separate = el("input", { type: "checkbox" });
  const start = el("button", { type: "button", class: "primary", disabled: true }, "Find who speaks");
  const failed = el("p", { class: "error", role: "alert", hidden: true });
  const slot = recordingSlot({ title: "A conversation", hint: "A meeting, an interview, a call: six hours and 512 MB at most.",
    onchange: (files) => { trial.hidden = files.length > 0; start.disabled = !files.length; stopAll(); } });
  let aborter = null;

  function stopAll() {
    aborter?.abort();
    result.replaceChildren();
    failed.hidden = true;
  }
  function fail(text) { failed.textContent = text; failed.hidden = false; }

  cancel.addEventListener("click", () => aborter?.abort());
  start.addEventListener("click", async () => {
    stopAll();
    const mine = (aborter = new AbortController()), [file] = slot.files;
    start.disabled = true;
    waiting.hidden = false;
    cancel.focus();
    bar.removeAttribute("value");
    status.busy("Sending the recording …");
    try {
      let answer = null;
      await postForLines("/api/conversation", { recording: file, speakers: count.value, names: named.checked ? 1 : "",
        separate: separate.checked ? 1 : "" }, mine.signal, (line) => {
        if (line.turns || line.error) answer = line;
        else {
          status.busy(`${STEPS[line.step] || line.step} …`);
          if (line.fraction) bar.value = line.fraction; else bar.removeAttribute("value");
        }
      });
      if (!answer) throw new Error("The server ended before the answer did. Its terminal says why.");
      if (answer.error) throw new Error(answer.error);
      result.replaceChildren(...(answer.notes ?? []).map((note) => el("p", { class: "note" }, note)),
        answer.turns.length ? lanes(answer, file, slot.player(0))
          : el("p", { class: "card empty" }, `Nobody speaks in these ${clock(answer.seconds)}.`));
    } catch (error) {
      fail(error.name === "AbortError" ? "Cancelled." : error.message);
    }
    if (aborter === mine) aborter = null;
    start.disabled = !slot.files.length;
    if (document.activeElement === cancel) (one(".strip", result) || start).focus();
    waiting.hidden = true;
  });

  const trial = tryExamples(async () => {
    slot.put([await example("conversation")]);
    start.click();
  });
  root.append(el("h1", {}, "Who speaks when?"),
    el("p", { class: "lead" }, "The speakers of a recording are told apart; people who are enrolled get their names."),
    el("div", { class: "two" }, slot.root,
      el("div", { class: "card" }, el("label", {}, "Number of speakers", count), el("br"),
        el("label", { class: "check" }, named, "Name the people who are enrolled"),
        el("label", { class: "check" }, separate, "Each channel is one speaker, as in recorded calls"),
        el("div", { class: "row end" }, start))), trial, failed, waiting, result);
}

function lanes(answer, file, audio) {
  const { seconds, waveform } = answer;
  let turns = answer.turns, past = [], selected = 0, marked = [], first = 0, zoom = 1;
  const colours = new Map(), lists = new Map(), status = statusLine();
  const colour = (name) => {
    if (!colours.has(name)) colours.set(name, COLOURS[colours.size % COLOURS.length]);
    return colours.get(name);
  };
  const speakers = () => {
    const found = new Map();
    for (const [start, end, name] of turns) found.set(name, (found.get(name) || 0) + end - start);
    return found;
  };
  speakers().forEach((_, name) => colour(name));

  const names = el("div", { class: "names" }), canvas = el("canvas", { height: 192 });
  const rows = el("div"), axis = el("div", {}, timeAxis(seconds)), head = el("span", { class: "head" });
  const strip = el("div", { class: "strip", tabindex: 0, role: "slider", "aria-label": "position in the recording",
    "aria-valuemin": 0, "aria-valuemax": Math.round(seconds) }, canvas, rows, axis, head);
  const scroller = el("div", { class: "scroller" }, strip), table = el("tbody");
  const range = el("span", { class: "quiet grow", role: "status" });
  const pages = el("div", { class: "row end" }, range, el("button", { type: "button", onclick: () => turnPages(-1) }, "Earlier turns"),
    el("button", { type: "button", onclick: () => turnPages(1) }, "Later turns"));
  const undo = el("button", { type: "button", disabled: true, onclick: () => { turns = past.pop(); draw(); } }, "Undo");
  const split = el("button", { type: "button", onclick: splitHere, title: "Cut the turn at the position of the player" }, "Split turn here");

  function edit(next) {
    past.push(turns);
    turns = next.filter(([start, end]) => end - start >= SHORTEST).sort((a, b) => a[0] - b[0] || a[1] - b[1]);
    draw();
  }

  function seek(time, play = false) {
    audio.currentTime = Math.max(0, Math.min(seconds, time));
    if (play) audio.play().catch(() => {});
    follow();
  }

  // Two may speak at once: all turns of a moment, and the one that began last.
  function turnsAt(time) { return turns.flatMap(([start, end], at) => (start <= time && time < end ? [at] : [])); }
  function turnAt(time) { return turnsAt(time).at(-1) ?? -1; }

  function splitHere() {
    const time = audio.currentTime, at = turnAt(time);
    if (at < 0) { status.say("Nobody speaks here. Move the player into a turn."); return; }
    const [start, end, name] = turns[at];
    edit([...turns.slice(0, at), [start, time, name], [time, end, name], ...turns.slice(at + 1)]);
    status.say(`Split at ${clock(time, 1)}. Give either part to another speaker in the list.`);
  }

  function newName() {
    let number = 1;
    while (speakers().has(`speaker ${number}`)) number++;
    return `speaker ${number}`;
  }

  async function person(name) {
    const others = [...speakers().keys()].filter((other) => other !== name);
    const input = el("input", { value: name, maxlength: 200, autofocus: true, list: "speakers-here" });
    const keep = el("input", { type: "checkbox" });
    const merge = el("select", {}, el("option", { value: "" }, "nobody"), others.map((other) => el("option", { value: other }, other)));
    const body = el("div", {}, el("label", {}, "Name", input),
      el("label", { class: "check" }, keep, "Enrol this voice under that name, to recognise it in other recordings"),
      others.length ? el("label", {}, "Or make it one with", merge) : "");
    const done = await ask(name, body, [["", "Close"], ["yes", "Apply", "primary"]]);
    if (done !== "yes") return;
    const next = merge.value || input.value.trim();
    if (!next) return;
    const spans = turns.filter(([, , who]) => who === name).map(([start, end]) => [start, end]);
    if (next !== name) {
      if (!colours.has(next)) colours.set(next, colour(name));
      edit(turns.map(([start, end, who]) => [start, end, who === name ? next : who]));
    }
    if (keep.checked && !merge.value) await enrol(next, spans);
  }

  async function enrol(name, spans) {
    status.busy(`Enrolling ${name} …`);
    try {
      const added = await enrolAsking({ name, recording: file, spans: JSON.stringify(spans) });
      status.say(added ? `${name} is enrolled.` : "");
    } catch (error) {
      status.fail(error);
    }
  }

  async function save(form, suffix) {
    try {
      const fields = { form, recording: answer.recording, seconds, turns: JSON.stringify(turns) };
      download(`${answer.recording}${suffix}`, await postForFile("/api/turns", fields));
      status.say("");
    } catch (error) {
      status.fail(error);
    }
  }

  function drawWaveform() {
    const width = Math.min(8000, waveform.length), context = canvas.getContext("2d");
    canvas.width = width;
    const top = Math.max(0.02, ...waveform), middle = canvas.height / 2;
    const owners = new Array(width).fill(null);
    for (const [start, end, name] of turns) {
      for (let x = Math.floor((start / seconds) * width); x < (end / seconds) * width; x++) owners[x] = name;
    }
    for (let x = 0; x < width; x++) {
      const reach = Math.max(1, (middle * 0.95 * waveform[x]) / top);
      context.fillStyle = owners[x] === null ? "#8a8f98" : colour(owners[x]);
      context.fillRect(x, middle - reach, 1, 2 * reach);
    }
  }

  function draw() {
    const found = speakers();
    // What had the focus is replaced; the focus stays at its place.
    const held = [...names.children].indexOf(document.activeElement);
    if (!past.length && document.activeElement === undo) strip.focus();
    undo.disabled = !past.length;
    names.replaceChildren(el("div", {}, `${found.size} speaker${found.size === 1 ? "" : "s"}`),
      ...[...found].map(([name, spoken]) => el("button", { type: "button", title: `${name}: ${clock(spoken)}. Rename, enrol, merge.`,
        "aria-label": `${name}, ${clock(spoken)}: rename, enrol or merge`, onclick: () => person(name) },
      el("i", { class: "swatch", style: { background: colour(name) } }), el("span", { class: "text" }, name))));
    if (held > 0) names.children[Math.min(held, found.size)].focus();
    const bars = new Array(turns.length);
    rows.replaceChildren(...[...found.keys()].map((name) => el("div", { class: "lane" }, turns.map(([start, end, who], at) => {
      if (who !== name) return null;
      bars[at] = el("i", { title: `${name}, ${clock(start, 1)} to ${clock(end, 1)}`, style: { background: colour(name),
        left: `${(100 * start) / seconds}%`, width: `${(100 * (end - start)) / seconds}%` } });
      return bars[at];
    }))));
    lists.set("bars", bars);
    drawList();
    drawWaveform();
    follow();
  }

  // Hours have thousands of turns, and a browser takes seconds for as many rows: a page of them is shown.
  function drawList() {
    first = Math.max(0, Math.min(first, turns.length - ROWS));
    const shown = turns.slice(first, first + ROWS), choices = [...speakers().keys(), newName()], lines = new Map();
    shown.forEach(([start, end, name], i) => {
      const at = first + i;
      const select = el("select", { "aria-label": `speaker of the turn at ${clock(start, 1)}`, onchange: () => {
        colour(select.value);
        edit(turns.map((turn, i) => (i === at ? [start, end, select.value] : turn)));
        one("select", lists.get("lines").get(at)).focus();
      } }, choices.map((choice) => el("option", { selected: choice === name }, choice)));
      lines.set(at, el("tr", {}, el("td", {}, el("button", { type: "button", class: "plain", "aria-label": `Play from ${clock(start, 1)}`,
        onclick: () => seek(start, true) }, `▶ ${clock(start, 1)}`)),
      el("td", {}, `${(end - start).toFixed(1)} s`), el("td", {}, el("div", {}, el("i", { class: "swatch", style: { background: colour(name) } }), select))));
    });
    table.replaceChildren(...lines.values());
    lists.set("lines", lines);
    pages.hidden = turns.length <= ROWS;
    range.textContent = `Turns ${first + 1} to ${first + shown.length} of ${turns.length.toLocaleString("en")}`;
  }

  function turnPages(step) {
    first += step * ROWS;
    drawList();
    table.closest(".turns").scrollTop = 0;
    marked.forEach((one) => mark(one, true));
  }

  function follow() {
    const time = audio.currentTime, here = turnsAt(time), at = here.at(-1) ?? -1, x = (strip.clientWidth * time) / seconds;
    const place = [clock(time), ...here.map((one) => turns[one][2])].join(", ");
    head.style.transform = `translateX(${x}px)`;
    if (strip.getAttribute("aria-valuetext") !== place) {
      strip.setAttribute("aria-valuenow", Math.round(time));
      strip.setAttribute("aria-valuetext", place);
    }
    const bars = lists.get("bars"), isFollowed = at >= 0 && at !== selected && (!audio.paused || !table.contains(document.activeElement));
    if (isFollowed && !lists.get("lines").has(at)) {
      first = at - ROWS / 2;
      drawList();
    }
    const lines = lists.get("lines");
    marked.filter((one) => !here.includes(one)).forEach((one) => mark(one, false));
    marked = here;
    marked.forEach((one) => mark(one, true));
    if (isFollowed) {
      const box = table.closest(".turns");
      box.scrollTop = lines.get(at).offsetTop - box.clientHeight / 2;
    }
    if (at >= 0) selected = at;
    if (!audio.paused && (x < scroller.scrollLeft || x > scroller.scrollLeft + scroller.clientWidth)) scroller.scrollLeft = x - 40;
  }

  function mark(at, isNow) {
    [lists.get("bars")[at], lists.get("lines").get(at)].forEach((place) => place?.classList.toggle("now", isNow));
  }

  function stretch(factor) {
    const middle = audio.currentTime / seconds;
    zoom = Math.max(1, Math.min(64, zoom * factor));
    strip.style.width = `${100 * zoom}%`;
    axis.replaceChildren(timeAxis(seconds, 8 * zoom));
    scroller.scrollLeft = middle * strip.clientWidth - scroller.clientWidth / 2;
  }

  strip.addEventListener("click", (event) => {
    const box = strip.getBoundingClientRect();
    seek((seconds * (event.clientX - box.left)) / box.width);
  });
  strip.addEventListener("keydown", (event) => {
    const here = turnAt(audio.currentTime);
    const next = turns.find(([start]) => start > audio.currentTime + 0.01);
    const before = turns.findLast(([start]) => start < audio.currentTime - 0.3);
    const keys = { " ": () => (audio.paused ? audio.play().catch(() => {}) : audio.pause()),
      ArrowRight: () => seek(audio.currentTime + 2), ArrowLeft: () => seek(audio.currentTime - 2),
      ArrowDown: () => next && seek(next[0]), ArrowUp: () => before && seek(before[0]),
      Home: () => seek(0), End: () => seek(seconds), Enter: () => here >= 0 && person(turns[here][2]),
      s: splitHere, "+": () => stretch(2), "-": () => stretch(0.5) };
    if (!keys[event.key]) return;
    event.preventDefault();
    keys[event.key]();
  });
  audio.addEventListener("timeupdate", follow);
  new ResizeObserver(follow).observe(strip);
  let frame = 0;
  const run = () => { follow(); if (!audio.paused && strip.isConnected) frame = requestAnimationFrame(run); };
  audio.addEventListener("play", () => { cancelAnimationFrame(frame); run(); });
  draw();

  return el("div", { class: "card" }, el("div", { class: "row" }, el("h2", { class: "grow" }, answer.recording),
    el("button", { type: "button", "aria-label": "zoom out", onclick: () => stretch(0.5) }, "−"),
    el("button", { type: "button", "aria-label": "zoom in", onclick: () => stretch(2) }, "+"), split, undo),
  el("p", { class: "quiet" }, "Click a name to rename it, enrol it or merge it with another. Space plays, arrows move, s splits."),
  el("div", { class: "lanes" }, names, scroller), status.root,
  el("div", { class: "turns" }, el("table", {}, el("thead", {}, el("tr", {}, ["Begins", "Lasts", "Speaker"].map((text) =>
    el("th", { scope: "col" }, text)))), table)), pages,
  el("div", { class: "row end" }, [["rttm", ".rttm", "RTTM"], ["srt", ".srt", "SRT"], ["json", ".json", "JSON"], ["labels", ".txt", "Audacity"]]
    .map(([form, suffix, text]) => el("button", { type: "button", onclick: () => save(form, suffix) }, `Save ${text}`))));
}
