// Views, the choice of a run, and the stream of changes.

import { el } from "./dom.js";
import * as curves from "./curves.js";
import * as attention from "./attention.js";
import * as map from "./map.js";
import * as groups from "./groups.js";
import * as settings from "./settings.js";

const views = { curves, attention, map, groups, settings };
const runs = [];
let run = 0;
let view = "curves";

const byId = id => document.getElementById(id);

/** Shows a view, and what it has to say of the chosen run. */
function show(name, focus) {
  view = name;
  for (const other of Object.keys(views)) {
    const tab = byId(`tab-${other}`);
    tab.setAttribute("aria-selected", String(other === name));
    tab.tabIndex = other === name ? 0 : -1;
    byId(other).hidden = other !== name;
  }
  if (focus) byId(`tab-${name}`).focus();
  byId("run-choice").hidden = runs.length < 2 || name === "curves" || name === "settings";
  history.replaceState(null, "", `#${name}`);
  views[name].show?.(byId(name), run);
}

function moveBetweenTabs(event) {
  const names = Object.keys(views);
  const at = names.indexOf(view);
  const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: names.length - 1 }[event.key];
  if (to === undefined) return;
  event.preventDefault();
  show(names[(to + names.length) % names.length], true);
}

function heard(snapshot) {
  const first = runs[snapshot.run] === undefined;
  runs[snapshot.run] = snapshot;
  if (first) {
    const choices = runs.filter(Boolean).map(r => el("option", { value: r.run }, r.name));
    byId("run").replaceChildren(...choices);
    byId("run").value = run;
    byId("run-choice").hidden = runs.length < 2 || view === "curves" || view === "settings";
  }
  curves.update(runs.filter(Boolean));
}

function listen() {
  const events = new EventSource("/api/events");
  events.addEventListener("run", event => heard(JSON.parse(event.data)));
  events.addEventListener("open", () => { byId("connection").textContent = ""; });
  // The browser asks again by itself.
  events.addEventListener("error", () => {
    byId("connection").textContent = "Not connected; is dinolab view still running?";
  });
}

for (const name of Object.keys(views)) byId(`tab-${name}`).addEventListener("click", () => show(name));
byId("tabs").addEventListener("keydown", moveBetweenTabs);
byId("run").addEventListener("change", event => {
  run = Number(event.target.value);
  show(view);
});
const asked = location.hash.slice(1);
show(views[asked] ? asked : "curves");
listen();
