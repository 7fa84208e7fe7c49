// Differences with their intervals, around zero.
import { s } from "../dom.js";
import { signed } from "../format.js";

/** One difference: where it lies between the lowest and the highest of all. */
export function interval({ difference, low, high, metric }, reach) {
  const x = (value) => 50 + (47 * value) / (reach || 1);
  // Of nll, less is better.
  const gain = metric === "nll" ? -1 : 1;
  const fill = low * high <= 0 ? "neutral" : low * gain > 0 ? "accepted" : "rejected";
  return s("svg", {
    viewBox: "0 0 100 16", width: 140, height: 22, role: "img",
    "aria-label": `${signed(difference)}, from ${signed(low)} to ${signed(high)}`,
  },
  s("line", { class: "grid", x1: 50, x2: 50, y1: 0, y2: 16 }),
  s("rect", { class: `fill-${fill}`, x: x(low), y: 6, width: Math.max(1, x(high) - x(low)), height: 4 }),
  s("circle", { class: `fill-${fill}`, cx: x(difference), cy: 8, r: 4 }));
}

export function reachOf(rows) {
  return Math.max(1e-9, ...rows.flatMap((row) => [Math.abs(row.low), Math.abs(row.high)]));
}
