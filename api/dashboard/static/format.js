// Numbers, times and the words for what the store calls by short names.
const WHOLE = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

export const NONE = "–";

export function whole(value) {
  return value == null ? NONE : WHOLE.format(value);
}

export function decimal(value, digits = 2) {
  return value == null ? NONE : value.toLocaleString("en", {
    minimumFractionDigits: digits, maximumFractionDigits: digits,
  });
}

/** With its sign, for differences. */
export function signed(value, digits = 3) {
  if (value == null) return NONE;
  return `${value > 0 ? "+" : value < 0 ? "−" : ""}${decimal(Math.abs(value), digits)}`;
}

export function percent(value) {
  return value == null ? NONE : `${(100 * value).toFixed(1)}%`;
}

export function share(count, total) {
  return total ? percent(count / total) : NONE;
}

export function duration(seconds) {
  if (seconds == null) return NONE;
  if (seconds < 90) return `${seconds < 10 ? seconds.toFixed(1) : Math.round(seconds)} s`;
  const minutes = Math.round(seconds / 60);
  return minutes < 90 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

/** A time (UTC) as it is where the reader is. */
export function moment(text) {
  if (!text) return NONE;
  const when = new Date(text);
  return Number.isNaN(when.getTime()) ? text : when.toLocaleString("en-GB", {
    year: "numeric", month: "short", day: "numeric", hour: "2-digit", minute: "2-digit",
  });
}

/** `not_novel` as `not novel`. */
export function words(text) {
  return text == null ? NONE : String(text).replaceAll("_", " ");
}

/** At most so many characters, on one line. */
export function shorten(text, most = 160) {
  const flat = String(text ?? "").split(/\s+/u).join(" ").trim();
  const letters = Array.from(flat);
  return letters.length <= most ? flat : `${letters.slice(0, most - 1).join("")}…`;
}

export function plural(count, one, many = `${one}s`) {
  return `${whole(count)} ${count === 1 ? one : many}`;
}
