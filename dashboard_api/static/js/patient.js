// One patient: what is wrong now, and how it came to be.

import { html, useEffect, useRef, useState } from "../vendor/htm-preact.module.js";
import { all, get, now } from "./api.js";
import { AlertList } from "./alerts.js";
import { Chart } from "./chart.js";
import { age, condition, faultWords, PRIORITY, unit, value } from "./format.js";
import { breach, latestOf, may, onReading, openAlerts, state, vitalsOf } from "./store.js";
import { Value } from "./ward.js";
import { Enrolled, Watching } from "./watch.js";

export const RANGES = [["1h", "1 h", 3600], ["6h", "6 h", 21600], ["24h", "24 h", 86400], ["7d", "7 d", 604800],
  ["30d", "30 d", 2592000], ["1y", "1 y", 31536000]];
const POINTS = 1500;
const REFRESH_MS = 30_000;

const secondsOf = (series) => ({ ...series, time: series.time.map((time) => Date.parse(time) / 1000) });

async function read(patient, vital, seconds, options) {
  const start = new Date(now() - seconds * 1000).toISOString();
  const query = `vital=${vital}&start=${encodeURIComponent(start)}&max_points=${POINTS}`;
  return secondsOf(await get(`patients/${patient}/readings?${query}`, options));
}

/** Series by vital sign for a range, kept up to date by the stream. */
function useSeries(patient, vitals, seconds) {
  const [series, setSeries] = useState({});
  const [problem, setProblem] = useState("");
  const asked = vitals.join();
  useEffect(() => {
    let gone = false;
    const load = async (options) => {
      try {
        for (const vital of asked.split(",").filter(Boolean)) {
          const one = await read(patient, vital, seconds, options);
          if (gone) return;
          setSeries((held) => ({ ...held, [vital]: one }));
        }
        setProblem("");
      } catch (error) {
        if (!gone) setProblem(error.message);
      }
    };
    load({ person: true });
    const again = setInterval(load, REFRESH_MS);
    const stop = onReading((reading) => reading.patient === patient && reading.flags.includes("retracted") && load());
    return () => {
      gone = true;
      clearInterval(again);
      stop();
    };
  }, [patient, asked, seconds]);
  useEffect(() => onReading((reading) => {
    if (reading.patient !== patient || reading.flags.includes("retracted")) return;
    setSeries((held) => (held[reading.vital] ? { ...held, [reading.vital]: appended(held[reading.vital], reading) } : held));
  }), [patient]);
  return [series, problem];
}

/** What is newer than the last point is drawn at once; coarse series and late readings wait for the next refresh. */
function appended(series, reading) {
  const time = Date.parse(reading.time) / 1000;
  if (series.resolution !== "raw" || reading.flags.includes("retracted") || time <= (series.time.at(-1) ?? 0)) return series;
  return {
    ...series,
    time: [...series.time, time], value: [...series.value, reading.value], min: [...series.min, reading.value],
    max: [...series.max, reading.value], flags: [...series.flags, reading.flags],
  };
}

/** A list that is asked for again as often as the charts. */
function useList(path) {
  const [got, setGot] = useState([]);
  useEffect(() => {
    let gone = false;
    const load = () => all(path).then((items) => gone || setGot(items), () => {});
    load();
    const again = setInterval(load, REFRESH_MS);
    return () => {
      gone = true;
      clearInterval(again);
    };
  }, [path]);
  return got;
}

function Devices({ patient }) {
  const assigned = useList(`patients/${patient}/assignments`);
  const devices = useList("devices");
  const worn = assigned.filter((one) => !one.to || Date.parse(one.to) > now()).map((one) => devices.find((device) => device.device === one.device)).filter(Boolean);
  return worn.map((device) => html`<span key=${device.device} class="fact"><b>${device.device}</b>
    <small>${device.adapter} · ${device.last_seen ? `last contact ${age((now() - Date.parse(device.last_seen)) / 1000)} ago` : "never heard"}</small>
    ${device.faults.filter((fault) => fault.kind === "clock_fault").map((fault) => html` <span key=${fault.detail} class="flag">${faultWords(fault)}</span>`)}
    ${device.cannot_page.map((one) => html` <span key=${one.vital} class="flag" title=${one.reason}>cannot page</span>`)}</span>`);
}

