// Messages that no adapter could read: their bytes, why, and another try.

import { html, useEffect, useState } from "../vendor/htm-preact.module.js";
import { all, get, now, post } from "./api.js";
import { age, count, moment, words } from "./format.js";
import { may, state } from "./store.js";

const SHOWN_BYTES = 4096;

const bytesOf = (base64) => Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
const hex = (number, digits = 2) => number.toString(16).padStart(digits, "0");
const letter = (byte) => (byte >= 32 && byte < 127 ? String.fromCharCode(byte) : "·");

function Bytes({ base64 }) {
  const bytes = bytesOf(base64);
  const perRow = innerWidth < 640 ? 8 : 16;
  const rows = [];
  for (let from = 0; from < Math.min(bytes.length, SHOWN_BYTES); from += perRow) rows.push([from, [...bytes.slice(from, from + perRow)]]);
  return html`<pre class="hex" tabindex="0" aria-label="Payload as hexadecimal and text">${rows.map(([from, row]) =>
    `${hex(from, 4)}  ${row.map((byte) => hex(byte)).join(" ").padEnd(perRow * 3)} ${row.map(letter).join("")}\n`)}${
    bytes.length > SHOWN_BYTES ? `… ${bytes.length - SHOWN_BYTES} more bytes` : bytes.length === 0 ? "no bytes" : ""}</pre>`;
}

function Item({ item, onReplay }) {
  const [payload, setPayload] = useState(null);
  const [problem, setProblem] = useState("");
  const toggle = async () => {
    if (payload !== null) return setPayload(null);
    try {
      setPayload((await get(`quarantine/${item.id}`, { person: true })).payload_base64);
      return setProblem("");
    } catch (error) {
      return setProblem(error.message);
    }
  };
  return html`<li>
    <div class="line">
      <div class="what"><p><b>${words(item.reason)}:</b> ${state.tables?.reasons[item.reason] ?? ""}${item.detail && html` <span class="soft">(${item.detail})</span>`}</p>
        <p class="soft">${item.adapter}${item.kind ? `/${item.kind}` : ""}, version ${item.adapter_version} · ${item.device} · ${count(item.size, "byte")}</p></div>
      <span class="soft when" title=${moment(Date.parse(item.received))}>${age((now() - Date.parse(item.received)) / 1000)} ago</span>
      ${may("quarantine:payload") && html`<button aria-expanded=${payload !== null} onClick=${toggle}>${payload === null ? "Show bytes" : "Hide bytes"}</button>`}
      ${may("quarantine:replay") && html`<button onClick=${() => onReplay({ id: item.id })}>Try again</button>`}</div>
    ${problem && html`<p role="alert"><b>The bytes could not be loaded.</b> ${problem}</p>`}
    ${payload !== null && html`<${Bytes} base64=${payload} />`}
  </li>`;
}

const told = (counts) => Object.entries(counts).filter(([, number]) => number).map(([word, number]) => `${number} ${{ quarantined: "still not decodable", decoded: "decoded", duplicate: "already stored" }[word] ?? word}`).join(", ") || "nothing to do";

export function Quarantine() {
  const [items, setItems] = useState(null);
  const [said, setSaid] = useState("");
  const total = state.system?.ledger.messages.quarantined;
  const load = (options) => all("quarantine", options).then(setItems, (error) => setSaid(error.message));
  useEffect(() => { load(); }, [total]);
  const replay = async (which) => {
    try {
      setSaid(`Decoded again with the installed adapters: ${told(await post("quarantine/replay", which))}.`);
    } catch (error) {
      setSaid(`Not decoded again: ${error.message}`);
    }
    await load();
  };
  return html`<main>
    <div class="head"><h1>Quarantine</h1><span class="soft">${items && count(items.length, "message")} that could not be decoded</span><span class="grow"></span>
      ${items?.length > 1 && may("quarantine:replay") && html`<button onClick=${() => replay({})}>Try all again</button>`}</div>
    ${said && html`<p role="status" class="calm">${said}</p>`}
    ${items?.length === 0 && html`<section class="empty"><h2>Quarantine is empty</h2>
      <p>A message that cannot be decoded is kept here with its bytes and the reason. Correct the device or its adapter, then try again.</p></section>`}
    ${items?.length > 0 && html`<ol class="quarantine">${items.map((item) => html`<${Item} key=${item.id} item=${item} onReplay=${replay} />`)}</ol>`}
  </main>`;
}
