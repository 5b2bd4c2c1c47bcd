// Words and numbers as the page shows them.

const UNITS = { "/min": "/min", "mm[Hg]": "mmHg", Cel: "°C", "{steps}": "steps", "{code}": "", "kg/m2": "kg/m²" };
const DECIMALS = { temp: 1, weight: 1, bmi: 1, perf_index: 2, fev1: 2, fvc: 2, sleep: 1 };
export const PRIORITY = {
  S1: { word: "High", mark: "■" },
  S2: { word: "Medium", mark: "▲" },
  S3: { word: "Low", mark: "●" },
};
export const OPEN = ["active_unack", "rtn_unack", "active_ack", "shelved", "suppressed"];
export const NO_VALUE = "–";

export const unit = (ucum) => UNITS[ucum] ?? ucum;

/** A value with at most two decimals; enumerations by their word. */
export function value(key, number, values = []) {
  if (number === null || number === undefined) return NO_VALUE;
  if (values.length) return values[number] ?? String(number);
  return number.toFixed(DECIMALS[key] ?? (Number.isInteger(number) || Math.abs(number) >= 100 ? 0 : 1));
}

/** What stands for a value that the sensor could not put a number to. */
export function beyond(flags) {
  if (flags.includes("below_range")) return "LO";
  return flags.includes("above_range") ? "HI" : "";
}

/** Seconds as one short word: 12 s, 4 min, 3 h, 2 d. */
export function age(seconds) {
  const s = Math.max(0, seconds);
  if (s < 60) return `${Math.floor(s)} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min`;
  if (s < 48 * 3600) return `${Math.floor(s / 3600)} h`;
  return `${Math.floor(s / 86400)} d`;
}

export const clock = (ms) => new Date(ms).toLocaleTimeString("en-GB");
export const moment = (ms) => new Date(ms).toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "medium" });
const CONDITIONS = { copd: "COPD", chf: "CHF" };
export const condition = (word) => CONDITIONS[word] ?? words(word ?? "");
const CLOCK_WORDS = { clock_wrong: "device clock wrong", clock_fault: "device clock wrong", clock_ahead: "ahead", clock_unset: "never set", clock_reset: "was reset" };
export const words = (flag) => CLOCK_WORDS[flag] ?? flag.replaceAll("_", " ");
export const count = (number, one, many = `${one}s`) => `${number} ${number === 1 ? one : many}`;

/** "device clock wrong: ahead by 6 min", "sensor status: sensor off". */
export const faultWords = ({ kind, detail, value }) =>
  `${words(kind)}: ${words(detail)}${detail === "clock_ahead" && value !== null ? ` by ${age(value)}` : ""}`;
