// Clusters as contact sheets, near duplicates, and images that are like no other.

import { el, getJson, problem } from "./dom.js";
import { gallery as wait } from "./gallery.js";
import * as detail from "./detail.js";

let turn = 0;

export async function show(panel, run) {
  const own = ++turn;
  const gallery = await wait(panel, run, () => own === turn);
  if (!gallery) return;
  const side = el("div", { class: "detail", "aria-live": "polite" }, el("p", { class: "soft" }, "Click an image to see its attention and its neighbours."));
  const list = el("div", {});
  const choose = async row => {
    await detail.show(side, gallery, row, choose);
    side.scrollIntoView({ block: "nearest" });
  };
  const count = el("input", { type: "number", min: 2, max: 64, value: 12, onchange: () => draw() });
  const threshold = el("input", { type: "number", min: 0.5, max: 1, step: 0.001, value: 0.99, onchange: () => draw() });
  const what = el("select", { onchange: () => draw() },
    el("option", { value: "clusters" }, "clusters"), el("option", { value: "duplicates" }, "near duplicates"), el("option", { value: "outliers" }, "outliers"));
  const counts = el("label", {}, "Number of clusters", count);
  const least = el("label", {}, "Least similarity", threshold);
  let latest = 0;
  const draw = async () => {
    const drawing = ++latest;
    counts.hidden = what.value !== "clusters";
    least.hidden = what.value !== "duplicates";
    list.replaceChildren(el("p", { role: "status" }, "Comparing images …"));
    try {
      const made = await (what.value === "clusters" ? clusters(gallery, count.value, choose) : unusual(gallery, what.value, threshold.value, choose));
      if (drawing === latest) list.replaceChildren(...made);
    } catch (error) {
      if (drawing === latest) list.replaceChildren(problem(error));
    }
  };
  panel.replaceChildren(
    el("h2", {}, "Groups of images"),
    el("div", { class: "controls" }, el("label", {}, "Show", what), counts, least),
    el("div", { class: "map-frame" }, list, side));
  draw();
}

async function clusters(gallery, k, choose) {
  const found = await getJson(`${gallery.base}/clusters?k=${Math.round(k) || 12}`);
  return [
    el("p", { class: "note" }, "k-means on the features; the images nearest to each centre. It is good if a cluster shows one kind of thing."),
    ...found.map((cluster, i) => el("section", { class: "group" },
      el("h3", {}, `Cluster ${i + 1}: ${cluster.size.toLocaleString("en")} images`),
      cluster.classes.length ? el("p", { class: "soft" }, cluster.classes.map(([name, n]) => `${name} ${Math.round(100 * n / cluster.size)}%`).join(", ")) : null,
      detail.tiles(gallery, cluster.images, choose))),
  ];
}

async function unusual(gallery, which, threshold, choose) {
  const found = await getJson(`${gallery.base}/unusual?threshold=${Number(threshold) || 0.99}`);
  const compared = `${found.compared.toLocaleString("en")} images were compared, each with all others.`;
  if (which === "outliers") {
    return [el("p", { class: "note" }, `Images whose most similar other image is the least similar. ${compared}`), detail.tiles(gallery, found.outliers, choose)];
  }
  const more = found.groups > found.duplicates.length ? ` The largest ${found.duplicates.length} are shown.` : "";
  return [
    el("p", { class: "note" }, `${found.groups.toLocaleString("en")} groups of images that are nearly the same. ${compared}${more}`),
    ...found.duplicates.map((group, i) => el("section", { class: "group" }, el("h3", {}, `Group ${i + 1}`), detail.tiles(gallery, group, choose))),
  ];
}
