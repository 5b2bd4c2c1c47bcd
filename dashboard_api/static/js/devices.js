// Every device: whether it is there, when it was heard and measured last, its battery and its faults.

import { html, useEffect, useState } from "../vendor/htm-preact.module.js";
import { all, now } from "./api.js";
import { age, count, faultWords, moment, NO_VALUE, words } from "./format.js";
import { nameOf, onDevice } from "./store.js";

const REFRESH_MS = 15_000;
const NEWS_MS = 1000;
const SHOWN = 300;

const needs = (device) => !device.revoked && (device.overdue || device.battery_low || device.faults.length > 0);
const byNeed = (a, b) => Number(needs(b)) - Number(needs(a)) || Number(!!a.revoked) - Number(!!b.revoked) || a.device.localeCompare(b.device);
const ago = (time) => `${age((now() - Date.parse(time)) / 1000)} ago`;

/** What was learned of a clock that is ahead, and what it was learned from. */
function Learned({ clock }) {
  if (!clock?.ahead_s) return null;
  const evidence = clock.arrivals.map((one) => `${moment(Date.parse(one.received))}: ${age(one.ahead_s)} ahead`).join("\n");
  const told = clock.zone_hours ? `${count(clock.zone_hours, "hour")} ahead: another zone or summer time, set the clock; not corrected`
    : `readings corrected by ${age(clock.ahead_s)} since ${moment(Date.parse(clock.since))}`;
  return html`<small class="soft" title=${evidence}>${told} (${count(clock.arrivals.length, "message")})</small>`;
}

const Time = ({ at, none }) => at ? html`<span title=${moment(Date.parse(at))}>${ago(at)}</span>` : html`<span class="soft">${none}</span>`;

function Presence({ device }) {
  if (device.revoked) return html`<span class="soft">revoked</span>`;
  if (device.online === null) return html`<span class="soft">${NO_VALUE} unknown</span>`;
  return html`<span title=${`since ${moment(Date.parse(device.online_since))}, by ${device.online_by}`}>
    <i class="there" aria-hidden="true">${device.online ? "●" : "○"}</i> ${device.online ? "online" : "offline"} <small class="soft">${ago(device.online_since).replace(" ago", "")}</small></span>`;
}

function Battery({ device }) {
  if (device.battery_low === null) return html`<span class="soft">${NO_VALUE}</span>`;
  return html`<span title=${`reported ${moment(Date.parse(device.battery_reported))}`}>${device.battery !== null && `${Math.round(device.battery)} %`}
    ${device.battery_low && html` <b class="flag">low</b>`}</span>`;
}

const COLUMNS = ["Device", "Presence", "Last seen", "Last measured", "Battery", "Faults"];

const CODE_COLUMNS = ["Code", "Device", "Why", "Times", "Newest values", "Last"];

const Row = ({ device }) => html`<tr data-device=${device.device}>
  <th scope="row">${device.device}<small class="soft">${device.adapter}${device.patient ? html` · <a href="#/patient/${device.patient}">${nameOf(device.patient)}</a>` : " · not assigned"}</small></th>
  <td data-label=${COLUMNS[1]}><${Presence} device=${device} /></td>
  <td data-label=${COLUMNS[2]}><${Time} at=${device.last_seen} none="never heard" /></td>
  <td data-label=${COLUMNS[3]}><${Time} at=${device.last_measured} none="no reading" />
    ${device.overdue && html` <b class="flag" title="expected every ${age(device.expected_interval_s)}">overdue</b>`}</td>
  <td data-label=${COLUMNS[4]}><${Battery} device=${device} /></td>
  <td data-label=${COLUMNS[5]}>${device.faults.map((fault) => html`<span key=${fault.kind + fault.detail + fault.vital} class="flag"
    title=${`since ${moment(Date.parse(fault.first))}, last ${moment(Date.parse(fault.last))}, ${count(fault.count, "report")}`}>${faultWords(fault)}</span> `)}<${Learned} clock=${device.clock} />
    ${device.cannot_page.map((one) => html`<span key=${one.vital} class="flag">cannot page</span> <small class="soft">${one.reason}</small>`)}</td>
</tr>`;

