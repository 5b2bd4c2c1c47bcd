// One vital sign over time. Gaps are gaps, limits are drawn, flags are words at the cursor.

import { html, useEffect, useRef, useState } from "../vendor/htm-preact.module.js";
import { beyond, NO_VALUE, unit, value, words } from "./format.js";
import { state } from "./store.js";

const BUCKET_S = { "1m": 60, "1h": 3600, "1d": 86400 };
const HEIGHT = 190;
const TICK_PX = 9;
const POINTS_UP_TO = 120;
const CLOCK_24 = [
  // increment in seconds, label, then what a new year, month, day, hour, minute, second adds below; 1: on a line of its own
  [86400, "{D} {MMM}", null, null, null, null, null, null, 1],
  [60, "{HH}:{mm}", "\n{D} {MMM}", null, "\n{D} {MMM}", null, null, null, 1],
  [1, "{HH}:{mm}:{ss}", "\n{D} {MMM}", null, "\n{D} {MMM}", null, null, null, 1],
];

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

let plotter = null;

/** The plotting library, fetched with the first chart and kept. */
function loadPlotter() {
  plotter ??= new Promise((resolve, reject) => {
    const look = Object.assign(document.createElement("link"), { rel: "stylesheet", href: "/static/vendor/uPlot.min.css" });
    const script = Object.assign(document.createElement("script"), { src: "/static/vendor/uPlot.iife.min.js" });
    script.onload = () => resolve(globalThis.uPlot);
    script.onerror = () => {
      plotter = null;
      reject(new Error("the plotting library did not load"));
    };
    document.head.prepend(look); // before the page's own style, which has the last word
    document.head.append(script);
  });
  return plotter;
}

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
  const out = { time: [], value: [], min: [], max: [], flags: [], day: [] };
  series.time.forEach((time, row) => {
    const last = out.time.at(-1);
    if (last !== undefined && time - last > longest) push(out, last + 1, null, null, null, []);
    push(out, time, series.value[row], series.min[row], series.max[row], series.flags[row], series.day?.[row]);
  });
  return out;
}

function push(out, time, number, min, max, flags, day = "") {
  out.time.push(time);
  out.value.push(number);
  out.min.push(min);
  out.max.push(max);
  out.flags.push(flags);
  out.day.push(day);
}

/** A time as the chart names it: of a whole day its date where the patient lives, wherever the reader is. */
const named = (time, day) => (day ? new Date(day).toLocaleDateString("en-GB", { dateStyle: "medium", timeZone: "UTC" }) : new Date(time * 1000).toLocaleString("en-GB"));

/** What the limits of a vital sign draw: {number, severity, from, to}, times in seconds; `history` is newest first. */
export function lines(history, vital) {
  return history.flatMap((version, place) => version.limits.filter((limit) => limit.vital === vital).flatMap((limit) =>
    [limit.low, limit.high].filter((number) => number !== null).map((number) => ({
      number, severity: limit.severity, from: Date.parse(version.set) / 1000,
      to: place === 0 ? Infinity : Date.parse(history[place - 1].set) / 1000,
    }))));
}

const inForce = ([from, to]) => (line) => line.from < to && line.to > from;

function drawLimits(plot, limits) {
  const { ctx, bbox } = plot;
  ctx.save();
  ctx.lineWidth = devicePixelRatio * 1.5;
  ctx.setLineDash([6 * devicePixelRatio, 4 * devicePixelRatio]);
  for (const { number, severity, from, to } of limits) {
    const y = plot.valToPos(number, "y", true);
    const left = Math.max(bbox.left, plot.valToPos(from, "x", true));
    const right = Math.min(bbox.left + bbox.width, to === Infinity ? Infinity : plot.valToPos(to, "x", true));
    if (y < bbox.top || y > bbox.top + bbox.height || right <= left) continue;
    ctx.strokeStyle = colour(`--${severity}`);
    ctx.beginPath();
    ctx.moveTo(left, y);
    ctx.lineTo(right, y);
    ctx.stroke();
  }
  // A tick in the margin says what holds now, however short a time it has.
  ctx.setLineDash([]);
  ctx.lineWidth = devicePixelRatio * 3;
  for (const { number, severity } of limits.filter((line) => line.to === Infinity)) {
    const y = plot.valToPos(number, "y", true);
    if (y < bbox.top || y > bbox.top + bbox.height) continue;
    ctx.strokeStyle = colour(`--${severity}`);
    ctx.beginPath();
    ctx.moveTo(bbox.left + bbox.width + devicePixelRatio, y);
    ctx.lineTo(bbox.left + bbox.width + TICK_PX * devicePixelRatio, y);
    ctx.stroke();
  }
  ctx.restore();
}

/** What had no number stands at the edge it is beyond: a triangle that points out of the chart. */
function drawBeyond(plot, columns, coarse) {
  const { ctx, bbox } = plot;
  const size = 5 * devicePixelRatio;
  ctx.save();
  ctx.fillStyle = colour("--ink");
  columns.time.forEach((time, row) => {
    if (!coarse && columns.value[row] !== null) return;
    const x = plot.valToPos(time, "x", true);
    if (x < bbox.left || x > bbox.left + bbox.width) return;
    for (const [flag, edge, out] of [["below_range", bbox.top + bbox.height, 1], ["above_range", bbox.top, -1]]) {
      if (!columns.flags[row].includes(flag)) continue;
      ctx.beginPath();
      ctx.moveTo(x, edge);
      ctx.lineTo(x - size, edge - out * 1.6 * size);
      ctx.lineTo(x + size, edge - out * 1.6 * size);
      ctx.fill();
    }
  });
  ctx.restore();
}

