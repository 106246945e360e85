// Where a score lies between "different" and "same", and where the encoder decides.

import { el, percent } from "./dom.js";

export function ruleName({ rate, threshold }) {
  const name = rate === null ? "the encoder's own rule" : `1 impostor in ${Math.round(1 / rate).toLocaleString("en")} passes`;
  return `${name} (${threshold.toFixed(3)})`;
}

export function ruleMeaning({ rate, threshold, words }) {
  const start = `From ${threshold.toFixed(3)} on, two recordings count as one speaker`;
  return rate === null ? `${start} (${words}).`
    : `${start}: of comparisons of different people, one in ${Math.round(1 / rate).toLocaleString("en")} was accepted there on the `
      + "encoder's development recordings.";
}

const place = (score, scale) => {
  const [low, high] = [scale.cosines[0], scale.cosines.at(-1)];
  return Math.max(0, Math.min(100, (100 * (score - low)) / (high - low)));
};

// A text about a point, kept inside of the bar.
function tag(kind, at, text, row = 0) {
  const style = at > 60 ? { right: `${100 - at}%` } : { left: `${at}%` };
  if (row) style.bottom = `calc(100% + ${0.5 + 1.25 * row}rem)`;
  return el("span", { class: `tag ${kind}`, style }, text);
}

// Shares of the bar that a text over it needs, on a phone.
const WIDTH = 32;

// The texts of all thresholds, in as many rows as keep them apart; and how many rows these are.
function labels(scale, chosen) {
  const ends = [], tags = [];
  const ordered = [...scale.rules].sort((a, b) => (b === chosen) - (a === chosen) || a.threshold - b.threshold);
  for (const rule of ordered) {
    const at = place(rule.threshold, scale), text = rule === chosen ? `threshold ${rule.threshold.toFixed(3)}`
      : rule.rate === null ? "own rule" : `1 in ${Math.round(1 / rule.rate).toLocaleString("en")}`;
    const [begin, end] = at > 60 ? [at - WIDTH, at] : [at, at + WIDTH];
    let row = ends.findIndex((taken) => taken.every(([from, to]) => end <= from || begin >= to));
    if (row < 0) row = ends.push([]) - 1;
    ends[row].push([begin, end]);
    tags.push(tag(rule === chosen ? "above" : "above tick", at, text, row));
  }
  return [tags, ends.length];
}

export function scoreScale(scale, score, chosen) {
  const bar = el("div", { class: "bar" });
  const stops = scale.cosines.map((cosine, i) => {
    const share = scale.probability ? scale.probability[i] : Number(chosen && cosine >= chosen.threshold);
    return `color-mix(in oklab, var(--yes) ${(100 * share).toFixed(1)}%, var(--no)) ${place(cosine, scale).toFixed(2)}%`;
  });
  bar.style.background = `linear-gradient(90deg, ${stops.join(", ")})`;
  const marks = scale.rules.map((rule) => el("span", {
    class: rule === chosen ? "mark chosen" : "mark", title: ruleName(rule),
    style: { left: `${place(rule.threshold, scale)}%` } }));
  const at = place(score, scale), [tags, rows] = labels(scale, chosen);
  return el("div", { class: "scale", role: "img", style: { marginTop: `${1.35 + 1.25 * rows}rem` }, "aria-label": `score ${score.toFixed(3)}`
    + (chosen ? `, threshold ${chosen.threshold.toFixed(3)}` : "") },
    bar, marks, tags,
    el("span", { class: "tip", style: { left: `${at}%` } }), tag("below", at, `score ${score.toFixed(3)}`),
    el("div", { class: "ends" }, el("span", {}, "different voices"), el("span", {}, "the same voice")));
}

export function odds(ratio) {
  const times = Math.exp(Math.abs(ratio));
  const shown = times > 1e6 ? "more than a million" : times >= 10 ? Math.round(times).toLocaleString("en") : times.toFixed(1);
  return `${shown} times more likely if ${ratio >= 0 ? "one person speaks" : "two people speak"}`;
}

export const certainty = (probability) =>
  probability > 0.9995 ? "> 99.9 %" : probability < 0.0005 ? "< 0.1 %" : percent(probability);
