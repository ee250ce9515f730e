// Settings of the runs; of several, those that differ.

import { el, getJson, problem } from "./dom.js";

export async function show(panel) {
  try {
    const { runs, rows, same } = await getJson("/api/settings");
    const words = runs.length < 2 ? "All settings of the run, from its config.toml."
      : rows.length ? `Settings that differ; ${same} others are the same in all runs.`
      : `All ${same} settings are the same.`;
    const head = el("tr", {}, el("th", { scope: "col" }, "setting"), ...runs.map(run => el("th", { scope: "col" }, run)));
    const row = ([name, values]) => el("tr", {}, el("th", { scope: "row" }, name), ...values.map(value => el("td", {}, value ?? "–")));
    panel.replaceChildren(el("h2", {}, "Settings"), el("p", { class: "note" }, words),
      el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Settings" },
        rows.length ? el("table", {}, el("thead", {}, head), el("tbody", {}, ...rows.map(row))) : null));
  } catch (error) {
    panel.replaceChildren(problem(error));
  }
}
