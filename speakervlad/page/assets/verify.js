// Two recordings: one person or two?

import { example, post } from "./api.js";
import { clock, el } from "./dom.js";
import { legend, spectrogram, speechBand, timeAxis, weights } from "./pictures.js";
import { certainty, odds, ruleMeaning, ruleName, scoreScale } from "./scale.js";
import { recordingSlot, tryExamples } from "./slot.js";
import { statusLine } from "./status.js";

export function openVerify(root, about) {
  const status = statusLine(), result = el("div", { id: "verification" });
  let run = 0, answer = null, chosen = about.scale.rules[0];

  async function compare() {
    const files = [first.files[0], second.files[0]], mine = ++run;
    result.replaceChildren();
    trial.hidden = files.some(Boolean);
    status.say(files.filter(Boolean).length === 1 ? "One more recording, and they are compared." : "");
    if (!files.every(Boolean)) return;
    status.busy("Listening to both …");
    try {
      const found = await post("/api/verify", { first: files[0], second: files[1] });
      if (mine !== run) return;
      answer = found;
      status.say("");
      result.replaceChildren(verdict(), ...pictures());
    } catch (error) {
      if (mine === run) status.fail(error);
    }
  }

  function verdict() {
    const { score } = answer, card = el("div", { class: "card" });
    const options = about.scale.rules.map((rule, i) =>
      el("option", { value: i, selected: rule === chosen }, ruleName(rule)));
    const select = el("select", { onchange: () => {
      chosen = about.scale.rules[select.value];
      const next = verdict();
      card.replaceWith(next);
      next.querySelector("select").focus();
    } }, options);
    const same = chosen ? score >= chosen.threshold : null;
    const words = same === null ? "No threshold is known" : same ? "The same speaker" : "Different speakers";
    card.append(el("div", { class: `verdict ${same ? "yes" : "no"}`, role: "status" }, el("b", {}, words),
      answer.probability === undefined ? "" : el("span", {}, `${certainty(answer.probability)} the same, at even odds beforehand`)),
    scoreScale(about.scale, score, chosen),
    el("p", { class: "meaning" }, answer.log_likelihood_ratio === undefined
      ? "This encoder is not calibrated: the score is a cosine, not a probability."
      : `This score is ${odds(answer.log_likelihood_ratio)}.`),
    chosen ? el("p", { class: "meaning quiet" }, ruleMeaning(chosen)
      + " Other microphones, channels and languages move it.") : "",
    chosen ? el("label", { class: "short" }, "Decide by", select) : "");
    return card;
  }

  function pictures() {
    const players = [first, second].map((slot) => slot.player(0));
    return [el("div", { class: "two" }, answer.recordings.map((found, i) => recordingCard(found, players[i])))];
  }

  const first = recordingSlot({ title: "First recording", hint: "Drop a file of ten minutes at most, or speak for five seconds or more.", onchange: compare });
  const second = recordingSlot({ title: "Second recording", hint: "Of the same person or of another, ten minutes at most.", onchange: compare });
  const trial = tryExamples(async () => {
    const [one, other] = [await example("alex-1"), await example("alex-2")];
    first.put([one]);
    second.put([other]);
  });
  root.append(el("h1", {}, "Is it the same voice?"),
    el("p", { class: "lead" }, "Two recordings are compared by their voices alone. What is said does not matter."),
    el("div", { class: "two" }, first.root, second.root), trial, status.root, result);
}

// `audio` is the player that the picture follows.
export function recordingCard(found, audio) {
  const head = el("span", { class: "head" });
  audio.addEventListener("timeupdate", () => {
    head.style.left = `${(100 * audio.currentTime) / found.seconds}%`;
  });
  const picture = el("div", { class: "picture", onclick: (event) => {
    const box = picture.getBoundingClientRect();
    audio.currentTime = (found.seconds * (event.clientX - box.left)) / box.width;
  } }, spectrogram(found.spectrogram),
  found.weights ? weights(found.weights, found.clusters) : "",
  found.speech ? speechBand(found.speech, found.seconds) : "", head);
  const amount = found.speech
    ? `${found.speech.reduce((sum, [start, end]) => sum + end - start, 0).toFixed(1)} s of speech in ${clock(found.seconds, 1)}`
    : `${clock(found.seconds, 1)} long`;
  return el("article", { class: "card" }, el("h2", {}, found.name), el("p", { class: "quiet" }, amount),
    found.notes.map((note) => el("p", { class: "note" }, note)), picture, timeAxis(found.seconds),
    found.weights
      ? [el("p", { class: "quiet" }, "Below the spectrogram: how the frames are shared out among the encoder's clusters. "
        + "What the ghosts (grey) take counts for nothing."), legend(found.weights, found.clusters)]
      : el("p", { class: "quiet" }, "This encoder has no clusters."));
}
