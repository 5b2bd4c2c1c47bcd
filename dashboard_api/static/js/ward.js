// Everybody on one screen, who needs someone first.

import { html, useEffect, useReducer, useRef, useState } from "../vendor/htm-preact.module.js";
import { now } from "./api.js";
import { AlertList, Mark } from "./alerts.js";
import { age, beyond, condition, count, moment, NO_VALUE, unit, value, words } from "./format.js";
import { ageOf, breach, incidentsOf, isStale, isUncertain, latestOf, openAlerts, state, taken, vitalsOf } from "./store.js";
import { Arrow, Spark } from "./trend.js";

const COLUMNS = [
  ["HR", ["heart_rate", "pulse_rate", "pulse_rate_nibp", "pulse_rate_art"]],
  ["SpO₂", ["spo2"]],
  ["RR", ["resp_rate", "resp_rate_vent"]],
  ["BP", ["bp_sys", "bp_art_sys"], { bp_sys: "bp_dia", bp_art_sys: "bp_art_dia" }],
  ["Temp", ["temp"]],
  ["Glucose", ["glucose_isf", "glucose_bg", "glucose"]],
  ["Weight", ["weight"]],
];
const FIRST_ALERTS = 20;
const ROW_PX = 44;
const SPARE_ROWS = 12;
const PHONE = matchMedia("(max-width: 40rem)");
const ON_A_PHONE = 50;
const QUIET = ["below_range", "above_range", "replayed", "clock_corrected", "revision", "manual"];

/** Which of the two hours that autumn shows alike a reading is of. */
const PASSES = { first: "1st pass of the hour", second: "2nd pass of the hour", unsure: "pass of the hour unsure" };

/** The newest reading of a column's vital signs. */
function newest(patient, keys) {
  return keys.map((key) => latestOf(patient, key)).filter(Boolean)
    .reduce((best, one) => (!best || Date.parse(one.time) > Date.parse(best.time) ? one : best), null);
}

export function Value({ reading, second, severity }) {
  if (!reading) return html`<span class="value none">${NO_VALUE}<small>no reading</small></span>`;
  const { values = [] } = state.tables.vitals[reading.vital] ?? {};
  const stale = isStale(reading);
  const flags = reading.flags.filter((flag) => !QUIET.includes(flag)).map(words);
  const out = beyond(reading.flags);
  if (out) flags.unshift(out === "LO" ? "below range" : "above range");
  const pair = second && Math.abs(Date.parse(second.time) - Date.parse(reading.time)) < 60_000 ? `/${value(second.vital, second.value)}` : "";
  const shown = reading.value === null && out ? out : `${{ LO: "<", HI: ">" }[out] ?? ""}${value(reading.vital, reading.value, values)}${pair}`;
  const when = isUncertain(reading) ? "time uncertain" : `${stale ? "stale " : ""}${age(ageOf(reading))}`;
  const below = [when, PASSES[reading.context?.repeated_hour], ...flags].filter(Boolean).join(" · ");
  const before = isUncertain(reading) && reading.trusted;
  return html`<span class="value ${stale ? "stale" : severity ?? ""}" title="${moment(Date.parse(reading.time))} · ${reading.device} · ${below}">
    <b>${shown}</b>${before && html` <i class="before" title="the last value of a certain time">was ${plain(before, values)}, ${age(ageOf(before))} ago</i>`}<${Arrow} reading=${reading} />
    <small>${below}</small>
  </span>`;
}

const plain = (reading, values) => (reading.value === null ? beyond(reading.flags) || NO_VALUE : value(reading.vital, reading.value, values));

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

/** Which of so many rows are near the screen: the others are as much empty space. */
function useVisible(total) {
  const table = useRef(null);
  const [, draw] = useReducer((number) => number + 1, 0);
  const [all, showAll] = useState(false);
  const span = useRef([0, 60]);
  const look = () => {
    const head = table.current?.tHead;
    if (!head) return;
    const above = -head.getBoundingClientRect().bottom / ROW_PX;
    const from = Math.max(0, Math.floor(above / SPARE_ROWS) * SPARE_ROWS - SPARE_ROWS);
    const to = from + Math.ceil(innerHeight / ROW_PX / SPARE_ROWS) * SPARE_ROWS + 3 * SPARE_ROWS;
    if (from === span.current[0] && to === span.current[1]) return;
    span.current = [from, to];
    draw();
  };
  useEffect(() => {
    const watched = [["scroll", window], ["resize", window], ["change", PHONE]];
    for (const [event, target] of watched) target.addEventListener(event, look, { passive: true });
    return () => watched.forEach(([event, target]) => target.removeEventListener(event, look));
  }, []);
  useEffect(look);
  if (PHONE.matches) return { table, from: 0, to: all ? total : Math.min(total, ON_A_PHONE), more: all ? 0 : Math.max(0, total - ON_A_PHONE), showAll };
  const from = Math.min(span.current[0], Math.max(0, total - SPARE_ROWS));
  return { table, from, to: Math.min(total, span.current[1]), more: 0, showAll };
}

const Space = ({ rows }) => (rows > 0 ? html`<tr class="space" aria-hidden="true" style=${{ height: `${rows * ROW_PX}px` }}></tr>` : null);

