// Alerts as sentences, with the one key that takes them.

import { html, useEffect, useReducer, useRef, useState } from "../vendor/htm-preact.module.js";
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
  const [problem, setProblem] = useState("");
  const [, draw] = useReducer((number) => number + 1, 0);
  // The mark stays on its alert when another comes in above: the key never takes what was not looked at. A ref, since
  // two keys can come between two drawings.
  const marked = useRef(null);
  const shown = useRef(alerts);
  shown.current = alerts;
  if (!alerts.some((alert) => alert.id === marked.current)) marked.current = (alerts.find((alert) => !taken(alert)) ?? alerts[0])?.id;
  const mark = (id) => {
    marked.current = id;
    draw();
  };
  const take = async (alert) => {
    const was = marked.current;
    await acknowledge(alert, setProblem);
    const other = shown.current.find((one) => one.id !== alert.id && !taken(one));
    if (was === alert.id && marked.current === was && other) mark(other.id);
  };
  useEffect(() => {
    if (!keys) return undefined;
    const press = (event) => {
      if (event.defaultPrevented || event.target.closest("input") || document.querySelector("dialog[open]") || event.ctrlKey || event.metaKey || event.altKey) return;
      const place = shown.current.findIndex((alert) => alert.id === marked.current);
      const alert = shown.current[place];
      const step = { j: 1, k: -1 }[event.key];
      if (!alert) return;
      if (step) {
        const other = shown.current[Math.min(shown.current.length - 1, Math.max(0, place + step))];
        mark(other.id);
        document.getElementById(`alert-${other.id}`)?.scrollIntoView({ block: "nearest" });
      } else if (event.key === "a" && !event.repeat && !taken(alert) && may("alerts:act")) {
        take(alert);
      } else if (event.key === "Enter" && !event.target.closest("a, button")) {
        location.hash = `#/patient/${alert.patient}`;
      }
    };
    addEventListener("keydown", press);
    return () => removeEventListener("keydown", press);
  }, [keys]);
  return html`<div>
    ${problem && html`<p role="alert" class="problem"><b>Not acknowledged.</b> ${problem}</p>`}
    <ol class="alerts">${alerts.map((alert) => html`<li key=${alert.id} id="alert-${alert.id}"
      class=${`${alert.severity} ${taken(alert) ? "taken" : ""} ${keys && alert.id === marked.current ? "marked" : ""}`}
      aria-current=${keys && alert.id === marked.current ? "true" : null} onClick=${() => mark(alert.id)}>
      <${Mark} severity=${alert.severity} />
      <div class="what">
        ${named && html`<a href="#/patient/${alert.patient}">${nameOf(alert.patient)}</a>`}
        <span class="text">${alert.text}</span>
        ${alert.quality.map((word) => html`<span key=${word} class="flag">${words(word)}</span>`)}
      </div>
      <span class="soft when" title=${moment(Date.parse(alert.raised))}>${age((now() - Date.parse(alert.raised)) / 1000)}</span>
      <span class="soft state">${stateWords(alert.state)}${alert.owner ? ` by ${alert.owner}` : ""}</span>
      ${!taken(alert) && may("alerts:act")
        ? html`<button class="act" onClick=${() => take(alert)}>Acknowledge</button>`
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
          <p>An alert appears here when a reading passes a limit. A patient without limits raises none:</p>
          <pre><code>curl -X PUT $API/patients/ID/limits -d '[{"vital":"spo2","unit":"%","low":90,"severity":"S1"}]'</code></pre></section>`}
  </main>`;
}
