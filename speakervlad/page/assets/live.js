// Who is speaking now: the microphone goes to this server, and lanes grow with what it hears.

import { example, postForFile, tokenOf } from "./api.js";
import { ask, clock, download, el, one } from "./dom.js";
import { integers, openMicrophone, openPlayed, peakOf } from "./recorder.js";
import { COLOURS } from "./pictures.js";
import { tryExamples } from "./slot.js";
import { statusLine } from "./status.js";

// Seconds that the lanes show at most and at least; more than so many unsent bytes mean a slow server.
const SHOWN = 600, LEAST_SHOWN = 30, MOST_WAITING = 4e6, JOINED = 0.5;

export function openLive(root, about) {
  const status = statusLine(), failed = el("p", { class: "error", role: "alert", hidden: true });
  const start = el("button", { type: "button", class: "primary record", "aria-pressed": "false" }, "Start listening");
  const names = el("input", { type: "checkbox", checked: true });
  const meter = el("div", { class: "meter", hidden: true }, el("i"));
  const now = el("p", { class: "speaking", role: "status", "aria-live": "polite" });
  const time = el("p", { class: "quiet" });
  const lanes = el("div", { class: "livelanes", role: "list", "aria-label": "Who spoke when" });
  const saves = el("div", { class: "row end", hidden: true }, [["rttm", ".rttm", "Save RTTM"], ["srt", ".srt", "Save subtitles"],
    ["json", ".json", "Save JSON"]].map(([form, suffix, text]) => el("button", { type: "button", onclick: () => save(form, suffix) }, text)));
  const card = el("div", { class: "card", hidden: true }, now, time, lanes, saves);
  let socket = null, microphone = null, spans = [], seconds = 0, colours = new Map(), isRunning = false, speaking = "";

  function fail(text) { failed.textContent = text || ""; failed.hidden = !text; }
  const colour = (name) => {
    if (!colours.has(name)) colours.set(name, COLOURS[colours.size % COLOURS.length]);
    return colours.get(name);
  };

  start.addEventListener("click", () => (isRunning ? stop() : begin(openMicrophone, "The microphone has gone.")));

  async function begin(open, why) {
    const focused = start === document.activeElement; // a disabled button loses the focus
    fail("");
    start.disabled = trial.hidden = true;
    socket?.close();
    [spans, colours, seconds, speaking] = [[], new Map(), 0, ""];
    status.busy("Opening the microphone …");
    try {
      microphone = await open(send);
      microphone.onended(() => stop(why));
      await connect();
      isRunning = true;
      card.hidden = false;
      saves.hidden = true;
      meter.hidden = false;
      start.textContent = "Stop";
      start.setAttribute("aria-pressed", "true");
      status.say("");
      draw();
    } catch (error) {
      await quiet();
      status.say("");
      trial.hidden = false;
      fail(error.message);
    }
    start.disabled = false;
    if (focused) start.focus();
  }

  function connect() {
    return new Promise((resolve, reject) => {
      const mine = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/api/live`);
      let said = "";
      socket = mine;
      mine.onopen = () => mine.send(JSON.stringify({ token: tokenOf(), rate: microphone.rate, names: names.checked }));
      mine.onmessage = ({ data }) => {
        const message = JSON.parse(data);
        if (message.error && !("enrolled" in message)) said = message.error;
        else if (message.ready) resolve();
        else take(message);
      };
      mine.onclose = () => {
        reject(new Error(said || "The server does not listen. Is it still running in its terminal?"));
        if (socket !== mine) return;
        socket = null;
        if (isRunning) ended(said || "The server has gone; what it heard until then stays here.");
        draw();
      };
    });
  }

  function send(block) {
    const level = peakOf(block);
    meter.firstChild.style.width = `${Math.min(100, 100 * Math.sqrt(level))}%`;
    if (!isRunning || socket?.readyState !== WebSocket.OPEN) return;
    if (socket.bufferedAmount > MOST_WAITING) stop("This machine is too slow to listen on.");
    else socket.send(integers(block));
  }

  async function quiet() {
    isRunning = false;
    await microphone?.close();
    microphone = null;
    meter.hidden = true;
    start.textContent = "Start listening";
    start.setAttribute("aria-pressed", "false");
  }

  async function stop(why) {
    await quiet();
    if (typeof why === "string") fail(why);
    if (socket?.readyState === WebSocket.OPEN) socket.send(JSON.stringify({ end: true }));
  }

  async function ended(why) {
    await quiet();
    fail(why);
    saves.hidden = !spans.length;
  }

  let answered = null;
  function take(message) {
    seconds = message.seconds ?? seconds;
    for (const said of message.said ?? []) replace(...said);
    if (message.renamed) rename(new Map(Object.entries(message.renamed)));
    if (message.turns) spans = message.turns;
    if (message.enrolled && !colours.has(message.enrolled)) colours.set(message.enrolled, colour(message.speaker));
    if ("enrolled" in message) answered?.(message);
    if (!isRunning && message.turns && !("enrolled" in message)) {
      saves.hidden = !spans.length;
      status.say(spans.length ? "Listening has ended. Save who spoke when below." : "Listening has ended. Nobody spoke.");
    }
    draw();
  }

  // What is said of some seconds takes the place of what was said of them before.
  function replace(begin, end, name, corrects, also) {
    if (corrects) spans = spans.flatMap(([from, to, who]) => [[from, Math.min(to, begin), who], [Math.max(from, end), to, who]]
      .filter(([first, last]) => last > first));
    for (const who of [name, also]) if (who) spans.push([begin, end, who]);
  }

  // Speakers who got a name, or turned out to be others.
  function rename(names) {
    for (const [old, name] of names) if (colours.has(old) && !colours.has(name)) colours.set(name, colour(old));
    for (const span of spans) span[2] = names.get(span[2]) ?? span[2];
  }

  function turns() {
    const found = [], last = new Map();
    for (const [begin, end, name] of [...spans].sort((a, b) => a[0] - b[0])) {
      const before = last.get(name);
      if (before && begin <= before[1] + JOINED) before[1] = Math.max(before[1], end);
      else {
        const turn = [begin, end, name];
        last.set(name, turn);
        found.push(turn);
      }
    }
    return found;
  }

  function draw() {
    const all = turns(), shown = Math.max(LEAST_SHOWN, Math.min(SHOWN, seconds)), first = Math.max(0, seconds - shown);
    const latest = all.reduce((one, turn) => (!one || turn[1] > one[1] ? turn : one), null);
    const silent = !latest || seconds - latest[1] > 3;
    const text = !isRunning ? "" : silent ? "Nobody speaks" : latest[2];
    // Told once, not with every block.
    if (text !== speaking) now.textContent = speaking = text;
    now.hidden = !isRunning;
    time.textContent = `${clock(seconds)} heard${first ? `, the last ${clock(shown)} are shown; files hold all` : ""}`;
    const speakers = new Map();
    for (const turn of all) speakers.set(turn[2], [...(speakers.get(turn[2]) || []), turn]);
    for (const lane of [...lanes.children]) if (!speakers.has(lane.dataset.name)) {
      if (lane.contains(document.activeElement)) start.focus();
      lane.remove();
    }
    for (const [name, own] of speakers) {
      const lane = [...lanes.children].find((each) => each.dataset.name === name) || newLane(name);
      const total = own.reduce((sum, [begin, end]) => sum + end - begin, 0);
      lane.classList.toggle("now", isRunning && !silent && latest[2] === name);
      one(".spoke", lane).textContent = clock(total);
      const turn = own.at(-1);
      one(".track", lane).setAttribute("aria-label", `${name} spoke ${own.length === 1 ? "once" : `${own.length} times`}, `
        + `last from ${clock(turn[0])} to ${clock(turn[1])}`);
      one(".track", lane).replaceChildren(...own.filter(([, end]) => end > first).map(([begin, end]) => el("i", {
        title: `${name}, ${clock(begin)} to ${clock(end)}`, style: { background: colour(name),
          left: `${(100 * (Math.max(begin, first) - first)) / shown}%`, width: `${(100 * (end - Math.max(begin, first))) / shown}%` } })));
      const hears = socket?.readyState === WebSocket.OPEN;
      Object.assign(one("button", lane), { disabled: !hears, title: hears ? "" : "Listening has ended: listen again to enrol" });
    }
  }

  function newLane(name) {
    const known = !/^speaker \d+$/.test(name);
    const lane = el("div", { class: "livelane", role: "listitem" },
      el("span", { class: "who" }, el("i", { class: "swatch", style: { background: colour(name) } }), el("span", { class: "text", title: name }, name)),
      el("span", { class: "spoke quiet" }), el("div", { class: "track", role: "img" }),
      el("button", { type: "button", "aria-label": known ? `Add to ${name} what was said` : `Enrol ${name}`,
        onclick: () => enrol(name, known) }, known ? "Add" : "Enrol"));
    lane.dataset.name = name;
    lanes.append(lane);
    return lane;
  }

  function asked(message) {
    return new Promise((resolve) => {
      answered = resolve;
      socket.send(JSON.stringify(message));
    });
  }

  async function enrol(speaker, known) {
    const input = el("input", { value: known ? speaker : "", maxlength: 200, autofocus: true });
    const done = await ask(`Whose voice is ${speaker}?`, el("label", {}, "Name", input), [["", "Cancel"], ["yes", "Enrol", "primary"]]);
    if (done !== "yes" || !socket) return;
    let answer = await asked({ enrol: speaker, name: input.value });
    if (answer.doubts) {
      const reasons = el("ul", { class: "reasons" }, answer.doubts.map((reason) => el("li", {}, reason)));
      if (await ask(`Is this ${input.value} alone?`, reasons, [["", "Do not enrol"], ["yes", "Enrol all the same", "danger"]]) !== "yes") return;
      answer = await asked({ enrol: speaker, name: input.value, sure: "yes" });
    }
    if (answer.error) fail(answer.error);
    else status.say(`${answer.enrolled} is enrolled.`);
    one(`[data-name="${CSS.escape(answer.enrolled || speaker)}"] button`, lanes)?.focus();
  }

  async function save(form, suffix) {
    const fields = { form, recording: "live", seconds, turns: JSON.stringify(turns()) };
    try { download(`live${suffix}`, await postForFile("/api/turns", fields)); } catch (error) { fail(error.message); }
  }

  // The tab is closed: the server hears of it at once.
  window.addEventListener("pagehide", () => { socket?.close(); microphone?.close(); });

  const trial = tryExamples(async () => {
    const file = await example("conversation");
    await begin((take) => openPlayed(file, take), null);
    if (trial.hidden) start.focus();
  }, "Try it with the example");
  root.append(el("h1", {}, "Who is speaking now?"),
    el("p", { class: "lead" }, "Voices are told apart while they speak. What was said of the last five seconds may be corrected. "
      + "Nothing here tells a living voice from a loudspeaker."),
    el("div", { class: "card" }, el("div", { class: "row" }, start, el("label", { class: "check" }, names, "Name the people who are enrolled")),
      meter, status.root, failed), trial, card);
  if (!about.live) {
    start.disabled = trial.hidden = true;
    fail("This server lacks wsproto. Install it: pip install 'speakervlad[serve]', and start it again.");
  }
  draw();
}