export function Patient({ id, ...rest }) {
  if (state.patients.has(id)) return html`<${Known} id=${id} ...${rest} />`;
  return html`<main><section class="empty"><h2>${state.loaded ? "No such patient" : "Loading"}</h2><p><a href="#/">Back to the ward</a></p></section></main>`;
}

function Known({ id, range, theme }) {
  const patient = state.patients.get(id);
  const [, label, seconds] = RANGES.find(([key]) => key === range) ?? RANGES[2];
  const vitals = vitalsOf(id).sort((a, b) => order(a) - order(b));
  const [series, problem] = useSeries(id, vitals, seconds);
  const [zoom, setZoom] = useState(null);
  const history = useList(`patients/${id}/limits/history`);
  const spanOf = useRef(null);
  const end = Math.ceil(now() / 5000) * 5; // moves every five seconds, not with every redraw
  spanOf.current = [end - seconds, end];
  useEffect(() => setZoom(null), [id, range]);
  const alerts = openAlerts(id);
  return html`<main>
    <div class="head"><a class="back" href="#/" aria-label="Back to the ward">←</a><h1>${patient.name ?? id}</h1>
      <span class="soft">${[condition(patient.condition), patient.birth_date && `born ${patient.birth_date}`, patient.mrn && `record ${patient.mrn}`, patient.zone,
        patient.status !== "active" && patient.status].filter(Boolean).join(" · ")}</span></div>
    <div class="facts">${may("programmes:read") && html`<${Enrolled} patient=${id} />`}<${Devices} patient=${id} /></div>
    ${alerts.length > 0 ? html`<section class="first"><${AlertList} alerts=${alerts} keys=${true} named=${false} /></section>`
      : html`<p class="calm">No open alert.</p>`}
    ${may("programmes:read") && html`<${Watching} patient=${id} />`}
    <div class="ranges" role="group" aria-label="Time range">
      ${RANGES.map(([key, text]) => html`<a key=${key} class="chip" href="#/patient/${id}?range=${key}" aria-current=${text === label ? "true" : null}>${text}</a>`)}
      ${zoom ? html`<button class="chip" onClick=${() => setZoom(null)}>Whole range</button>` : html`<span class="soft wide">drag to zoom</span>`}</div>
    ${problem && html`<p role="alert" class="problem"><b>Charts are not up to date.</b> ${problem}</p>`}
    ${vitals.length === 0 && html`<section class="empty"><h2>No readings yet</h2><p>Assign a device to the patient and publish a reading:</p>
      <pre><code>${`vitalgate device assign DEVICE ${id}`}</code></pre></section>`}
    ${vitals.map((key) => html`<${Vital} key=${key} vital=${key} reading=${latestOf(id, key)} series=${series[key]} label=${label}
      history=${history} severity=${breach(alerts, [key])}
      window=${spanOf.current} zone=${patient.zone} zoom=${zoom} onZoom=${setZoom} theme=${theme} />`)}
  </main>`;
}

const KEYS = ["heart_rate", "pulse_rate", "spo2", "resp_rate", "bp_sys", "bp_dia", "bp_art_sys", "bp_art_dia", "temp", "glucose_isf", "glucose_bg", "glucose", "weight"];
const order = (key) => (KEYS.indexOf(key) + 100) % 100;

/** The limit of each priority in one line. */
function Limits({ limits }) {
  return limits.map((limit) => html`<small key=${JSON.stringify(limit)} class="limit ${limit.severity}"><b>${PRIORITY[limit.severity].word}</b>
    ${limit.low !== null && html` <span>under ${value(limit.vital, limit.low)}</span>`}
    ${limit.high !== null && html` <span>over ${value(limit.vital, limit.high)}</span>`}</small>`);
}

function Vital({ vital, reading, series, history, severity, label, ...rest }) {
  const { name } = state.tables.vitals[vital];
  return html`<section class="vital" data-vital=${vital}>
    <div class="now"><h2>${name} <small class="soft">${unit(reading.unit)}</small></h2><${Value} reading=${reading} severity=${severity} />
      <${Limits} limits=${(history[0]?.limits ?? []).filter((limit) => limit.vital === vital)} /></div>
    ${!series ? html`<div class="plot waiting"></div>` : series.time.length === 0
      ? html`<div class="plot waiting"><span>No readings in the last ${label}.</span></div>`
      : html`<${Chart} series=${series} history=${history} ...${rest} />`}
  </section>`;
}
