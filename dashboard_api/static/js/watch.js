// What watches a patient now: programmes, clinical context, rules in words, and the rules that do not apply.

import { html, useEffect, useState } from "../vendor/htm-preact.module.js";
import { get } from "./api.js";
import { count, PRIORITY } from "./format.js";

const REFRESH_MS = 30_000;

function useAnswer(path) {
  const [got, setGot] = useState(null);
  useEffect(() => {
    let gone = false;
    const load = () => get(path).then((answer) => gone || setGot(answer), () => {});
    load();
    const again = setInterval(load, REFRESH_MS);
    return () => {
      gone = true;
      clearInterval(again);
    };
  }, [path]);
  return got;
}

/** Two facts of the patient's header. */
export function Enrolled({ patient }) {
  const enrolment = useAnswer(`patients/${patient}/programmes`);
  const context = useAnswer(`patients/${patient}/context`);
  if (!enrolment || !context) return null;
  const programmes = enrolment.programmes.map((one) => `${one.title} v${one.version}`).join(", ");
  return html`<span class="fact"><b>${programmes || "No programme"}</b><small>${programmes ? `enrolled by ${enrolment.author ?? "–"}` : "only the patient's own limits"}</small></span>
    <span class="fact"><b>${context.words.join(" · ")}</b><small>${context.version ? `context set by ${context.author ?? "–"}: ${context.reason}` : "clinical context not recorded"}</small></span>`;
}

function Priority({ severity }) {
  const shown = PRIORITY[severity];
  return shown ? html`<span class="mark ${severity}"><i aria-hidden="true">${shown.mark}</i> ${shown.word}</span>` : html`<span class="soft">Technical</span>`;
}

export function Watching({ patient }) {
  const found = useAnswer(`patients/${patient}/rules`);
  if (!found) return null;
  const { rules, gated } = found;
  return html`<details class="watch"><summary>What watches this patient <span class="soft">${count(rules.length, "rule")}${gated.length > 0 ? `, ${gated.length} rules do not apply` : ""}</span></summary>
    ${rules.length === 0 && html`<p class="calm">No rules: the patient has no programme and no limits.</p>`}
    <ul>${rules.map((rule) => html`<li key=${rule.id}><${Priority} severity=${rule.severity} />
      <span><b>${rule.title}</b>${rule.words !== rule.title && html` <span class="soft">${rule.words}</span>`}</span><small class="soft">${rule.source}${rule.version ? `, version ${rule.version}` : ""}${rule.override ? ", changed for this patient" : ""}</small></li>`)}</ul>
    ${gated.length > 0 && html`<h3>Rules that do not apply now</h3>
      <ul>${gated.map((rule) => html`<li key=${rule.id} class="gated"><span class="soft">–</span><span><b>${rule.title}</b>${rule.words !== rule.title && html` <span class="soft">${rule.words}</span>`}</span><small>${rule.reason}</small></li>`)}</ul>`}
  </details>`;
}
