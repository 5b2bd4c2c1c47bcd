// Why an alert is there: its rule in words, the values behind it, the minutes around it, and who has it.

import { html, useEffect, useState } from "../vendor/htm-preact.module.js";
import { get, now } from "./api.js";
import { Chart } from "./chart.js";
import { age, beyond, clock, moment, unit, value, words } from "./format.js";
import { state, taken } from "./store.js";

const RUNGS = ["backup", "supervisor", "catch-all"];
const HEIGHT = 150;
const REFRESH_MS = 15_000;

/** Who is asked next, and when: "escalates to backup in 3 min". */
export function dueWords(alert) {
  if (!alert.due) return "";
  const seconds = (Date.parse(alert.due) - now()) / 1000;
  const when = seconds > 0 ? `in ${age(seconds + 59 - ((seconds + 59) % 60))}` : "now";
  if (taken(alert)) return alert.state === "shelved" ? "" : `asks again ${seconds > 0 ? when : "now"}`;
  const once = alert.severity === "S3" || alert.rule.startsWith("technical:");
  return `escalates to ${once ? "supervisor" : RUNGS[Math.min(alert.level, RUNGS.length - 1)]} ${when}`;
}

/** The answer for an alert as it stands; asked for again when the alert changes, and from time to time. */
function useExplanation(alert) {
  const [got, setGot] = useState(null);
  const [problem, setProblem] = useState("");
  useEffect(() => {
    let gone = false;
    const load = (options) => get(`alerts/${alert.id}/explanation`, options).then(
      (answer) => { if (!gone) { setGot(answer); setProblem(""); } },
      (error) => gone || setProblem(error.message),
    );
    load({ person: true });
    const again = setInterval(load, REFRESH_MS); // the minutes after the raise are still to come
    return () => {
      gone = true;
      clearInterval(again);
    };
  }, [alert.id, alert.updated]);
  return [got, problem];
}

const shownTime = (time) => (Date.now() - Date.parse(time) < 86_400_000 ? clock(Date.parse(time)) : moment(Date.parse(time)));

/** A value that has no number says why. */
function Reading({ one }) {
  const { values = [] } = state.tables.vitals[one.vital] ?? {};
  const shown = one.value === null ? beyond(one.flags) || "–" : value(one.vital, one.value, values);
  return html`<li><b>${shown}</b> ${unit(one.unit)} <span class="soft">${state.tables.vitals[one.vital]?.name ?? one.vital}, ${shownTime(one.time)}</span>
    ${one.quality.map((word) => html` <span key=${word} class="flag">${word}</span>`)}
    ${one.quality.length === 0 && html` <span class="soft">no quality problem</span>`}</li>`;
}

function Signal({ signal, severity }) {
  const series = { ...signal, time: signal.time.map((time) => Date.parse(time) / 1000) };
  if (series.time.length === 0) return null;
  const raised = Date.parse(signal.raised) / 1000;
  const [first, last] = [Math.min(series.time[0], raised), Math.max(series.time.at(-1), raised)];
  const room = Math.max((last - first) * 0.04, 5);
  const history = signal.limit === null ? [] : [{ set: "1970-01-01T00:00:00Z", limits: [{ vital: signal.vital, low: signal.limit, high: null, severity }] }];
  return html`<figure><figcaption class="soft">${state.tables.vitals[signal.vital].name}, ${signal.mode === "continuous" ? "15 minutes around the time of the alert" : "readings around the time of the alert"}</figcaption>
    <${Chart} series=${series} history=${history} window=${[first - room, last + room]} zoom=${null} onZoom=${() => {}} height=${HEIGHT} mark=${raised} /></figure>`;
}

export function Explanation({ alert }) {
  const [got, problem] = useExplanation(alert);
  if (problem) return html`<div class="why"><p role="alert" class="problem"><b>No explanation.</b> ${problem}</p></div>`;
  if (!got) return html`<div class="why soft">Loading the explanation …</div>`;
  const { rule, ladder } = got;
  return html`<div class="why">
    <div>
      <dl>
        <dt>Rule</dt><dd><b>${rule.title}</b> ${rule.words !== rule.title && rule.words}
          <small class="soft">${rule.source}${rule.version ? `, version ${rule.version}` : ""} · ${rule.id}</small></dd>
        ${got.values.length > 0 && html`<dt>Seen</dt><dd><ul>${got.values.map((one) => html`<${Reading} key=${one.time + one.vital} one=${one} />`)}</ul></dd>`}
        ${got.resolves && html`<dt>Ends when</dt><dd>${got.resolves}</dd>`}
        ${got.advice && html`<dt>To do</dt><dd>${got.advice}</dd>`}
        <dt>With</dt><dd>${[alert.owner || words(ladder.role ?? "nobody yet"), dueWords(alert)].filter(Boolean).join(", ")}</dd>
      </dl>
    </div>
    ${got.signal && html`<${Signal} signal=${got.signal} severity=${alert.severity} />`}
    <ol class="past">${got.history.map((event, place) => html`<li key=${place} title=${event.meaning}><time class="soft">${shownTime(event.at)}</time> ${event.words}</li>`)}</ol>
  </div>`;
}