/** The list of devices: asked for now and then, and soon after the stream has told something of one. */
function useDevices() {
  const [got, setGot] = useState({ items: null, problem: "" });
  useEffect(() => {
    let gone = false;
    let soon = 0;
    const load = () => {
      soon = 0;
      all("devices").then((items) => gone || setGot({ items: items.sort(byNeed), problem: "" }),
        (error) => gone || setGot((known) => ({ ...known, problem: error.message })));
    };
    load();
    const again = setInterval(load, REFRESH_MS);
    const stop = onDevice(() => { soon ||= setTimeout(load, NEWS_MS); });
    return () => {
      gone = true;
      clearInterval(again);
      clearTimeout(soon);
      stop();
    };
  }, []);
  return got;
}

const WHY = {
  code_conflict: [true, "number and name differ"],
  implausible: [true, "impossible in this unit"],
  unit_suspect: [true, "perhaps another unit"],
  unreadable: [true, "cannot be read"],
  unknown_code: [false, "no vital sign here"],
};

/** Values that came under a code which is no vital sign here, or with a number that is impossible in its unit. */
function UnknownCodes({ devices }) {
  const [codes, setCodes] = useState([]);
  useEffect(() => { all("unknown-codes").then(setCodes, () => setCodes([])); }, [devices]);
  if (codes.length === 0) return null;
  return html`<section class="codes"><h2>Unknown codes and doubtful values</h2>
    <p class="soft">Nobody is watched by a value under an unknown code until the code is mapped, nor by an impossible number.</p>
    <div class="scroll"><table class="devices"><thead><tr>${CODE_COLUMNS.map((title) => html`<th key=${title} scope="col">${title}</th>`)}</tr></thead>
      <tbody>${codes.slice(0, SHOWN).map((one) => html`<tr key=${one.id} data-code=${one.code}>
        <th scope="row">${one.code}<small class="soft">${one.adapter}</small></th>
        <td data-label=${CODE_COLUMNS[1]}>${one.device}</td>
        <td data-label=${CODE_COLUMNS[2]}>${WHY[one.kind][0] ? html`<b class="flag">${WHY[one.kind][1]}</b>` : WHY[one.kind][1]}</td>
        <td data-label=${CODE_COLUMNS[3]}>${one.count}</td>
        <td data-label=${CODE_COLUMNS[4]}>${one.samples.join(", ") || NO_VALUE}</td>
        <td data-label=${CODE_COLUMNS[5]}><${Time} at=${one.last} none="" /></td></tr>`)}</tbody></table></div>
    ${codes.length > SHOWN && html`<p class="calm">${count(codes.length - SHOWN, "more code")} in <code>GET /api/v1/unknown-codes</code>.</p>`}
  </section>`;
}

export function Devices() {
  const { items, problem } = useDevices();
  const needy = items?.filter(needs).length ?? 0;
  return html`<main>
    <div class="head"><h1>Devices</h1><span class="soft">${items && `${count(items.length, "device")}, ${needy ? `${needy} need attention` : "no problems"}`}</span></div>
    ${problem && html`<p role="alert" class="problem"><b>Not up to date.</b> ${problem}</p>`}
    ${items?.length === 0 && html`<section class="empty"><h2>No devices yet</h2><p>Enrol a device and assign it to a patient:</p>
      <pre><code>vitalgate device add --adapter json --id oximeter-1 --expect 15m</code></pre></section>`}
    ${items?.length > 0 && html`<div class="scroll"><table class="devices"><thead><tr>
      ${COLUMNS.map((title) => html`<th key=${title} scope="col">${title}</th>`)}</tr></thead>
      <tbody>${items.slice(0, SHOWN).map((device) => html`<${Row} key=${device.device} device=${device} />`)}</tbody></table></div>`}
    ${items?.length > SHOWN && html`<p class="calm">${count(items.length - SHOWN, "more device")} in <code>vitalgate device list</code>.</p>`}
    <${UnknownCodes} devices=${items} />
  </main>`;
}
