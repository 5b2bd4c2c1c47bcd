// Alerts as sentences, with the one key that takes them.

import { html, useEffect, useReducer, useRef, useState } from "../vendor/htm-preact.module.js";
import { all, now, post } from "./api.js";
import { dueWords, Explanation } from "./explain.js";
import { age, count, moment, PRIORITY, words } from "./format.js";
import { incidentsOf, may, nameOf, openAlerts, state, takeAlert, taken, changed } from "./store.js";

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

/** What stands in a row behind the sentence: state, who has it, and who is asked next. */
function State({ alert }) {
  const due = dueWords(alert);
  return html`<span class="soft state">${stateWords(alert.state)}${alert.owner ? ` by ${alert.owner}` : ""}${due && html`<small class="due">${due}</small>`}</span>`;
}

function Take({ alert, take }) {
  return !taken(alert) && may("alerts:act")
    ? html`<button class="act" onClick=${() => take(alert)}>Acknowledge</button>`
    : html`<span class="act"></span>`;
}

/** What an alert says; it opens why. */
function Sentence({ alert, opened, toggle }) {
  return html`<button class="text" aria-expanded=${opened === alert.id ? "true" : "false"} title="Show why (o)" onClick=${() => toggle(alert.id)}>${alert.text}</button>`;
}

const look = (alert) => `${alert.severity} ${taken(alert) ? "taken" : ""} ${alert.page === false ? "quiet" : ""}`;

/** A list of alerts, a row for each incident; `keys` lets j, k, a, o and Enter work on it. */
export function AlertList({ alerts, keys = false, named = true }) {
  const [problem, setProblem] = useState("");
  const [opened, setOpened] = useState(null);
  const [, draw] = useReducer((number) => number + 1, 0);
  const rows = incidentsOf(alerts);
  // The mark stays on its row when another comes in above: the key never takes what was not looked at. A ref, since
  // two keys can come between two drawings.
  const marked = useRef(null);
  const shown = useRef(rows);
  shown.current = rows;
  if (!rows.some((row) => row.key === marked.current)) marked.current = (rows.find(waits) ?? rows[0])?.key;
  const mark = (key) => {
    marked.current = key;
    draw();
  };
  const toggle = (id) => setOpened((held) => (held === id ? null : id));
  const take = async (alert) => {
    const was = marked.current;
    await acknowledge(alert, setProblem);
    const row = shown.current.find((one) => one.members.some((member) => member.id === alert.id));
    const other = shown.current.find((one) => one !== row && waits(one));
    if (was === row?.key && marked.current === was && other && !row.members.some((member) => member.id !== alert.id && !taken(member))) mark(other.key);
  };
  useEffect(() => {
    if (!keys) return undefined;
    const press = (event) => {
      if (event.defaultPrevented || event.target.closest("input") || document.querySelector("dialog[open]") || event.ctrlKey || event.metaKey || event.altKey) return;
      const place = shown.current.findIndex((row) => row.key === marked.current);
      const row = shown.current[place];
      const step = { j: 1, k: -1 }[event.key];
      if (!row) return;
      if (step) {
        const other = shown.current[Math.min(shown.current.length - 1, Math.max(0, place + step))];
        mark(other.key);
        document.getElementById(`alert-${other.key}`)?.scrollIntoView({ block: "nearest" });
      } else if (event.key === "a" && !event.repeat && waits(row) && may("alerts:act")) {
        take(row.members.find((alert) => !taken(alert)));
      } else if (event.key === "o" && !event.repeat) {
        const ids = row.members.map((alert) => alert.id);
        setOpened((held) => (ids.includes(held) ? null : ids[0])); // o closes whichever member of the row is open
      } else if (event.key === "Enter" && !event.target.closest("a, button") && row.members[0].patient) {
        location.hash = `#/patient/${row.members[0].patient}`;
      }
    };
    addEventListener("keydown", press);
    return () => removeEventListener("keydown", press);
  }, [keys]);
  return html`<div>
    ${problem && html`<p role="alert" class="problem"><b>Not acknowledged.</b> ${problem}</p>`}
    <ol class="alerts">${rows.map(({ key, members: [alert, ...others] }) => html`<li key=${key} id="alert-${key}"
      class=${`${look(alert)} ${keys && key === marked.current ? "marked" : ""}`}
      aria-current=${keys && key === marked.current ? "true" : null} onClick=${() => mark(key)}>
      <${Mark} severity=${alert.severity} />
      <div class="what">
        ${named && html`<a href="#/patient/${alert.patient}">${nameOf(alert.patient)}</a>`}
        <${Sentence} alert=${alert} opened=${opened} toggle=${toggle} />
        ${alert.quality.map((word) => html`<span key=${word} class="flag">${words(word)}</span>`)}
      </div>
      <span class="soft when" title=${moment(Date.parse(alert.raised))}>${age((now() - Date.parse(alert.raised)) / 1000)}</span>
      <${State} alert=${alert} />
      <${Take} alert=${alert} take=${take} />
      ${others.length > 0 && html`<ul class="members" aria-label="Of the same incident">${others.map((member) => html`<li key=${member.id} class=${look(member)}>
        <${Mark} severity=${member.severity} /><${Sentence} alert=${member} opened=${opened} toggle=${toggle} /><${State} alert=${member} /><${Take} alert=${member} take=${take} /></li>`)}</ul>`}
      ${[alert, ...others].filter((one) => one.id === opened).map((one) => html`<${Explanation} key=${one.id} alert=${one} />`)}
    </li>`)}</ol>
  </div>`;
}

const waits = (row) => row.members.some((alert) => !taken(alert));

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
      : html`<section class="empty"><h2>No open alerts</h2>
          <p>An alert appears here when a reading is outside a patient's limits, or a rule of a programme holds. A patient without limits and programmes is not watched:</p>
          <pre><code>vitalgate programme adopt copd --protocol copd --reason 'first ward'
vitalgate patient enrol ID --programme copd --reason 'discharged home'</code></pre></section>`}
  </main>`;
}