function Row({ row, columns, place }) {
  const { patient, alerts } = row;
  const first = alerts[0];
  return html`<tr aria-rowindex=${place + 2}>
    <td class="need">${first && html`<${Mark} severity=${first.severity} />
      <small>${age((now() - Date.parse(first.raised)) / 1000)}${taken(first) ? " · taken" : ""}</small>`}</td>
    <th scope="row"><a href="#/patient/${patient.patient}" title=${patient.name}>${patient.name ?? patient.patient}</a>
      <small>${[condition(patient.condition), patient.status !== "active" && patient.status].filter(Boolean).join(" · ")}</small></th>
    ${columns.map(([label, keys, seconds]) => {
      const reading = newest(patient.patient, keys);
      const second = reading && seconds?.[reading.vital];
      return html`<td key=${label} data-label=${label}><div class="cell">
        <${Value} reading=${reading} second=${second && latestOf(patient.patient, second)}
          severity=${breach(alerts, seconds ? [...keys, ...Object.values(seconds)] : keys)} />
        ${reading && html`<${Spark} reading=${reading} />`}</div></td>`;
    })}
  </tr>`;
}

const NOBODY = html`<section class="empty"><h2>No patients yet</h2>
  <p>Add a patient, then enrol and assign a device. Readings appear here as they arrive.</p>
  <pre><code>${`vitalgate patient add --name "Ada Example" --zone Europe/Berlin
vitalgate device add --adapter json --id oximeter-1
vitalgate device assign oximeter-1 PATIENT`}</code></pre></section>`;

const SHOWN = {
  all: ["Everybody", () => true],
  alerts: ["With alerts", (row) => row.alerts.length > 0],
  stale: ["No current readings", (row) => !vitalsOf(row.patient.patient).some((vital) => !isStale(latestOf(row.patient.patient, vital)))],
};

export function Ward({ filter }) {
  const [find, setFind] = useState("");
  const alerts = openAlerts();
  const of = new Map([...state.patients.keys()].map((id) => [id, []]));
  for (const alert of alerts) of.get(alert.patient)?.push(alert);
  const rows = [...state.patients.values()].map((patient) => ({ patient, alerts: of.get(patient.patient) }));
  const chosen = SHOWN[filter] ? filter : "all";
  const { steady, moved, sortNow, setPointed } = useSteadyOrder(rows);
  const columns = COLUMNS.filter(([, keys]) => rows.some((row) => newest(row.patient.patient, keys)));
  const shown = steady.filter(SHOWN[chosen][1]).filter((row) => (row.patient.name ?? row.patient.patient).toLowerCase().includes(find.toLowerCase()));
  const { table, from, to, more, showAll } = useVisible(shown.length);
  const heading = ([label, keys]) => {
    const reading = rows.map((row) => newest(row.patient.patient, keys)).find(Boolean);
    return html`<th key=${label} scope="col">${label} <small>${unit(reading.unit)}</small></th>`;
  };
  const incidents = incidentsOf(alerts);
  const first = incidents.slice(0, FIRST_ALERTS);
  return html`<main>
    <div class="head"><h1>Ward</h1><span class="soft">${count(rows.length, "patient")}</span><span class="grow"></span>
      ${rows.length > 0 && html`<div class="chips" role="group" aria-label="Show">${Object.entries(SHOWN).map(([key, [text]]) => html`<a key=${key} class="chip"
        href=${key === "all" ? "#/" : `#/?show=${key}`} aria-current=${key === chosen ? "true" : null}>${text}</a>`)}</div>`}
      ${moved && html`<button class="chip" onClick=${sortNow}>Order has changed: sort</button>`}
      ${rows.length > 0 && html`<input id="find" type="search" placeholder="Find a patient  /" aria-label="Find a patient"
        value=${find} onInput=${(event) => setFind(event.target.value)} />`}</div>
    ${alerts.length > 0
      ? html`<section class="first" aria-label="Open alerts"><${AlertList} alerts=${first.flatMap((row) => row.members)} keys=${true} />
        ${incidents.length > FIRST_ALERTS && html`<p class="calm"><a href="#/alerts">${count(incidents.length - FIRST_ALERTS, "more open alert")}</a></p>`}</section>`
      : rows.length > 0 && html`<p class="calm">No open alerts.</p>`}
    ${rows.length === 0 ? (state.loaded ? NOBODY : html`<p class="calm">Loading the ward …</p>`) : html`<div class="scroll"><table class="ward ${columns.length > 4 ? "many" : ""}" ref=${table}
      aria-rowcount=${shown.length + 1} onPointerEnter=${() => setPointed(true)}
      onPointerLeave=${() => setPointed(false)}>
      <thead><tr aria-rowindex="1"><th scope="col">Needs</th><th scope="col">Patient</th>${columns.map(heading)}</tr></thead>
      <tbody><${Space} key="above" rows=${from} />
        ${shown.slice(from, to).map((row, number) => html`<${Row} key=${row.patient.patient} row=${row} columns=${columns} place=${from + number} />`)}
        <${Space} key="below" rows=${PHONE.matches ? 0 : shown.length - to} /></tbody>
    </table></div>
    ${more > 0 && html`<button onClick=${() => showAll(true)}>Show ${count(more, "more patient")}</button>`}
    ${columns.length === 0 && html`<p class="calm">No readings yet. Publish one as a device that is assigned to a patient:
      <code>mosquitto_pub -q 1 -u DEVICE -P SECRET -t vitals/DEVICE/json -m '{"vital":"spo2","value":97,"unit":"%"}'</code></p>`}
    ${shown.length === 0 && html`<p class="calm">${find ? `No patient matches “${find}”.` : "No patient matches this filter now."}
      ${chosen !== "all" && html` <a href="#/">Show all patients</a>`}</p>`}`}
  </main>`;
}
