// Spectrograms and weights on canvases, as the server computed them.

import { clock, el, percent } from "./dom.js";

const HEAT = [[9, 7, 30], [52, 20, 96], [128, 37, 130], [214, 69, 108], [252, 150, 105], [252, 250, 190]];
export const CLUSTERS = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#b5a91f", "#7a5cc0",
  "#3d9a9a", "#a65628"];
// Of speakers and of systems: neighbours differ most.
export const COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7a5cc0", "#999933", "#a6405a", "#44aa99"];
const GHOSTS = ["#8a8f98", "#b9bdc4", "#6b7078", "#d3d6da"];

export function cells({ rows, columns, bytes }) {
  const text = atob(bytes);
  const values = Uint8Array.from(text, (letter) => letter.charCodeAt(0));
  return { rows, columns, at: (row, column) => values[row * columns + column] / 255 };
}

function mix(value) {
  const place = value * (HEAT.length - 1), low = Math.min(Math.floor(place), HEAT.length - 2);
  return HEAT[low].map((from, i) => from + (place - low) * (HEAT[low + 1][i] - from));
}

export function spectrogram(grid) {
  const { rows, columns, at } = cells(grid);
  const canvas = el("canvas", { width: columns, height: rows, class: "spectrogram", role: "img",
    "aria-label": "spectrogram, low frequencies at the bottom" });
  const context = canvas.getContext("2d"), image = context.createImageData(columns, rows);
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      image.data.set([...mix(at(row, column)), 255], 4 * ((rows - 1 - row) * columns + column));
    }
  }
  context.putImageData(image, 0, 0);
  return canvas;
}

export function colourOf(row, clusters) {
  return row < clusters ? CLUSTERS[row % CLUSTERS.length] : GHOSTS[(row - clusters) % GHOSTS.length];
}

// Ghosts lie on top, so that their share is the height of the grey.
export function weights(grid, clusters) {
  const { rows, columns, at } = cells(grid), height = 120;
  const canvas = el("canvas", { width: columns, height, class: "weights", role: "img",
    "aria-label": `weights of ${clusters} clusters and ${rows - clusters} ghosts over time` });
  const context = canvas.getContext("2d");
  for (let column = 0; column < columns; column++) {
    let total = 0, base = height;
    for (let row = 0; row < rows; row++) total += at(row, column);
    for (let row = 0; row < rows; row++) {
      const part = (height * at(row, column)) / total;
      context.fillStyle = colourOf(row, clusters);
      context.fillRect(column, base - part, 1, part + 0.5);
      base -= part;
    }
  }
  return canvas;
}

export function shares(grid) {
  const { rows, columns, at } = cells(grid), found = new Array(rows).fill(0);
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) found[row] += at(row, column) / columns;
  }
  const total = found.reduce((a, b) => a + b);
  return found.map((share) => share / total);
}

export function legend(grid, clusters) {
  return el("ul", { class: "legend" }, shares(grid).map((share, row) => {
    const name = row < clusters ? `cluster ${row + 1}` : `ghost ${row - clusters + 1}`;
    return el("li", {}, el("i", { style: { background: colourOf(row, clusters) } }), `${name} `,
      el("span", { class: "quiet" }, percent(share, 0)));
  }));
}

// About so many ticks at most.
export function timeAxis(seconds, most = 8) {
  const step = [0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600]
    .find((size) => seconds / size <= most) || 7200;
  const ticks = [];
  for (let at = 0; at === 0 || at + step <= seconds; at += step) {
    ticks.push(el("span", { style: { left: `${(100 * at) / seconds}%` } }, clock(at, step < 1 ? 1 : 0)));
  }
  return el("div", { class: "axis", "aria-hidden": "true" }, ticks);
}

// Speech as a thin line of its own, beneath the weights.
export function speechBand(segments, seconds) {
  return el("div", { class: "speechband", role: "img", "aria-label": "where speech was found" },
    segments.map(([start, end]) => el("i", { style: {
      left: `${(100 * start) / seconds}%`, width: `${(100 * (end - start)) / seconds}%` } })));
}
