// The one state of the page and the one stream that keeps it up to date.

import { all, get, now, request, whenSignedOut } from "./api.js";
import { OPEN } from "./format.js";

const REDRAW_MS = 200;
const RETRY_MS = 3000;
const SILENT_MS = 6000;
const REFRESH_MS = 60_000;

export const state = {
  session: undefined, // undefined: not asked yet, null: signed out
  ended: false, // a session was open on this page, and is not any more
  tables: null,
  loaded: false,
  error: "",
  patients: new Map(), // id -> patient
  latest: new Map(), // patient id -> Map of vital -> the newest {value, average, doubted}
  alerts: new Map(), // id -> alert
  trends: { start: 0, step: 1, of: new Map() }, // times in ms; patient id -> vital -> means by slot, null for none
  system: null,
  evaluatedTo: null,
  heard: 0, // when the stream last said anything
  connected: false,
};

const listeners = new Set();
const readingListeners = new Set();
const deviceListeners = new Set();
let redraw = 0;
let source = null;
let lastUnknown = 0;

/** Tell the page that the state changed; it is drawn again soon, and once for many changes. */
export function changed() {
  if (!redraw) {
    redraw = setTimeout(() => {
      redraw = 0;
      for (const listener of listeners) listener();
    }, REDRAW_MS);
  }
}

