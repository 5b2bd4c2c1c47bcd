// How the pipeline is: rates, lags, and every message accounted for.

import { html } from "../vendor/htm-preact.module.js";
import { words } from "./format.js";
import { state } from "./store.js";

const Numbers = ({ title, of }) => html`<section><h2>${title}</h2><dl class="numbers">
  ${Object.entries(of).map(([word, number]) => html`<div key=${word}><dt>${words(word)}</dt><dd>${number.toLocaleString("en-GB")}</dd></div>`)}</dl></section>`;

const VIEWS = { current: "#/", history: "#/", quarantine: "#/quarantine", events: "#/devices" };

/** Which list shows what devices sent: each message and each reading is in one of them. */
function Places({ shown }) {
  if (!shown) return null;
  const { places } = state.tables;
  return html`<section class="places"><h2>Where to find it</h2><div class="scroll"><table>
    <thead><tr><th scope="col">List</th><th scope="col" class="number">Messages and readings</th><th scope="col">What is in it</th></tr></thead>
    <tbody>${Object.entries(shown).map(([place, number]) => html`<tr key=${place} data-place=${place}>
      <th scope="row">${VIEWS[place] ? html`<a href=${VIEWS[place]}>${words(place)}</a>` : words(place)}</th>
      <td class="number">${number.toLocaleString("en-GB")}</td><td>${places[place]}</td></tr>`)}</tbody></table></div></section>`;
}

export function System() {
  const { system } = state;
  if (!system) return html`<main><section class="empty"><h2>The system does not answer</h2><p>The page shows the last known data. Check the log of <code>vitalgate up</code>.</p></section></main>`;
  const { rates, lags = [], ledger, ready, reasons = [] } = system;
  return html`<main>
    <div class="head"><h1>System</h1><span class="soft">${ready ? "ready" : `not ready: ${reasons.map(words).join(", ")}`}</span></div>
    <${Numbers} title="Messages" of=${ledger.messages} />
    <${Numbers} title="Readings" of=${ledger.readings} />
    <${Places} shown=${system.conservation?.shown} />
    ${rates && html`<${Numbers} title="Per second, last minute" of=${{ messages: +rates.messages_per_s.toFixed(1), stored: +rates.stored_per_s.toFixed(1) }} />`}
    <section><h2>Lags</h2><div class="scroll"><table><thead><tr><th scope="col">Log</th><th scope="col">Reader</th><th scope="col" class="number">Entries</th><th scope="col" class="number">Seconds</th></tr></thead>
      <tbody>${lags.map((lag) => html`<tr key=${lag.consumer}><td>${lag.stream}</td><td>${lag.consumer}</td><td class="number">${lag.entries}</td><td class="number">${lag.seconds.toFixed(2)}</td></tr>`)}</tbody></table></div></section>
  </main>`;
}
