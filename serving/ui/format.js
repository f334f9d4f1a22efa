// Figures and times as people read them.

const clock = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" });
const minutes = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const full = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
const plain = new Intl.NumberFormat(undefined, { maximumSignificantDigits: 3 });
const large = new Intl.NumberFormat(undefined, { notation: "compact", maximumSignificantDigits: 3 });

const DAY_MS = 86_400_000;

/** Returns a number to three digits, "–" for none. */
export function number(value) {
  if (typeof value !== "number" || !Number.isFinite(value)) {
    return "–";
  }
  const size = Math.abs(value);
  if (size !== 0 && size < 0.001) {
    return value.toExponential(1);
  }
  return (size < 10_000 ? plain : large).format(value);
}

/** Returns a share as a percentage. */
export function percent(share) {
  return typeof share === "number" ? `${number(share * 100)} %` : "–";
}

/** Returns milliseconds with their unit. */
export function ms(value) {
  return typeof value === "number" ? `${number(value)} ms` : "–";
}

/** Returns the Date of RFC 3339 text or of Unix seconds; null for neither. */
export function date(value) {
  if (value === null || value === undefined || value === "") {
    return null;
  }
  const found = new Date(typeof value === "number" ? value * 1000 : value);
  return Number.isNaN(found.getTime()) ? null : found;
}

/** Returns Unix seconds of RFC 3339 text. */
export function seconds(text) {
  return (date(text)?.getTime() ?? NaN) / 1000;
}

/** Returns a time of day; the date too where it is not of the last 24 hours. */
export function time(value) {
  const found = date(value);
  if (found === null) {
    return "–";
  }
  return (Date.now() - found.getTime() < DAY_MS ? clock : full).format(found);
}

/** Returns a time of day in hours and minutes, for axes. */
export function hour(seconds) {
  return minutes.format(new Date(seconds * 1000));
}

/** Returns a name's figures as one line, such as "ratio 1.2, queue 3". */
export function figures(values) {
  return Object.entries(values ?? {})
    .map(([name, value]) => `${name} ${number(value)}`)
    .join(", ");
}
