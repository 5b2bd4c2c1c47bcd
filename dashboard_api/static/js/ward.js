// Everybody on one screen, who needs someone first.

import { html, useRef, useState } from "../vendor/htm-preact.module.js";
import { now } from "./api.js";
import { AlertList, Mark } from "./alerts.js";
import { age, count, moment, NO_VALUE, unit, value, words } from "./format.js";
import { ageOf, breach, isStale, openAlerts, state, taken } from "./store.js";

const COLUMNS = [
  ["HR", ["heart_rate", "pulse_rate", "pulse_rate_nibp"]],
  ["SpO₂", ["spo2"]],
  ["RR", ["resp_rate"]],
  ["BP", ["bp_sys"], "bp_dia"],
  ["Temp", ["temp"]],
  ["Glucose", ["glucose_isf", "glucose_bg", "glucose"]],
  ["Weight", ["weight"]],
];
const QUIET = ["replayed", "clock_corrected", "revision", "manual"];

/** The newest reading of a column's vital signs. */
function newest(patient, keys) {
  const held = state.latest.get(patient);
  return keys.map((key) => held?.get(key)).filter(Boolean)
    .reduce((best, one) => (!best || Date.parse(one.time) > Date.parse(best.time) ? one : best), null);
}

export function Value({ reading, second, severity }) {
  if (!reading) return html`<span class="value none">${NO_VALUE}<small>no reading</small></span>`;
  const { values = [] } = state.tables.vitals[reading.vital] ?? {};
  const stale = isStale(reading);
  const flags = reading.flags.filter((flag) => !QUIET.includes(flag));
  const pair = second && Math.abs(Date.parse(second.time) - Date.parse(reading.time)) < 60_000 ? `/${value(second.vital, second.value)}` : "";
  const bound = reading.flags.includes("below_range") ? "<" : reading.flags.includes("above_range") ? ">" : "";
  return html`<span class="value ${stale ? "stale" : severity ?? ""}" title="${moment(Date.parse(reading.time))} · ${reading.device}">
    <b>${bound}${value(reading.vital, reading.value, values)}${pair}</b>
    <small>${reading.basis === "unknown" ? "time unknown" : `${stale ? "stale " : ""}${age(ageOf(reading))}`}${
      flags.map((flag) => ` · ${words(flag)}`)}</small>
  </span>`;
}

function byNeed(rows) {
  return [...rows].sort((a, b) => {
    const [first, second] = [a.alerts[0], b.alerts[0]];
    if (first && second) {
      return first.severity.localeCompare(second.severity) || Number(taken(first)) - Number(taken(second)) ||
        first.raised.localeCompare(second.raised);
    }
    return Number(!first) - Number(!second) || (a.patient.name ?? "").localeCompare(b.patient.name ?? "", "en", { numeric: true });
  });
}

/** Rows stay where they are under a resting pointer, but for a new high-priority alert. */
function useSteadyOrder(rows) {
  const held = useRef({ order: [], high: 0 });
  const [pointed, setPointed] = useState(false);
  const wanted = byNeed(rows);
  const high = wanted.filter((row) => row.alerts[0]?.severity === "S1" && !taken(row.alerts[0])).length;
  const same = held.current.order.length === wanted.length;
  if (!pointed || !same || high > held.current.high) held.current.order = wanted.map((row) => row.patient.patient);
  held.current.high = high;
  const place = new Map(held.current.order.map((id, number) => [id, number]));
  const steady = [...rows].sort((a, b) => place.get(a.patient.patient) - place.get(b.patient.patient));
  const moved = steady.some((row, number) => row !== wanted[number]);
  const sortNow = () => {
    held.current.order = wanted.map((row) => row.patient.patient);
    setPointed(false);
  };
  return { steady, moved, sortNow, setPointed };
}

function Row({ row, columns }) {
  const { patient, alerts } = row;
  const first = alerts[0];
  return html`<tr>
    <td class="need">${first && html`<${Mark} severity=${first.severity} />
      <small>${age((now() - Date.parse(first.raised)) / 1000)}${taken(first) ? " · taken" : ""}</small>`}</td>
    <th scope="row"><a href="#/patient/${patient.patient}">${patient.name ?? patient.patient}</a>
      <small>${words(patient.condition ?? "")}${patient.status === "active" ? "" : ` · ${patient.status}`}</small></th>
    ${columns.map(([label, keys, second]) => html`<td key=${label} data-label=${label}>
      <${Value} reading=${newest(patient.patient, keys)} second=${second && state.latest.get(patient.patient)?.get(second)}
        severity=${breach(alerts, second ? [...keys, second] : keys)} /></td>`)}
  </tr>`;
}

const NOBODY = html`<section class="empty"><h2>Nobody here yet</h2>
  <p>Add a patient and the device that they wear. Readings appear by themselves.</p>
  <pre><code>${`vitalgate patient add --name "Ada Example" --zone Europe/Berlin
vitalgate device add --adapter json --id oximeter-1
vitalgate device assign oximeter-1 PATIENT`}</code></pre></section>`;

export function Ward() {
  const [find, setFind] = useState("");
  const alerts = openAlerts();
  const rows = [...state.patients.values()].map((patient) => ({
    patient, alerts: alerts.filter((alert) => alert.patient === patient.patient),
  }));
  const { steady, moved, sortNow, setPointed } = useSteadyOrder(rows);
  const columns = COLUMNS.filter(([, keys]) => rows.some((row) => newest(row.patient.patient, keys)));
  const shown = steady.filter((row) => (row.patient.name ?? row.patient.patient).toLowerCase().includes(find.toLowerCase()));
  const heading = ([label, keys]) => {
    const reading = rows.map((row) => newest(row.patient.patient, keys)).find(Boolean);
    return html`<th key=${label} scope="col">${label} <small>${unit(reading.unit)}</small></th>`;
  };
  return html`<main>
    <div class="head"><h1>Ward</h1><span class="soft">${count(rows.length, "patient")}</span><span class="grow"></span>
      ${moved && html`<button class="chip" onClick=${sortNow}>Order changed · sort</button>`}
      ${rows.length > 0 && html`<input id="find" type="search" placeholder="Find a patient  /" aria-label="Find a patient"
        value=${find} onInput=${(event) => setFind(event.target.value)} />`}</div>
    ${alerts.length > 0
      ? html`<section class="first" aria-label="Open alerts"><${AlertList} alerts=${alerts} keys=${true} /></section>`
      : rows.length > 0 && html`<p class="calm">No open alert: nobody needs someone now, as far as the limits tell.</p>`}
    ${rows.length === 0 ? state.loaded && NOBODY : html`<div class="scroll"><table class="ward" onPointerEnter=${() => setPointed(true)}
      onPointerLeave=${() => setPointed(false)}>
      <thead><tr><th scope="col">Needs</th><th scope="col">Patient</th>${columns.map(heading)}</tr></thead>
      <tbody>${shown.map((row) => html`<${Row} key=${row.patient.patient} row=${row} columns=${columns} />`)}</tbody>
    </table></div>
    ${columns.length === 0 && html`<p class="calm">No reading yet. Publish one as a device that a patient wears:
      <code>mosquitto_pub -q 1 -u DEVICE -P SECRET -t vitals/DEVICE/json -m '{"vital":"spo2","value":97,"unit":"%"}'</code></p>`}
    ${shown.length === 0 && html`<p class="calm">No patient is named like “${find}”.</p>`}`}
  </main>`;
}
