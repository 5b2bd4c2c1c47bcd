// The one state of the page and the one stream that keeps it up to date.

import { all, get, now, request, whenSignedOut } from "./api.js";
import { OPEN } from "./format.js";

const REDRAW_MS = 200;
const RETRY_MS = 3000;
const SILENT_MS = 6000;
const AT_ONCE = 4;

export const state = {
  session: undefined, // undefined: not asked yet, null: signed out
  tables: null,
  loaded: false,
  error: "",
  patients: new Map(), // id -> patient
  latest: new Map(), // patient id -> Map of vital -> reading
  alerts: new Map(), // id -> alert
  system: null,
  evaluatedTo: null,
  heard: 0, // when the stream last said anything
  connected: false,
};

const listeners = new Set();
const readingListeners = new Set();
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

/** Priority of what is wrong with a patient's vital signs now: a condition that ended waits for a person, but tints nothing. */
export const breach = (alerts, vitals) =>
  alerts.find((alert) => vitals.includes(alert.values[0]?.vital) && !alert.state.startsWith("rtn"))?.severity;

export const taken = (alert) => !alert.state.endsWith("unack");

const instant = (reading) => Date.parse(reading.end ?? reading.time);

/** Seconds since a reading was measured, on the server's clock. */
export const ageOf = (reading) => (now() - instant(reading)) / 1000;

export function isStale(reading) {
  const age = ageOf(reading);
  return !(age <= (state.tables?.vitals[reading.vital]?.stale_s ?? 0)) || reading.basis === "unknown";
}

const NEVER_LATEST = ["implausible", "retracted", "control_solution", "test_data"];

/** A reading that is taken back is not shown any more; what stands before it comes with the next reload. */
function dropReading(reading) {
  const held = state.latest.get(reading.patient);
  const known = held?.get(reading.vital);
  if (known && ["device", "time", "seq"].every((name) => known[name] === reading[name])) held.delete(reading.vital);
}

function takeReading(reading) {
  if (reading.flags.includes("retracted")) dropReading(reading);
  if (reading.flags.some((flag) => NEVER_LATEST.includes(flag))) return;
  let held = state.latest.get(reading.patient);
  if (!held) state.latest.set(reading.patient, (held = new Map()));
  const known = held.get(reading.vital);
  const order = known && (Date.parse(reading.time) - Date.parse(known.time) || reading.seq - known.seq);
  if (!known || order >= 0) held.set(reading.vital, reading);
}

function takeAlert(alert) {
  const known = state.alerts.get(alert.id);
  if (!known || known.updated <= alert.updated) state.alerts.set(alert.id, alert);
}

export { takeAlert };

async function load() {
  const states = OPEN.map((word) => `state=${word}`).join("&");
  const [tables, patients, alerts] = await Promise.all([
    request("/tables.json"), may("patients:read") ? all("patients") : [], may("alerts:read") ? all(`alerts?${states}`) : [],
  ]);
  state.tables = tables;
  state.patients = new Map(patients.map((patient) => [patient.patient, patient]));
  for (const id of state.alerts.keys()) if (!alerts.some((alert) => alert.id === id)) state.alerts.delete(id);
  alerts.forEach(takeAlert);
  state.loaded = true;
  changed();
  const waiting = may("vitals:read") ? [...state.patients.keys()] : [];
  const one = async () => {
    for (let id = waiting.shift(); id; id = waiting.shift()) {
      (await get(`patients/${id}/latest`)).items.forEach(takeReading);
      changed();
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, one));
}

export async function reload() {
  try {
    await load();
    state.error = "";
  } catch (error) {
    state.error = error.message;
  }
  changed();
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
    takeReading(reading);
    for (const listener of readingListeners) listener(reading);
  });
  on("alert", (alert) => {
    meet(alert.patient);
    takeAlert(alert);
  });
  on("device", () => {});
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
  if (state.session === null) return;
  listen();
  await Promise.all([reload(), pollSystem()]);
}

whenSignedOut(() => {
  state.session = null;
  source?.close();
  source = null;
  state.connected = false;
  for (const held of [state.patients, state.latest, state.alerts]) held.clear();
  state.loaded = false;
  changed();
});

setInterval(pollSystem, 5000);
setInterval(changed, 1000);
