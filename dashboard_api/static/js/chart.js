// One vital sign over time. Gaps are gaps, limits are drawn, flags are words at the cursor.

import { html, useEffect, useRef } from "../vendor/htm-preact.module.js";
import { NO_VALUE, unit, value, words } from "./format.js";
import { state } from "./store.js";

const BUCKET_S = { "1m": 60, "1h": 3600, "1d": 86400 };
const HEIGHT = 170;
const POINTS_UP_TO = 120;
const CLOCK_24 = [
  // increment in seconds, label, then what a new year, month, day, hour, minute, second adds below; 1: on a line of its own
  [86400, "{D} {MMM}", null, null, null, null, null, null, 1],
  [60, "{HH}:{mm}", "\n{D} {MMM}", null, "\n{D} {MMM}", null, null, null, 1],
  [1, "{HH}:{mm}:{ss}", "\n{D} {MMM}", null, "\n{D} {MMM}", null, null, null, 1],
];

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/** A line may bridge six usual steps, at least a minute, and never more than the value stays current. */
function longestStep(series) {
  const stale = state.tables.vitals[series.vital]?.stale_s ?? 3600;
  const steps = series.time.slice(1).map((time, row) => time - series.time[row]).sort((a, b) => a - b);
  return Math.min(stale, Math.max(60, 6 * (steps[steps.length >> 1] ?? stale)));
}

/** Rows with nothing on either side: no line shows them. */
function alone(values) {
  const rows = [];
  values.forEach((value, row) => {
    if (value !== null && (values[row - 1] ?? null) === null && (values[row + 1] ?? null) === null) rows.push(row);
  });
  return rows;
}

/** Columns for the chart with an empty row wherever nothing was measured for too long. */
export function withGaps(series) {
  const longest = Math.max(longestStep(series), 2.5 * (BUCKET_S[series.resolution] ?? 0));
  const out = { time: [], value: [], min: [], max: [], flags: [] };
  series.time.forEach((time, row) => {
    const last = out.time.at(-1);
    if (last !== undefined && time - last > longest) push(out, last + 1, null, null, null, []);
    push(out, time, series.value[row], series.min[row], series.max[row], series.flags[row]);
  });
  return out;
}

function push(out, time, number, min, max, flags) {
  out.time.push(time);
  out.value.push(number);
  out.min.push(min);
  out.max.push(max);
  out.flags.push(flags);
}

/** What the limits of a vital sign draw: [number, priority]. */
const lines = (limits) => limits.flatMap((one) => [[one.low, one.severity], [one.high, one.severity]])
  .filter(([number]) => number !== null && number !== undefined);

function drawLimits(plot, limits) {
  const { ctx, bbox } = plot;
  ctx.save();
  ctx.lineWidth = devicePixelRatio * 1.5;
  ctx.setLineDash([6 * devicePixelRatio, 4 * devicePixelRatio]);
  for (const [number, severity] of lines(limits)) {
    const y = plot.valToPos(number, "y", true);
    if (y < bbox.top || y > bbox.top + bbox.height) continue;
    ctx.strokeStyle = colour(`--${severity}`);
    ctx.beginPath();
    ctx.moveTo(bbox.left, y);
    ctx.lineTo(bbox.left + bbox.width, y);
    ctx.stroke();
  }
  ctx.restore();
}

function options(key, ucum, held, width) {
  const ink = () => colour("--ink");
  const soft = () => colour("--soft");
  const axis = { stroke: soft, grid: { stroke: () => colour("--line"), width: 1 }, ticks: { stroke: () => colour("--line"), width: 1 }, font: "12px system-ui" };
  const days = { ...axis, values: CLOCK_24 };
  const band = { show: true, stroke: () => colour("--line"), width: 1, points: { show: false } };
  const told = (_plot, number, _series, row) => {
    if (row === null || row === undefined || number === null) return NO_VALUE;
    const flags = held.current.columns.flags[row] ?? [];
    const spread = held.current.coarse ? ` (${value(key, held.current.columns.min[row])}–${value(key, held.current.columns.max[row])})` : "";
    return `${value(key, number)} ${unit(ucum)}${spread}${flags.map((flag) => ` · ${words(flag)}`).join("")}`;
  };
  const reach = (_plot, low, high) => {
    const numbers = [low, high, ...lines(held.current.limits).map(([number]) => number)].filter(Number.isFinite);
    if (!numbers.length) return [0, 1];
    const [bottom, top] = [Math.min(...numbers), Math.max(...numbers)];
    const room = Math.max((top - bottom) * 0.12, 1);
    return [bottom - room, top + room];
  };
  return {
    width, height: HEIGHT, cursor: { sync: { key: "time" }, drag: { x: true, y: false } },
    scales: { x: { time: true, range: (_plot, low, high) => held.current.zoom ?? held.current.window ?? [low, high] }, y: { range: reach } },
    axes: [days, { ...axis, size: 54 }],
    series: [
      { label: "time", value: (_plot, time) => (time ? new Date(time * 1000).toLocaleString("en-GB") : NO_VALUE) },
      { ...band, label: "min" },
      { ...band, label: "max" },
      { label: "value", stroke: ink, width: 1.6, value: told, points: { show: (plot, _series, from, to) => to - from < POINTS_UP_TO, size: 5, fill: ink,
        filter: (plot, series, shown) => (shown ? null : alone(plot.data[series])) } },
    ],
    bands: [{ series: [2, 1], fill: () => colour("--band") }],
    hooks: {
      draw: [(plot) => drawLimits(plot, held.current.limits)],
      setSelect: [(plot) => {
        if (plot.select.width > 4) {
          const { left, width: wide } = plot.select;
          held.current.zoomTo([plot.posToVal(left, "x"), plot.posToVal(left + wide, "x")]);
        }
      }],
    },
  };
}

const columnsOf = (columns, coarse) => [
  columns.time,
  coarse ? columns.min : columns.time.map(() => null),
  coarse ? columns.max : columns.time.map(() => null),
  columns.value,
];

/** `series` has times in seconds; `window` is [from, to] in seconds; `zoom` narrows it; `theme` redraws. */
export function Chart({ series, limits, window: span, zoom, onZoom, theme }) {
  const box = useRef(null);
  const plot = useRef(null);
  const held = useRef({});
  const coarse = series.resolution !== "raw";
  const columns = withGaps(series);
  held.current = { columns, coarse, limits, window: span, zoom, zoomTo: onZoom };
  useEffect(() => {
    const made = new globalThis.uPlot(options(series.vital, series.unit, held, box.current.clientWidth), columnsOf(columns, coarse), box.current);
    plot.current = made;
    made.over.addEventListener("dblclick", () => onZoom(null));
    const resized = new ResizeObserver(() => made.setSize({ width: box.current.clientWidth, height: HEIGHT }));
    resized.observe(box.current);
    return () => {
      resized.disconnect();
      made.destroy();
    };
  }, [series.vital, theme]);
  useEffect(() => plot.current?.setData(columnsOf(columns, coarse)));
  return html`<div class="plot" ref=${box}></div>`;
}
