// Score files: error rates, DET curves, histograms.

import { example, post, postForFile } from "./api.js";
import { download, el, percent, svg } from "./dom.js";
import { COLOURS } from "./pictures.js";
import { recordingSlot, tryExamples } from "./slot.js";
import { statusLine } from "./status.js";

const TEXTS = ".txt,.csv,.tsv,.gz,.scores,.trials,text/*";

export function openReport(root) {
  const status = statusLine(), result = el("div", { id: "judgement" });
  let run = 0;
  const fields = () => ({ scores: scores.files, trials: key.files });

  async function judge() {
    const mine = ++run;
    result.replaceChildren();
    status.say("");
    trial.hidden = scores.files.length > 0;
    if (!scores.files.length) return;
    status.busy("Judging …");
    try {
      const found = await post("/api/report", fields());
      if (mine !== run) return;
      status.say("");
      result.replaceChildren(...sections(found));
    } catch (error) {
      if (mine === run) status.fail(error);
    }
  }

  async function keep() {
    status.busy("Writing the page …");
    try {
      download("report.html", await postForFile("/api/report.html", fields()));
      status.say("");
    } catch (error) {
      status.fail(error);
    }
  }

  function sections(found) {
    const { num_target: targets, num_nontarget: others } = found.systems[0].figures;
    const ordered = [...found.systems].sort((a, b) => a.figures.eer - b.figures.eer);
    ordered.forEach((system, i) => { system.colour = COLOURS[i % COLOURS.length]; });
    const single = ordered.length === 1;
    return [
      el("div", { class: "card" },
        el("h2", {}, found.list || (single ? ordered[0].name : `${ordered.length} systems`)),
        found.notes.map((note) => el("p", { class: "note" }, note)),
        el("p", { class: "quiet" }, `${(targets + others).toLocaleString("en")} trials: ${targets.toLocaleString("en")} of one `
          + `speaker, ${others.toLocaleString("en")} of two. In small, ${Math.round(100 * ordered[0].figures.confidence)} % `
          + "intervals with the speakers resampled, where speakers are known."),
        single ? facts(ordered[0].figures) : table(ordered),
        el("div", { class: "row" }, el("button", { type: "button", onclick: keep }, "Save as a page"))),
      el("div", { class: "two" },
        el("div", { class: "card" }, el("h2", {}, "Detection error trade-off"), det(ordered, found.axis),
          el("p", { class: "quiet" }, "Lower left is better. The circle is the equal error rate.")),
        el("div", { class: "card" }, ordered.map((system) => [
          el("h2", { class: "again" }, single ? "Scores" : `Scores of ${system.name}`), histogram(system),
          el("ul", { class: "legend" }, el("li", {}, el("i", { style: { background: "#009e73" } }), "one speaker"),
            el("li", {}, el("i", { style: { background: "#d55e00" } }), "two speakers"))]))),
    ];
  }

  const scores = recordingSlot({ title: "Score files", microphone: false, multiple: true, accept: TEXTS, onchange: judge,
    hint: "Lines such as “enrol test score 1”, of any toolkit. Several systems on one list are compared." });
  const key = recordingSlot({ title: "Trial list", microphone: false, accept: TEXTS, onchange: judge,
    hint: "Only if the score files have no labels." });
  const trial = tryExamples(async () => scores.put([await example("scores")]));
  root.append(el("h1", {}, "How good are these scores?"),
    el("p", { class: "lead" }, "Error rates at every threshold, from scored trials with known answers."),
    el("div", { class: "two" }, scores.root, key.root), trial, status.root, result);
}

function withInterval(figures, name, value, shown) {
  const interval = figures.intervals[name];
  return [shown(value), interval ? el("small", {}, `${shown(interval[0])} – ${shown(interval[1])}`) : ""];
}

const COLUMNS = (figures) => [
  ["EER", "eer", figures.eer, (x) => percent(x, 2)],
  ...Object.entries(figures.min_dcf).map(([name, value]) => [`minDCF (${name})`, `min_dcf ${name}`, value, (x) => x.toFixed(3)]),
  ...Object.entries(figures.frr_at_far).map(([rate, { frr }]) =>
    [`FRR at FAR ${Number((100 * rate).toPrecision(3))} %`, `frr at far ${rate}`, frr, (x) => percent(x, 2)]),
  ["Cllr", "cllr", figures.cllr, (x) => x.toFixed(3)],
  ["min Cllr", "min_cllr", figures.min_cllr, (x) => x.toFixed(3)],
];

