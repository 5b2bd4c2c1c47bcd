// The last hours of a value: a line that is as wide as six hours, and an arrow for what changed within one.

import { html } from "../vendor/htm-preact.module.js";
import { now } from "./api.js";
import { value } from "./format.js";
import { instant, isStale, state } from "./store.js";

const [WIDE, HIGH] = [64, 22];
const BOX = `0 0 ${WIDE} ${HIGH}`;
const FEWEST = 3;
const HOUR_MS = 3_600_000;
// [least height of the line in units, change within an hour that earns an arrow]
const SCALE = {
  heart_rate: [30, 10], pulse_rate: [30, 10], pulse_rate_nibp: [30, 10], pulse_rate_art: [30, 10], spo2: [6, 2], resp_rate: [10, 4], resp_rate_vent: [10, 4],
  bp_sys: [40, 15], bp_art_sys: [40, 15],
  temp: [1.5, 0.5], glucose_isf: [80, 30], glucose_bg: [80, 30], glucose: [80, 30], weight: [3, 1],
};

/** [time in ms, value or null] of the slots, and of the reading behind them. */
function pointsOf(reading) {
  const { start, step, of } = state.trends;
  const points = (of.get(reading.patient)?.[reading.vital] ?? []).map((mean, slot) => [start + (slot + 0.5) * step, mean]);
  const last = instant(reading);
  const past = points.filter(([time]) => time < last);
  // What is in the newest slot was measured by now, whatever the middle of the slot says.
  return reading.value === null ? past : [...past, [last, reading.value]];
}

/** Neighbouring slots with a value, as runs: what lies between two runs was not measured. */
function runsOf(points, step) {
  const runs = [];
  let before = -Infinity;
  for (const point of points) {
    if (point[1] === null) continue;
    if (point[0] - before > 1.6 * step) runs.push([]);
    runs.at(-1).push(point);
    before = point[0];
  }
  return runs;
}

export function Spark({ reading }) {
  const points = pointsOf(reading);
  const { step } = state.trends;
  const until = now();
  const from = until - 6 * HOUR_MS;
  const runs = runsOf(points.filter(([time]) => time >= from), step);
  const numbers = runs.flat().map(([, number]) => number);
  if (numbers.length < FEWEST) return html`<svg class="spark" viewBox=${BOX} aria-hidden="true"></svg>`;
  const [low, high] = [Math.min(...numbers), Math.max(...numbers)];
  const room = Math.max((SCALE[reading.vital]?.[0] ?? 1) - (high - low), 0) / 2;
  const x = (time) => (((time - from) / (until - from)) * (WIDE - 4) + 2).toFixed(1);
  const y = (number) => (HIGH - 3 - ((number - low + room) / (high - low + 2 * room || 1)) * (HIGH - 6)).toFixed(1);
  return html`<svg class="spark" viewBox=${BOX} preserveAspectRatio="none" role="img"
      aria-label="6 hours, ${value(reading.vital, low)} to ${value(reading.vital, high)}">
    <title>6 hours: ${value(reading.vital, low)} to ${value(reading.vital, high)}</title>
    ${runs.map((run) => (run.length === 1
      ? html`<polyline class="dot" points="${x(run[0][0])},${y(run[0][1])} ${x(run[0][0])},${y(run[0][1])}" />`
      : html`<polyline points=${run.map(([time, number]) => `${x(time)},${y(number)}`).join(" ")} />`))}
  </svg>`;
}

/** Up, down or level against the mean of an hour ago; nothing when either is not known. */
export function Arrow({ reading }) {
  const steep = SCALE[reading.vital]?.[1];
  if (!steep || reading.value === null || isStale(reading)) return null;
  const ago = instant(reading) - HOUR_MS;
  const { start, step, of } = state.trends;
  const before = of.get(reading.patient)?.[reading.vital]?.[Math.floor((ago - start) / step)] ?? null;
  if (before === null) return null;
  const change = reading.value - before;
  const [mark, word] = change >= steep ? ["↗", "up"] : change <= -steep ? ["↘", "down"] : ["→", "level"];
  const told = word === "level" ? "level within the hour" : `${word} ${value(reading.vital, Math.abs(change))} within the hour`;
  return html`<i class="arrow" role="img" aria-label=${told} title=${told}>${mark}</i>`;
}