export function subscribe(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

export function onReading(listener) {
  readingListeners.add(listener);
  return () => readingListeners.delete(listener);
}

export function onDevice(listener) {
  deviceListeners.add(listener);
  return () => deviceListeners.delete(listener);
}

/** live, stalled (connected, but nothing is evaluated any more), lost, or none (the role has no stream). */
export function connection() {
  if (state.session && !may("stream:read")) return "none";
  if (!state.connected) return "lost";
  return Date.now() - state.heard > SILENT_MS ? "stalled" : "live";
}

export const may = (permission) => state.session?.permissions.includes(permission) ?? false;
export const nameOf = (id) => state.patients.get(id)?.name ?? id;

/** Open alerts, who needs someone most first: priority, not yet acknowledged, oldest. */
export function openAlerts(patient) {
  return [...state.alerts.values()]
    .filter((alert) => OPEN.includes(alert.state) && (!patient || alert.patient === patient))
    .sort((a, b) => a.severity.localeCompare(b.severity) || Number(taken(a)) - Number(taken(b)) ||
      a.raised.localeCompare(b.raised) || a.id.localeCompare(b.id));
}

/** A row for each incident, where its first alert stands: {key, members}. An alert of no incident is one of its own. */
export function incidentsOf(alerts) {
  const rows = new Map();
  for (const alert of alerts) {
    const key = alert.incident ?? alert.id;
    if (!rows.has(key)) rows.set(key, { key, members: [] });
    rows.get(key).members.push(alert);
  }
  return [...rows.values()];
}

/** Priority of what is wrong with a patient's vital signs now: a condition that ended waits for a person, but tints nothing. */
export const breach = (alerts, vitals) =>
  alerts.find((alert) => vitals.includes(alert.values[0]?.vital) && !alert.state.startsWith("rtn"))?.severity;

export const taken = (alert) => !alert.state.endsWith("unack");

/** When a reading was measured: one over an interval at its end, an aggregate of an interval at its start. */
export const instant = (reading) => Date.parse((reading.statistic === "single" && reading.end) || reading.time);

/** Seconds since a reading was measured, on the server's clock. */
export const ageOf = (reading) => (now() - instant(reading)) / 1000;

export function isStale(reading) {
  const age = ageOf(reading);
  return !(age <= (state.tables?.vitals[reading.vital]?.stale_s ?? 0)) || reading.basis === "unknown";
}

const NEVER_LATEST = ["implausible", "retracted", "control_solution", "test_data"];
const VALUES = ["single", "sum", "count"];
const AVERAGES = ["mean", "median"];

/** What the stream brought while a load was under way: the answer may not have it yet. */
let meanwhile = null;

/** A reading was withdrawn: what counts instead is asked for. */
async function withdraw(reading) {
  const held = state.latest.get(reading.patient);
  const known = held?.get(reading.vital) ?? {};
  for (const [trust, one] of Object.entries(known)) {
    if (one.time === reading.time && one.seq === reading.seq && one.device === reading.device) delete known[trust];
  }
  if (Object.keys(known).length === 0) held?.delete(reading.vital);
  try {
    for (const one of (await get(`latest?patient=${reading.patient}`)).items) one.readings.forEach(takeReading);
  } catch {
    return; // the next load of everything brings it
  }
  changed();
}

function takeReading(reading) {
  const trust = trustOf(reading);
  if (!trust || reading.flags.some((flag) => NEVER_LATEST.includes(flag))) return;
  if (reading.trusted) takeReading(reading.trusted);
  let held = state.latest.get(reading.patient);
  if (!held) state.latest.set(reading.patient, (held = new Map()));
  const known = held.get(reading.vital) ?? {};
  held.set(reading.vital, known);
  const before = known[trust];
  // Another measurement of the same time stays beside it: an open alert may be about that one.
  const twins = before?.time === reading.time;
  if (before && later(reading, before) < 0) {
    if (twins) before.twin = reading;
    return;
  }
  known[trust] = reading;
  if (twins) reading.twin = before.seq === reading.seq ? before.twin : before;
}

/** Whether the time of a reading is not certain: its device's clock is wrong, or nothing says when it was measured. */
export const isUncertain = (reading) => reading.basis === "unknown" || reading.flags.includes("clock_wrong");

/** What a reading may count as; nothing for an extreme or a spread. */
function trustOf(reading) {
  const value = VALUES.includes(reading.statistic);
  if (!value && !AVERAGES.includes(reading.statistic)) return "";
  return isUncertain(reading) ? "doubted" : value ? "value" : "average";
}

const later = (one, other) => Date.parse(one.time) - Date.parse(other.time) || one.seq - other.seq;
const newestOf = (readings) => readings.filter(Boolean).reduce((best, one) => (best && later(best, one) >= 0 ? best : one), undefined);
const toldOf = (patient, vital) => openAlerts(patient).flatMap((alert) => alert.values.filter((one) => one.vital === vital));

/** Of several readings of one time, the one that an open alert is about. */
function alertedOf(patient, vital, reading) {
  const told = reading.twin ? toldOf(patient, vital) : [];
  for (let one = reading; one && told.length; one = one.twin) {
    if (told.some((value) => value.time === one.time && value.value === one.value)) return one;
  }
  return reading;
}

/** Milliseconds of the newest value of the open alerts on a vital sign; before all times without any. */
const toldAt = (patient, vital) => Math.max(-Infinity, ...toldOf(patient, vital).map((value) => Date.parse(value.time)));

/** The reading of a vital sign that is shown, by the rule of `GET /latest`: a value of certain time that is not stale,
 *  then such an average, else the newest; one of uncertain time carries the newest of certain time as `trusted`. Under
 *  an open alert nothing newer is hidden. */
export function latestOf(patient, vital) {
  const held = state.latest.get(patient)?.get(vital);
  if (!held) return undefined;
  const certain = [held.value, held.average].filter(Boolean);
  const newest = newestOf([...certain, held.doubted]);
  const current = certain.find((one) => !isStale(one));
  const newer = Date.parse(newest.time) > Date.parse(current?.time);
  const told = newer && toldAt(patient, vital) > Date.parse(current.time);
  if (current && !told) return alertedOf(patient, vital, current);
  return isUncertain(newest) && certain.length ? { ...newest, trusted: newestOf(certain) } : alertedOf(patient, vital, newest);
}

/** Every vital sign of a patient that was ever measured. */
export const vitalsOf = (patient) => [...(state.latest.get(patient)?.keys() ?? [])];

function takeAlert(alert) {
  const known = state.alerts.get(alert.id);
  if (!known || known.updated <= alert.updated) state.alerts.set(alert.id, alert);
}

export { takeAlert };

async function load() {
  const states = OPEN.map((word) => `state=${word}`).join("&");
  meanwhile = { readings: [], alerts: [] };
  const [tables, patients, alerts, latest] = await Promise.all([
    request("/tables.json"), may("patients:read") ? all("patients") : [], may("alerts:read") ? all(`alerts?${states}`) : [],
    may("vitals:read") ? all("latest") : [],
  ]);
  state.tables = tables;
  state.patients = new Map(patients.map((patient) => [patient.patient, patient]));
  for (const id of state.alerts.keys()) if (!alerts.some((alert) => alert.id === id)) state.alerts.delete(id);
  alerts.forEach(takeAlert);
  // Anew, so that what was erased or retracted since does not stay.
  state.latest = new Map();
  latest.forEach((one) => one.readings.forEach(takeReading));
  meanwhile.readings.forEach(takeReading);
  meanwhile.alerts.forEach(takeAlert);
  meanwhile = null;
  state.loaded = true;
  changed();
}

async function loadTrends() {
  if (!may("vitals:read") || document.hidden) return;
  const of = new Map();
  let answer = { next: "" };
  do {
    answer = await get(`trends?limit=1000${answer.next && `&cursor=${encodeURIComponent(answer.next)}`}`);
    for (const { patient, vitals } of answer.items) of.set(patient, vitals);
  } while (answer.next);
  state.trends = { start: Date.parse(answer.start), step: answer.step_s * 1000, of };
  changed();
}

let loading = null;

/** Ask for everything anew, once at a time. */
export function reload() {
  loading ??= Promise.resolve().then(load).then(loadTrends).then(() => { state.error = ""; }, (error) => { state.error = error.message; })
    .finally(() => {
      loading = null;
      changed();
    });
  return loading;
}

/** A patient was added since the page was loaded. */
function meet(id) {
  if (state.patients.has(id) || Date.now() - lastUnknown < RETRY_MS) return;
  lastUnknown = Date.now();
  reload();
}

function listen() {
  source?.close();
  if (!may("stream:read")) return;
  source = new EventSource("/api/v1/stream");
  const on = (name, take) => source.addEventListener(name, (event) => {
    state.heard = Date.now();
    take(JSON.parse(event.data));
    changed();
  });
  on("reading", (reading) => {
    meet(reading.patient);
    meanwhile?.readings.push(reading);
    if (reading.flags.includes("retracted")) withdraw(reading);
    takeReading(reading);
    for (const listener of readingListeners) listener(reading);
  });
  on("alert", (alert) => {
    meet(alert.patient);
    meanwhile?.alerts.push(alert);
    takeAlert(alert);
  });
  on("device", (event) => {
    for (const listener of deviceListeners) listener(event);
  });
  on("tick", (tick) => {
    state.evaluatedTo = Date.parse(tick.evaluated_to);
  });
  source.onopen = () => {
    state.connected = true;
    state.heard = Date.now();
    changed();
  };
  source.onerror = () => {
    state.connected = false;
    changed();
    // The browser goes on by itself where it stood, unless the server refused: then ask why, and start anew.
    if (source.readyState === EventSource.CLOSED) setTimeout(start, RETRY_MS);
  };
}

async function pollSystem() {
  if (state.session) {
    try {
      state.system = await get("system");
      state.evaluatedTo ??= Date.parse(state.system.evaluated_to ?? "") || null;
    } catch {
      state.system = null;
    }
    changed();
  }
}

/** Find out who is signed in; then load, and listen from before the load on. */
export async function start() {
  try {
    state.session = await request("/session", { person: true });
  } catch {
    setTimeout(start, RETRY_MS);
    return;
  }
  changed();
  if (state.session === null) {
    forget();
    return;
  }
  listen();
  await Promise.all([reload(), pollSystem()]);
}

/** Nobody is signed in: nothing of anybody stays in memory. */
function forget() {
  state.ended = state.ended || state.loaded;
  state.session = null;
  source?.close();
  source = null;
  state.connected = false;
  for (const held of [state.patients, state.latest, state.alerts, state.trends.of]) held.clear();
  state.loaded = false;
  changed();
}

whenSignedOut(forget);

setInterval(pollSystem, 5000);
setInterval(() => state.session && state.loaded && reload(), REFRESH_MS);
setInterval(changed, 1000);