function facts(figures) {
  const rows = COLUMNS(figures).map(([name, key, value, shown]) =>
    el("div", {}, el("dt", {}, name), el("dd", {}, withInterval(figures, key, value, shown))));
  rows.push(el("div", {}, el("dt", {}, "EER threshold"), el("dd", {}, figures.threshold.toFixed(4))));
  return el("dl", { class: "facts" }, rows);
}

function table(systems) {
  const names = COLUMNS(systems[0].figures).map(([name]) => el("th", { scope: "col" }, name));
  const rows = systems.map(({ name: system, figures, colour }) => el("tr", {},
    el("th", { scope: "row" }, el("i", { class: "swatch", style: { background: colour } }), system),
    COLUMNS(figures).map(([name, key, value, shown]) => el("td", { "data-name": name }, withInterval(figures, key, value, shown)))));
  return el("div", { class: "wide" }, el("table", {}, el("thead", {}, el("tr", {}, el("th"), names)), el("tbody", {}, rows)));
}

function det(systems, axis) {
  const width = 420, left = 52, inner = width - left - 14, height = inner + 52;
  const [low, high] = axis.limits;
  const x = (value) => left + (inner * (value - low)) / (high - low);
  const y = (value) => 12 + inner - (inner * (value - low)) / (high - low);
    const grid = axis.ticks.flatMap(({ at, name }) => [
    svg("line", { x1: x(at), x2: x(at), y1: y(low), y2: y(high), class: "grid" }),
    svg("line", { y1: y(at), y2: y(at), x1: x(low), x2: x(high), class: "grid" }),
    label(x(at), y(low) + 16, name, "middle"), label(left - 6, y(at) + 4, name, "end"),
  ]);
  const curves = systems.flatMap(({ det: points, colour, name }) => {
    const path = points.x.map((at, i) => `${x(at).toFixed(1)},${y(points.y[i]).toFixed(1)}`).join(" ");
    const cross = points.x.findIndex((at, i) => at >= points.y[i]);
    const curve = svg("polyline", { points: path, fill: "none", stroke: colour, "stroke-width": 2.2, "stroke-linejoin": "round" },
      svg("title", {}, name));
    return cross < 0 ? [curve] : [curve, svg("circle", { cx: x(points.x[cross]), cy: y(points.y[cross]), r: 4.5, fill: colour })];
  });
  return svg("svg", { viewBox: `0 0 ${width} ${height}`, class: "chart det", role: "img",
    "aria-label": `DET curves of ${systems.map(({ name }) => name).join(", ")}` },
  grid, svg("line", { x1: x(low), y1: y(low), x2: x(high), y2: y(high), class: "grid", "stroke-dasharray": "4 4" }),
  svg("rect", { x: left, y: 12, width: inner, height: inner, class: "frame" }),
  svg("svg", { x: left, y: 12, width: inner, height: inner, viewBox: `${left} 12 ${inner} ${inner}`, overflow: "hidden" }, curves),
  label(left + inner / 2, height - 4, "false acceptances (%)", "middle"),
  svg("text", { x: 0, y: 0, "text-anchor": "middle", transform: `translate(12 ${12 + inner / 2}) rotate(-90)` }, "false rejections (%)"));
}

const label = (x, y, text, anchor) => svg("text", { x, y, "text-anchor": anchor }, text);

function histogram({ histogram: { edges, target, nontarget }, figures, name }) {
  const width = 420, height = 220, base = height - 24;
  const low = edges[0], high = edges.at(-1), top = Math.max(...target, ...nontarget);
  const x = (value) => (width * (value - low)) / (high - low), y = (value) => base - ((base - 14) * value) / top;
  const area = (heights, colour) => {
    const path = heights.map((value, i) => `L${x(edges[i]).toFixed(1)} ${y(value).toFixed(1)}H${x(edges[i + 1]).toFixed(1)}`).join("");
    return svg("path", { d: `M0 ${base}${path}V${base}Z`, fill: colour, "fill-opacity": 0.4, stroke: colour, "stroke-width": 1.3 });
  };
  const at = x(figures.threshold);
  return svg("svg", { viewBox: `0 0 ${width} ${height}`, class: "chart", role: "img", "aria-label": `scores of ${name}` },
    area(nontarget, "#d55e00"), area(target, "#009e73"),
    svg("line", { x1: at, x2: at, y1: 14, y2: base, class: "frame", "stroke-dasharray": "5 4" }),
    label(Math.min(Math.max(at, 60), width - 60), 10, `EER threshold ${figures.threshold.toFixed(3)}`, "middle"),
    svg("line", { x1: 0, x2: width, y1: base, y2: base, class: "frame" }),
    label(0, height - 6, low.toFixed(2), "start"), label(width, height - 6, high.toFixed(2), "end"));
}