/** Where something happened: a line from top to bottom. */
function drawMark(plot, mark) {
  if (!mark) return;
  const { ctx, bbox } = plot;
  const x = plot.valToPos(mark, "x", true);
  ctx.save();
  ctx.strokeStyle = colour("--soft");
  ctx.lineWidth = devicePixelRatio;
  ctx.beginPath();
  ctx.moveTo(x, bbox.top);
  ctx.lineTo(x, bbox.top + bbox.height);
  ctx.stroke();
  ctx.restore();
}

function options(Plot, key, ucum, held, width, height) {
  const ink = () => colour("--ink");
  const soft = () => colour("--soft");
  const axis = { stroke: soft, grid: { stroke: () => colour("--line"), width: 1 }, ticks: { stroke: () => colour("--line"), width: 1 }, font: "12px system-ui" };
  const days = { ...axis, values: CLOCK_24 };
  const band = { show: true, stroke: () => colour("--line"), width: 1, points: { show: false } };
  const told = (_plot, number, _series, row) => {
    const flags = held.current.columns.flags[row] ?? [];
    if (number === null || number === undefined) return flags.length ? `${beyond(flags) || NO_VALUE} · ${flags.map(words).join(" · ")}` : "";
    const spread = held.current.coarse ? ` (${value(key, held.current.columns.min[row])}–${value(key, held.current.columns.max[row])})` : "";
    return `${value(key, number)} ${unit(ucum)}${spread}${flags.map((flag) => ` · ${words(flag)}`).join("")}`;
  };
  const reach = (_plot, low, high) => {
    const numbers = [low, high, ...held.current.limits.filter(inForce(held.current.window)).map((line) => line.number)].filter(Number.isFinite);
    if (!numbers.length) return [0, 1];
    const [bottom, top] = [Math.min(...numbers), Math.max(...numbers)];
    const room = Math.max((top - bottom) * 0.12, 1);
    return [bottom - room, top + room];
  };
  // Days begin at the patient's midnight, all other times are the reader's.
  const tzDate = (time) => (held.current.daily && held.current.zone ? Plot.tzDate(new Date(time * 1000), held.current.zone) : new Date(time * 1000));
  return {
    tzDate, width, height, padding: [null, TICK_PX + 12, null, null], cursor: { sync: { key: "time" }, drag: { x: true, y: false } },
    scales: { x: { time: true, range: (_plot, low, high) => held.current.zoom ?? held.current.window ?? [low, high] }, y: { range: reach } },
    axes: [days, { ...axis, size: 54 }],
    series: [
      { label: "time", value: (_plot, time, _series, row) => (time ? named(time, held.current.columns.day[row]) : "") },
      { ...band, label: "min" },
      { ...band, label: "max" },
      { label: "value", stroke: ink, width: 1.6, value: told, points: { show: (plot, _series, from, to) => to - from < POINTS_UP_TO, size: 5, fill: ink,
        filter: (plot, series, shown) => (shown ? null : alone(plot.data[series])) } },
    ],
    bands: [{ series: [2, 1], fill: () => colour("--band") }],
    hooks: {
      draw: [(plot) => drawLimits(plot, held.current.limits), (plot) => drawBeyond(plot, held.current.columns, held.current.coarse),
        (plot) => drawMark(plot, held.current.mark)],
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

/** What the picture says, for those who do not see it. */
function spoken(series) {
  const numbers = [...series.min, ...series.max].filter((number) => number !== null);
  const { name } = state.tables.vitals[series.vital];
  if (!numbers.length) return `${name}: no number in this time`;
  const [low, high] = [Math.min(...numbers), Math.max(...numbers)].map((number) => value(series.vital, number));
  return `${name}: ${low} to ${high} ${unit(series.unit)} in this time`;
}

/** `series` has times in seconds; `history` are versions of limits; `window` is [from, to] in seconds; `zoom` narrows
 * it; `theme` redraws; `mark` is a time in seconds; `zone` is where the patient lives. */
export function Chart({ series, history, window: span, zoom, onZoom, theme, zone = null, mark = null, height = HEIGHT }) {
  const box = useRef(null);
  const plot = useRef(null);
  const held = useRef({});
  const [Plot, setPlot] = useState(null);
  const [problem, setProblem] = useState("");
  const limits = lines(history, series.vital);
  const coarse = series.resolution !== "raw";
  const columns = withGaps(series);
  held.current = { columns, coarse, daily: series.resolution === "1d", zone, limits, window: span, zoom, zoomTo: onZoom, mark };
  useEffect(() => {
    let gone = false;
    loadPlotter().then((loaded) => gone || setPlot(() => loaded), (error) => gone || setProblem(error.message));
    return () => { gone = true; };
  }, []);
  useEffect(() => {
    if (!Plot) return undefined;
    const drawn = new Plot(options(Plot, series.vital, series.unit, held, box.current.clientWidth, height), columnsOf(columns, coarse), box.current);
    plot.current = drawn;
    drawn.over.addEventListener("dblclick", () => onZoom(null));
    const resized = new ResizeObserver(() => drawn.setSize({ width: box.current.clientWidth, height }));
    resized.observe(box.current);
    return () => {
      resized.disconnect();
      drawn.destroy();
    };
  }, [series.vital, theme, Plot]);
  useEffect(() => plot.current?.setData(columnsOf(columns, coarse)));
  if (problem) return html`<div class="plot waiting"><span role="alert">No chart: ${problem}. Reload the page.</span></div>`;
  return html`<div class="plot" ref=${box} role="img" aria-label=${spoken(series)}></div>`;
}
