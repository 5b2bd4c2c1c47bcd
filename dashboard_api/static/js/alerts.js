// Alerts as sentences, with the one key that takes them.

import { html, useEffect, useState } from "../vendor/htm-preact.module.js";
import { all, now, post } from "./api.js";
import { age, count, moment, PRIORITY, words } from "./format.js";
import { may, nameOf, openAlerts, state, takeAlert, taken, changed } from "./store.js";

const WAS = { active_unack: "not acknowledged", active_ack: "acknowledged", rtn_unack: "ended, not acknowledged" };
const stateWords = (word) => WAS[word] ?? words(word);

export function Mark({ severity }) {
  const { word, mark } = PRIORITY[severity];
  return html`<span class="mark ${severity}"><i aria-hidden="true">${mark}</i> ${word}</span>`;
}

async function acknowledge(alert, setProblem) {
  try {
    takeAlert(await post(`alerts/${alert.id}/acknowledge`, {}));
    setProblem("");
    changed();
  } catch (error) {
    setProblem(`${nameOf(alert.patient)}: ${error.message}`);
  }
}

/** A list of alerts; `keys` lets j, k, a and Enter work on it. */
export function AlertList({ alerts, keys = false, named = true }) {
  const [marked, setMarked] = useState(null);
  const [problem, setProblem] = useState("");
  const place = Math.max(0, alerts.findIndex((alert) => alert.id === marked));
  useEffect(() => {
    if (!keys) return undefined;
    const press = (event) => {
      if (event.defaultPrevented || event.target.closest("input, dialog") || event.ctrlKey || event.metaKey || event.altKey) return;
      const alert = alerts[place];
      if (!alert) return;
      const step = { j: 1, k: -1 }[event.key];
      if (step) {
        const next = alerts[Math.min(alerts.length - 1, Math.max(0, marked === null ? 0 : place + step))];
        setMarked(next.id);
        document.getElementById(`alert-${next.id}`)?.scrollIntoView({ block: "nearest" });
      } else if (event.key === "a" && !taken(alert)) {
        acknowledge(alert, setProblem);
      } else if (event.key === "Enter" && !event.target.closest("a, button")) {
        location.hash = `#/patient/${alert.patient}`;
      }
    };
    addEventListener("keydown", press);
    return () => removeEventListener("keydown", press);
  });
  return html`<div>
    ${problem && html`<p role="alert" class="problem"><b>Not acknowledged.</b> ${problem}</p>`}
    <ol class="alerts">${alerts.map((alert, number) => html`<li key=${alert.id} id="alert-${alert.id}"
      class=${`${alert.severity} ${taken(alert) ? "taken" : ""} ${keys && number === place ? "marked" : ""}`}
      aria-current=${keys && number === place ? "true" : null} onClick=${() => setMarked(alert.id)}>
      <${Mark} severity=${alert.severity} />
      <div class="what">
        ${named && html`<a href="#/patient/${alert.patient}">${nameOf(alert.patient)}</a>`}
        <span class="text">${alert.text}</span>
        ${alert.quality.map((word) => html`<span key=${word} class="flag">${words(word)}</span>`)}
      </div>
      <span class="soft when" title=${moment(Date.parse(alert.raised))}>${age((now() - Date.parse(alert.raised)) / 1000)}</span>
      <span class="soft state">${stateWords(alert.state)}${alert.owner ? ` by ${alert.owner}` : ""}</span>
      ${!taken(alert) && may("alerts:act")
        ? html`<button class="act" onClick=${() => acknowledge(alert, setProblem)}>Acknowledge</button>`
        : html`<span class="act"></span>`}
    </li>`)}</ol>
  </div>`;
}

export function Alerts({ filter }) {
  const [past, setPast] = useState(null);
  useEffect(() => {
    if (filter === "all") all("alerts", { person: true }).then(setPast, () => setPast([]));
  }, [filter]);
  const open = openAlerts();
  const known = new Set(open.map((alert) => alert.id));
  const shown = filter === "all"
    ? [...open, ...(past ?? []).filter((alert) => !known.has(alert.id)).map((alert) => state.alerts.get(alert.id) ?? alert)]
    : open;
  const waiting = open.filter((alert) => !taken(alert)).length;
  return html`<main>
    <div class="head"><h1>Alerts</h1><span class="soft">${count(waiting, "alert")} to acknowledge, ${open.length} open</span>
      <span class="grow"></span>
      <a class="chip" href="#/alerts" aria-current=${filter === "all" ? null : "true"}>Open</a>
      <a class="chip" href="#/alerts?show=all" aria-current=${filter === "all" ? "true" : null}>All</a></div>
    ${shown.length > 0
      ? html`<${AlertList} alerts=${shown} keys=${true} />`
      : html`<section class="empty"><h2>No open alert</h2>
          <p>An alert appears here when a reading passes a limit. Limits are set per patient:</p>
          <pre><code>curl -X PUT $API/patients/ID/limits -d '[{"vital":"spo2","unit":"%","low":90,"severity":"S1"}]'</code></pre></section>`}
  </main>`;
}
