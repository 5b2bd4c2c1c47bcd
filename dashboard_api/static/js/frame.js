// What stands around every view: rail, system strip, keys.

import { html, useEffect, useRef } from "../vendor/htm-preact.module.js";
import { now, request } from "./api.js";
import { age, clock, count, PRIORITY } from "./format.js";
import { changed, connection, openAlerts, state, taken } from "./store.js";

const VIEWS = [
  ["ward", "#/", "Ward", "M3 20v-9l9-7 9 7v9h-6v-6H9v6z"],
  ["alerts", "#/alerts", "Alerts", "M12 3a6 6 0 0 0-6 6v5l-2 3h16l-2-3V9a6 6 0 0 0-6-6zM10 20h4"],
  ["devices", "#/devices", "Devices", "M7 2h10v20H7zM11 18h2M10 6h4"],
  ["quarantine", "#/quarantine", "Quarantine", "M12 3l8 3v6c0 5-4 8-8 9-4-1-8-4-8-9V6zM12 8v5M12 16h.01"],
  ["system", "#/system", "System", "M4 5h16v6H4zM4 13h16v6H4zM7 8h.01M7 16h.01"],
];

export function Rail({ view }) {
  const waiting = openAlerts().filter((alert) => !taken(alert));
  return html`<nav class="rail" aria-label="Views">
    ${VIEWS.map(([key, href, label, path]) => html`<a key=${key} href=${href} aria-current=${view === key ? "page" : null}>
      <svg viewBox="0 0 24 24" aria-hidden="true"><path d=${path} /></svg>
      <span>${label}</span>
      ${key === "alerts" && waiting.length > 0 && html`<span class="badges" title="${count(waiting.length, "alert")} not acknowledged">
        ${Object.entries(PRIORITY).map(([severity, { mark, word }]) => {
          const number = waiting.filter((alert) => alert.severity === severity).length;
          return number > 0 && html`<span key=${severity} class="badge ${severity}" aria-label="${number} ${word}">${mark}${number}</span>`;
        })}</span>`}
    </a>`)}
  </nav>`;
}

const CONNECTION = { live: "Live", stalled: "No updates", lost: "Connection lost", none: "No live updates for this role" };

const signOut = () => request("/sign-out", { method: "POST" }).then(() => location.reload(), (error) => {
  state.error = `Not signed out: ${error.message}`;
  changed();
});

/** Under the strip while the page is not live: what is below is the past. */
export function Past() {
  const link = connection();
  if (!state.loaded || (link !== "lost" && link !== "stalled")) return null;
  return html`<p class="problem past"><b>${link === "lost" ? "Connection lost." : "No updates from the server."}</b>${" "}
    You see the data of ${clock(state.evaluatedTo ?? now())}. The page reconnects by itself. Until then, check patients another way.</p>`;
}

export function Strip({ onKeys, onTheme, theme }) {
  const { rates, lags = [] } = state.system ?? {};
  const slowest = lags.reduce((worst, lag) => (lag.seconds > (worst?.seconds ?? -1) ? lag : worst), null);
  const link = connection();
  const behind = state.evaluatedTo === null ? null : (now() - state.evaluatedTo) / 1000;
  const late = link !== "live" || behind === null || behind > 10;
  const checked = state.system?.canary;
  const warming = state.system?.reasons?.includes("warming");
  return html`<header class="strip">
    <strong class="brand">vitalgate</strong>
    <span class="link ${link}" role="status" title="State of the live stream"><i aria-hidden="true"></i>${CONNECTION[link]}</span>
    ${warming && html`<span class="late" id="warming" title="The first start on a machine prepares the alert rules; readings are kept and judged then">alerts: warming up</span>`}
    <span class=${late ? "late" : ""} id="evaluated">alerts evaluated to${" "}
      <b>${state.evaluatedTo === null ? "–" : clock(state.evaluatedTo)}</b>
      ${late && behind !== null && html` <b>(${age(behind)} ago)</b>`}</span>
    ${checked && html`<span class="wide ${checked.late ? "late" : ""}" id="checked" title="Once a minute a test reading checks the way from the gateway to the alerts">
      ${checked.late ? "end-to-end check failed, last success" : "checked end to end"}${" "}
      <b>${checked.last_success ? `${age((now() - Date.parse(checked.last_success)) / 1000)} ago` : "–"}</b></span>`}
    ${!late && html`<span class="wide"><b>${rates ? rates.messages_per_s.toFixed(1) : "–"}</b> messages/s</span>
    <span class="wide"><b>${rates ? rates.stored_per_s.toFixed(1) : "–"}</b> stored/s</span>
    <span class="wide">lag <b>${slowest ? slowest.seconds.toFixed(1) : "–"}</b> s</span>`}
    <span class="grow"></span>
    <span class="wide">${state.session.role}</span>
    <button class="quiet wide" onClick=${signOut}>Sign out</button>
    <button class="quiet" onClick=${onTheme} title="Theme (t)"><span class="wide">Theme: </span>${theme}</button>
    <button class="quiet" onClick=${onKeys} title="Keys (?)" aria-label="Show the keys">?</button>
  </header>`;
}

const KEYS = [
  ["g w / g a / g d / g q / g s", "Ward, alerts, devices, quarantine, system"],
  ["j / k", "Next, previous row"],
  ["a", "Acknowledge the marked alert"],
  ["o", "Show why the marked alert was raised"],
  ["Enter", "Open the marked row"],
  ["1 … 6", "1 h, 6 h, 24 h, 7 d, 30 d, 1 y of a patient"],
  ["/", "Find a patient"],
  ["t", "Theme: as the system, light, dark"],
  ["Esc", "Close, or back to the ward"],
];

export function Keys({ onClose }) {
  const box = useRef(null);
  useEffect(() => box.current.showModal(), []);
  return html`<dialog ref=${box} class="card" aria-label="Keys" onClose=${onClose}
      onClick=${(event) => event.target === box.current && onClose()}>
      <h2>Keys</h2>
      <dl class="keys">${KEYS.map(([keys, does]) => html`<dt key=${keys}><kbd>${keys}</kbd></dt><dd>${does}</dd>`)}</dl>
      <p class="soft">Signed in as ${state.session?.role}.</p>
      <button onClick=${onClose}>Close</button>
      <button class="quiet" onClick=${signOut}>Sign out</button>
  </dialog>`;
}
