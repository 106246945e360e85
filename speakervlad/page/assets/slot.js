// A place for recordings: dropped, chosen or spoken into the microphone.

import { clock, el } from "./dom.js";
import { startRecording } from "./recorder.js";

const AUDIO = "audio/*,video/mp4,video/webm,.flac,.opus,.amr,.sph,.wma,.m4a,.mka,.mkv";

// `onchange(files)` is called with the files that lie here now.
export function recordingSlot({ title, hint, multiple = false, accept = AUDIO, microphone = true, onchange }) {
  let files = [], urls = [], players = [];
  const input = el("input", { type: "file", accept, multiple, hidden: true });
  const choose = el("button", { type: "button" }, multiple ? "Choose files" : "Choose a file");
  const record = el("button", { type: "button", class: "record", "aria-pressed": "false" }, "Record");
  const meter = el("div", { class: "meter", hidden: true }, el("i"));
  const said = el("p", { class: "quiet hint" }, hint);
  const error = el("p", { class: "error", role: "alert", hidden: true });
  const list = el("ul", { class: "files" });
  const root = el("div", { class: "slot", role: "group", "aria-label": title },
    el("h3", {}, title), said, el("div", { class: "row" }, choose, microphone ? record : null, input),
    meter, error, list);

  function complain(text) {
    error.textContent = text || "";
    error.hidden = !text;
  }

  function show() {
    urls.forEach((url) => URL.revokeObjectURL(url));
    urls = [];
    players = [];
    list.replaceChildren(...files.map((file, index) => {
      const row = el("li", {}, el("span", { class: "name", title: file.name }, file.name));
      if (microphone) {
        const url = URL.createObjectURL(file);
        urls.push(url);
        const audio = el("audio", { src: url, controls: true, preload: "metadata", "aria-label": `Play ${file.name}` });
        audio.addEventListener("error", () => audio.replaceWith(
          el("span", { class: "quiet" }, "this browser cannot play it")));
        players.push(audio);
        row.append(audio);
      }
      row.append(el("button", { type: "button", class: "plain remove", title: `Remove ${file.name}`,
        "aria-label": `Remove ${file.name}`, onclick: () => { files.splice(index, 1); changed(); choose.focus(); } }, "×"));
      return row;
    }));
    root.classList.toggle("filled", files.length > 0);
  }

  function changed() {
    complain("");
    show();
    onchange([...files]);
  }

  function take(added) {
    const found = [...added];
    if (!found.length) return;
    files = multiple ? [...files, ...found] : [found[0]];
    changed();
  }

  choose.addEventListener("click", () => input.click());
  input.addEventListener("change", () => { take(input.files); input.value = ""; });
  root.addEventListener("dragover", (event) => { event.preventDefault(); root.classList.add("over"); });
  root.addEventListener("dragleave", () => root.classList.remove("over"));
  root.addEventListener("drop", (event) => {
    event.preventDefault();
    root.classList.remove("over");
    take(event.dataTransfer.files);
  });

  let stop = null, isTurning = false;
  record.addEventListener("click", async () => {
    if (isTurning) return;
    isTurning = true;
    try {
      if (stop) {
        const ending = stop;
        stop = null;
        take([await ending()]);
      } else {
        stop = await startRecording((seconds, level) => {
          if (stop) record.textContent = `Stop · ${clock(seconds)}`;
          meter.firstChild.style.width = `${Math.min(100, 100 * Math.sqrt(level))}%`;
        });
        complain("");
      }
    } catch (problem) {
      complain(problem.message);
    }
    if (!stop) record.textContent = "Record";
    record.setAttribute("aria-pressed", String(Boolean(stop)));
    meter.hidden = !stop;
    isTurning = false;
  });

  return { root, put: take, player: (index) => players[index], get files() { return [...files]; }, clear() { files = []; changed(); }, complain };
}

// A button of an empty view, which fills it with recordings of the package.
export function tryExamples(fill, text = "Try it with the examples") {
  const error = el("p", { class: "error", role: "alert", hidden: true });
  const button = el("button", { type: "button", onclick: async () => {
    button.disabled = true;
    error.hidden = true;
    try {
      await fill();
    } catch (problem) {
      error.textContent = problem.message;
      error.hidden = false;
    }
    button.disabled = false;
  } }, text);
  return el("div", { class: "try" }, button, error);
}
