// What instructions ask for: verbs inside, their nouns outside (Self-Instruct, figure 3). A verb is as
// wide as its nouns shown.
import { VERBS as COLOURS } from "../palette.js";
import { h, link, s, set } from "../dom.js";
import { percent, shorten, whole, words } from "../format.js";
import { table } from "../widgets.js";
import { chartWidth } from "./size.js";

const SMALLEST = 10;
const INNER = [0.16, 0.55];
const OUTER = [0.55, 1];

/** A colour's place for each verb, the same in charts that stand beside each other. */
export function coloursOf(...tops) {
  const places = new Map();
  for (const top of tops) {
    for (const { verb } of top) if (!places.has(verb)) places.set(verb, places.size);
  }
  return places;
}

/**
 * The chart, what is under the pointer in words, and all of it as a table.
 * `top`: verbs with count, share and nouns (noun, count, share, example); `run`: where they are from.
 */
export function sunburst(top, run, places = coloursOf(top)) {
  const shown = top.filter((verb) => verb.nouns.length);
  const readout = h("p", { class: "readout quiet", "aria-live": "polite" }, "Point at a part, or "
    + "choose the picture and move with the arrow keys, to read what it stands for.");
  const sectors = sectorsOf(shown, places);
  const size = chartWidth(600);
  const radius = size / 2 - 2;
  let marked = -1;
  const mark = (index) => {
    if (marked >= 0) drawn[marked].classList.remove("marked");
    marked = index;
    drawn[index].classList.add("marked");
    set(readout, describe(sectors[index], run));
  };
  const drawn = sectors.map((sector, index) => s("path", {
    class: "sector", d: arc(sector, radius), fill: sector.colour,
    onpointerenter: () => mark(index), onclick: () => mark(index),
  }));
  const move = (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (!step || !sectors.length) return;
    event.preventDefault();
    mark((marked + step + sectors.length) % sectors.length);
  };
  const most = shown[0];
  return h("div", {},
    h("div", { class: "chart round" }, s("svg", {
      viewBox: `${-size / 2} ${-size / 2} ${size} ${size}`, role: "img", tabindex: "0",
      "aria-label": `Sunburst of ${shown.length} verbs and their nouns; the most frequent verb is `
        + `${words(most.verb)}, with ${whole(most.count)}. The table below has all of it.`,
      onkeydown: move,
    }, drawn, sectors.map((sector) => label(sector, radius)))),
    readout,
    h("details", {}, h("summary", {}, "The same as a table"), pairTable(shown, run)));
}

function sectorsOf(top, places) {
  const total = top.reduce((sum, verb) => sum + sumOf(verb.nouns), 0);
  const sectors = [];
  let at = 0;
  for (const verb of top) {
    const [colour, tint] = COLOURS[places.get(verb.verb) % COLOURS.length];
    const end = at + sumOf(verb.nouns) / total;
    sectors.push({ verb, from: at, to: end, ring: INNER, colour, text: words(verb.verb) });
    for (const noun of verb.nouns) {
      const to = at + noun.count / total;
      sectors.push({ verb, noun, from: at, to, ring: OUTER, colour: tint, text: noun.noun });
      at = to;
    }
    at = end;
  }
  return sectors;
}

function sumOf(nouns) {
  return nouns.reduce((sum, noun) => sum + noun.count, 0);
}

function point(turn, distance) {
  const angle = (turn - 0.25) * 2 * Math.PI;
  return `${(distance * Math.cos(angle)).toFixed(2)} ${(distance * Math.sin(angle)).toFixed(2)}`;
}

function arc({ from, to, ring }, radius) {
  const [near, far] = ring.map((part) => part * radius);
  const end = Math.min(to, from + 0.99999); // a full turn would begin where it ends
  const large = end - from > 0.5 ? 1 : 0;
  return `M${point(from, near)}L${point(from, far)}A${far} ${far} 0 ${large} 1 ${point(end, far)}`
    + `L${point(end, near)}A${near} ${near} 0 ${large} 0 ${point(from, near)}Z`;
}

/** Along the radius, where it fits; what does not is in the table. */
function label({ from, to, ring, text }, radius) {
  const [near, far] = ring.map((part) => part * radius);
  const middle = (near + far) / 2;
  const room = (to - from) * 2 * Math.PI * middle;
  const size = Math.min(14, room * 0.8, (far - near - 8) / (0.58 * Math.max(1, text.length)));
  if (size < SMALLEST) return null;
  const turn = ((from + to) / 2) * 360 - 90;
  const isLeft = turn > 90;
  return s("text", {
    class: "on-sector", "font-size": size.toFixed(1), "text-anchor": "middle",
    "dominant-baseline": "central", "aria-hidden": "true",
    transform: `rotate(${turn.toFixed(2)}) translate(${middle.toFixed(1)} 0) rotate(${isLeft ? 180 : 0})`,
  }, text);
}

function describe({ verb, noun }, run) {
  const query = { run, state: "accepted", verb: verb.verb, noun: noun?.noun };
  return [
    h("b", {}, noun ? `${words(verb.verb)} ${noun.noun}` : words(verb.verb)),
    `: ${whole((noun ?? verb).count)} (${percent((noun ?? verb).share)}). `,
    noun ? `Such as: “${shorten(noun.example, 200)}” ` : "With any noun. ",
    link("Show them", ["instructions"], query),
  ];
}

function pairTable(top, run) {
  return table("Verbs and nouns shown, with the first instruction that has the pair", [
    { title: "verb" }, { title: "noun" }, { title: "instructions", kind: "number" },
    { title: "all of the verb", kind: "number" }, { title: "example", kind: "long" },
  ], top.flatMap((verb) => verb.nouns.map((noun) => [
    words(verb.verb),
    link(noun.noun, ["instructions"], { run, state: "accepted", verb: verb.verb, noun: noun.noun }),
    whole(noun.count), whole(verb.count), shorten(noun.example, 240),
  ])));
}
