// The images of a run by their features: made in the background, then kept.

import { el, getBytes, getJson, problem } from "./dom.js";

const PAUSE = 700;
const kept = new Map();

/** A gallery that is ready: facts, places and classes of all rows. */
async function loaded(base, facts) {
  const values = new Uint16Array(await getBytes(`${base}/points?v=${facts.version}`));
  const n = facts.rows;
  return {
    base, facts,
    x: values.subarray(0, n), y: values.subarray(n, 2 * n), classes: values.subarray(2 * n, 3 * n),
    picture: (row, side = 96) => `${base}/images/${row}/picture?side=${side}&v=${facts.version}`,
  };
}

/**
 * Waits for the gallery of a run, with its progress in `panel`; null if another one is wanted before
 * (`stillWanted` is false) or it cannot be made.
 */
export async function gallery(panel, run, stillWanted, anew = false) {
  const base = `/api/runs/${run}/map`;
  try {
    let progress = await getJson(base, anew ? { method: "POST" } : {});
    if (progress.state === "idle") progress = await getJson(base, { method: "POST" });
    while (progress.state === "working") {
      if (!stillWanted()) return null;
      panel.replaceChildren(working(progress));
      await new Promise(done => setTimeout(done, PAUSE));
      progress = await getJson(base);
    }
    if (!stillWanted()) return null;
    if (progress.state === "failed") throw new Error(progress.reason);
    const key = `${base} ${progress.version}`;
    if (!kept.has(key)) kept.set(key, await loaded(base, progress));
    const found = kept.get(key);
    found.facts = progress;
    return stillWanted() ? found : null;
  } catch (error) {
    const again = el("button", { onclick: () => location.reload() }, "Try again");
    if (stillWanted()) panel.replaceChildren(problem(error), again);
    return null;
  }
}

function working({ done, total }) {
  const words = total ? `Embedding images: ${done} of ${total}` : "Loading …";
  return el("p", { role: "status" }, el("progress", { "aria-label": words, ...(total ? { max: total, value: done } : {}) }), ` ${words}`);
}
