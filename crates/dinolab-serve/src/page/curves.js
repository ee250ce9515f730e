// Figures of all runs, side by side, as they are written.

import { chart } from "./chart.js";
import { digits, duration, el } from "./dom.js";

const WORDS = { training: "training", finished: "finished", stopped: "stopped", gone: "its folder is no longer there" };
let waiting = null;
let drawnAs = "";

/** Shows the runs; called with each change. A drawing that the pointer is on waits until it leaves. */
export function update(runs) {
  waiting = runs;
  const charts = document.getElementById("charts");
  if (charts.matches(":hover")) {
    charts.addEventListener("pointerleave", draw, { once: true });
    cards(runs);
  } else {
    draw();
  }
}

function draw() {
  if (!waiting) return;
  const runs = waiting;
  waiting = null;
  cards(runs);
  document.getElementById("charts").replaceChildren(...merged(runs).map(chart));
}

function cards(runs) {
  document.getElementById("runs").replaceChildren(...runs.map(run => card(run, runs.length)));
  const texts = runs.flatMap(run => run.warnings.map(text => (runs.length > 1 ? `${run.name}: ${text}` : text)));
  const as = texts.join("\n");
  if (as === drawnAs) return;
  drawnAs = as;
  const box = document.getElementById("warnings");
  box.hidden = !texts.length;
  box.replaceChildren(el("h2", {}, "Warnings"), el("ul", {}, ...texts.map(text => el("li", {}, text))));
}

function card(run, count) {
  const figure = (name, value) => el("div", {}, el("dt", {}, name), el("dd", {}, value));
  const per = run.steps && run.epochs ? run.steps / run.epochs : null;
  const figures = [
    figure("state", WORDS[run.activity]),
    per && figure("epoch", `${digits(Math.floor(run.step / per))} of ${digits(run.epochs)}`),
    figure("step", run.steps ? `${run.step.toLocaleString("en")} of ${run.steps.toLocaleString("en")}` : run.step.toLocaleString("en")),
    run.speed != null && figure("images/s", digits(run.speed)),
    run.waiting != null && figure("waiting for data", `${(100 * run.waiting).toFixed(1)}%`),
    run.seconds_left != null && figure("time left", duration(run.seconds_left)),
  ].filter(Boolean);
  const done = run.steps && el("progress", { max: run.steps, value: Math.min(run.step, run.steps), "aria-label": `Progress of ${run.name}` });
  return el("div", { class: `run-card ${count > 1 ? `k${run.run % 8}` : ""}` },
    el("h2", {}, run.name), el("dl", { class: "figures" }, ...figures), done || null);
}

/** One chart for each title. Of one run, lines have colours; of several, runs have colours and lines dashes. */
function merged(runs) {
  const charts = new Map();
  for (const run of runs) {
    for (const part of run.charts) {
      const into = charts.get(part.title) ?? { ...part, lines: [] };
      charts.set(part.title, into);
      part.lines.forEach(([name, points], i) => into.lines.push(runs.length > 1
        ? { name: part.lines.length > 1 ? `${run.name}, ${name}` : run.name, points, colour: run.run, dash: i }
        : { name, points, colour: i, dash: Math.floor(i / 8) }));
    }
  }
  return [...charts.values()];
}
