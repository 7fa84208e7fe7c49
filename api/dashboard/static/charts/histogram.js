// Distributions in bins, one or two datasets.
import { h, s } from "../dom.js";
import { decimal, percent, whole } from "../format.js";
import { key, table } from "../widgets.js";
import { chartWidth } from "./size.js";

const HEIGHT = 200;
const LEFT = 52;
const BELOW = 26;
const ABOVE = 18;
const FILLS = ["first", "second"];
const AGAINST = {
  seed: "Best ROUGE-L to a seed task",
  pool: "Best ROUGE-L to another instruction of the same run",
};

/**
 * Novelty: sides are [name, bins]; bins have against, score_from, score_to, count. Two sides are drawn
 * in per cent of each.
 */
export function noveltyCharts(sides, threshold = null) {
  const drawn = Object.entries(AGAINST).map(([against, title]) => {
    const parts = sides.map(([name, bins]) => [name, binsOf(bins, against)]);
    if (!parts.some(([, bins]) => bins.some((bin) => bin.count))) return null;
    return histogram(title, "ROUGE-L", parts, threshold);
  }).filter(Boolean);
  if (!drawn.length) return null;
  return h("div", {}, sides.length > 1 ? key(sides.map(([name], index) => [FILLS[index], name])) : null,
    drawn);
}

function binsOf(bins, against) {
  return bins.filter((bin) => bin.against === against).map((bin) => ({
    from: bin.score_from, to: bin.score_to, count: bin.count ?? 0,
    name: `${bin.score_from.toFixed(2)} to ${bin.score_to.toFixed(2)}`,
  }));
}

/** Lengths in words: sides are [name, rows with part, words_from, words_to, count]. */
export function lengthCharts(sides) {
  const parts = ["instruction", "input", "output"].map((part) => {
    const shown = sides.map(([name, rows]) => [name, rows
      .filter((row) => row.part === part && (part !== "input" || row.words_from > 0))
      .map((row) => ({
        from: row.words_from, to: (row.words_to ?? row.words_from + 4) + 1, count: row.count,
        name: row.words_to === null ? `${row.words_from} or more` : row.words_to === row.words_from
          ? `${row.words_from}` : `${row.words_from} to ${row.words_to}`,
      }))]);
    if (!shown.some(([, bins]) => bins.length)) return null;
    const title = part[0].toUpperCase() + part.slice(1);
    return histogram(title, "words", shown);
  }).filter(Boolean);
  return h("div", {}, sides.length > 1 ? key(sides.map(([name], index) => [FILLS[index], name])) : null,
    parts);
}

function histogram(title, unit, sides, threshold = null) {
  const totals = sides.map(([, bins]) => bins.reduce((sum, bin) => sum + bin.count, 0) || 1);
  const isShare = sides.length > 1;
  const value = (bin, side) => (isShare ? bin.count / totals[side] : bin.count);
  const all = sides.flatMap(([, bins], side) => bins.map((bin) => [bin, value(bin, side)]));
  const end = unit === "ROUGE-L" ? 1 : Math.max(...all.map(([bin]) => bin.to));
  const top = niceTop(Math.max(...all.map(([, one]) => one)), isShare);
  const width = chartWidth();
  const x = (at) => LEFT + (at / end) * (width - LEFT - 12);
  const y = (at) => HEIGHT - BELOW - (at / top) * (HEIGHT - BELOW - ABOVE);
  const bars = sides.flatMap(([, bins], side) => bins.filter((bin) => bin.count).map((bin) => {
    const room = (x(bin.to) - x(bin.from)) * 0.92;
    const one = value(bin, side);
    return s("rect", {
      class: `fill-${FILLS[side]}`, x: x(bin.from) + (side * room) / sides.length, y: y(one),
      width: Math.max(0.5, room / sides.length), height: y(0) - y(one),
    }, s("title", {}, `${bin.name}: ${whole(bin.count)} (${percent(bin.count / totals[side])})`));
  }));
  const most = sides.map(([name, bins], side) => {
    const best = bins.reduce((one, bin) => (bin.count > (one?.count ?? 0) ? bin : one), null);
    return best ? `${name}: most often ${best.name} (${percent(best.count / totals[side])})` : `${name}: none`;
  }).join("; ");
  const text = (at, row, anchor, words) => s("text", {
    class: "axis", x: at, y: row, "font-size": 13, "text-anchor": anchor,
  }, words);
  return h("div", {}, h("h3", {}, title),
    h("div", { class: "chart" }, s("svg", {
      viewBox: `0 0 ${width} ${HEIGHT}`, role: "img", "aria-label": `${title}. ${most}.`,
    },
    [0, 0.5, 1].map((part) => [
      s("line", { class: "grid", x1: LEFT, x2: width - 12, y1: y(part * top), y2: y(part * top) }),
      text(LEFT - 6, y(part * top) + 4, "end", isShare ? `${decimal(100 * part * top, 0)}%` : whole(part * top)),
    ]),
    ticks(end, unit, width).map((tick) => text(x(tick), HEIGHT - 8, "middle",
      unit === "ROUGE-L" ? tick.toFixed(1) : whole(tick))),
    bars,
    threshold === null ? null : [
      s("line", { class: "threshold", x1: x(threshold), x2: x(threshold), y1: ABOVE - 4, y2: y(0) }),
      text(x(threshold), ABOVE - 5, threshold > 0.65 ? "end" : "start", `threshold ${threshold}`),
    ])),
    h("details", {}, h("summary", {}, "The same as a table"), table(title, [
      { title: unit }, ...sides.flatMap(([name]) => [
        { title: isShare ? name : "count", kind: "number" }, { title: "share", kind: "number" },
      ]),
    ], rowsOf(sides, totals))));
}

function rowsOf(sides, totals) {
  const names = new Map();
  for (const [, bins] of sides) {
    for (const bin of bins) if (bin.count) names.set(bin.name, bin.from);
  }
  return Array.from(names).sort((a, b) => a[1] - b[1]).map(([name]) => [
    name, ...sides.flatMap(([, bins], side) => {
      const count = bins.find((bin) => bin.name === name)?.count ?? 0;
      return [whole(count), percent(count / totals[side])];
    }),
  ]);
}

function niceTop(most, isShare) {
  if (isShare) return most > 0.2 ? Math.ceil(most * 10) / 10 : Math.max(0.02, Math.ceil(most * 50) / 50);
  const step = 10 ** Math.floor(Math.log10(Math.max(1, most)));
  return Math.max(2, 2 * Math.ceil(most / (2 * step)) * step);
}

function ticks(end, unit, width) {
  if (unit === "ROUGE-L") return [0, 0.2, 0.4, 0.6, 0.8, 1];
  const wanted = width < 500 ? 5 : 10;
  const step = [5, 10, 20, 25, 50, 100, 200].find((one) => end / one <= wanted) ?? 500;
  return Array.from({ length: Math.floor(end / step) + 1 }, (_, index) => index * step);
}
