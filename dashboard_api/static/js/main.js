// Which view, which theme, which keys.

import { html, render, useEffect, useReducer, useRef, useState } from "../vendor/htm-preact.module.js";
import { Alerts } from "./alerts.js";
import { Keys, Past, Rail, Strip } from "./frame.js";
import { openAlerts, start, state, subscribe, taken } from "./store.js";
import { Patient, RANGES } from "./patient.js";
import { SignIn } from "./signin.js";
import { Ward } from "./ward.js";

/** A view whose script is loaded when it is opened first. */
const onDemand = (name, load) => {
  let Loaded;
  return () => {
    const [failed, settle] = useState(false);
    const [, draw] = useReducer((number) => number + 1, 0);
    useEffect(() => {
      if (Loaded) return;
      load().then((module) => {
        Loaded = module[name];
        draw();
      }, () => settle(true));
    }, []);
    if (failed) return html`<p role="alert" class="problem">This view cannot be loaded. Reload the page.</p>`;
    return Loaded ? html`<${Loaded} />` : null;
  };
};
const Devices = onDemand("Devices", () => import("./devices.js"));
const Quarantine = onDemand("Quarantine", () => import("./quarantine.js"));
const System = onDemand("System", () => import("./system.js"));

const THEMES = ["system", "light", "dark"];
const GO = { w: "#/", a: "#/alerts", d: "#/devices", q: "#/quarantine", s: "#/system" };

/** `#/patient/p_1?range=6h` is {view: "patient", id: "p_1", query}. */
function route() {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const [view, id] = path.split("/");
  return { view: view || "ward", id: id && decodeURIComponent(id), query: new URLSearchParams(query) };
}

function useTheme() {
  const [theme, setTheme] = useState(localStorage.getItem("theme") ?? "system");
  const next = () => {
    const chosen = THEMES[(THEMES.indexOf(localStorage.getItem("theme") ?? "system") + 1) % THEMES.length];
    if (chosen === "system") {
      localStorage.removeItem("theme");
      delete document.documentElement.dataset.theme;
    } else {
      localStorage.setItem("theme", chosen);
      document.documentElement.dataset.theme = chosen;
    }
    setTheme(chosen);
  };
  return [theme, next];
}

function useKeys({ setKeys, nextTheme }) {
  const after = useRef("");
  useEffect(() => {
    const press = (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      if (event.key === "Escape") {
        if (document.querySelector("dialog[open]")) return; // it closes itself
        if (event.target.closest("input")) event.target.blur();
        else location.hash = "#/";
        return;
      }
      if (event.target.closest("input")) return;
      const { view, id } = route();
      const before = after.current;
      after.current = event.key === "g" ? "g" : "";
      if (before === "g" && GO[event.key]) {
        location.hash = GO[event.key];
        event.preventDefault();
      } else if (event.key === "?") setKeys((open) => !open); // two quick keys meet one render
      else if (event.key === "t") nextTheme();
      else if (event.key === "/") {
        event.preventDefault();
        location.hash = "#/";
        requestAnimationFrame(() => document.getElementById("find")?.focus());
      } else if (view === "patient" && RANGES[event.key - 1]) location.hash = `#/patient/${id}?range=${RANGES[event.key - 1][0]}`;
    };
    // Before the views: what is a second key after g is no key of theirs.
    addEventListener("keydown", press, true);
    return () => removeEventListener("keydown", press, true);
  }, [nextTheme]);
}

function View({ view, id, query, theme }) {
  switch (view) {
    case "alerts": return html`<${Alerts} filter=${query.get("show")} />`;
    case "patient": return html`<${Patient} key=${id} id=${id} range=${query.get("range") ?? "24h"} theme=${theme} />`;
    case "devices": return html`<${Devices} />`;
    case "quarantine": return html`<${Quarantine} />`;
    case "system": return html`<${System} />`;
    default: return html`<${Ward} filter=${query.get("show")} />`;
  }
}

function App() {
  const [, draw] = useReducer((number) => number + 1, 0);
  const [keys, setKeys] = useState(false);
  const [theme, nextTheme] = useTheme();
  useKeys({ setKeys, nextTheme });
  useEffect(() => {
    const stop = subscribe(draw);
    addEventListener("hashchange", draw);
    return () => {
      stop();
      removeEventListener("hashchange", draw);
    };
  }, []);
  const waiting = openAlerts().filter((alert) => !taken(alert)).length;
  document.title = waiting ? `(${waiting}) vitalgate` : "vitalgate";
  if (state.session === undefined) return null;
  if (state.session === null) return html`<${SignIn} />`;
  const where = route();
  return html`<div class="frame">
    <${Strip} theme=${theme} onTheme=${nextTheme} onKeys=${() => setKeys(!keys)} />
    <${Rail} view=${where.view} />
    <div class="view">
      <${Past} />
      ${state.error && html`<p role="alert" class="problem"><b>Not up to date.</b> ${state.error}</p>`}
      ${state.tables && html`<${View} ...${where} theme=${theme} />`}
    </div>
    ${keys && html`<${Keys} onClose=${() => setKeys(false)} />`}
  </div>`;
}

render(html`<${App} />`, document.getElementById("page"));
start();
