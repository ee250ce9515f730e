// The map of images: the first two principal components of their features.

import { el, getBytes } from "./dom.js";
import { gallery as wait } from "./gallery.js";
import { Scatter, colour } from "./scatter.js";
import * as detail from "./detail.js";

const UNLABELLED = 65535;
let turn = 0;
let shown = null;

export async function show(panel, run, anew = false) {
  const own = ++turn;
  const gallery = await wait(panel, run, () => own === turn, anew);
  if (!gallery || (shown === gallery && panel.querySelector("canvas"))) return;
  shown = gallery;
  build(panel, gallery, () => show(panel, run, true));
}

const isDark = () => matchMedia("(prefers-color-scheme: dark)").matches;

/** The colour of each row, by its number among `count`; grey without one. */
function colours(numbers, count) {
  const dark = isDark(), grey = dark ? 0xff777777 : 0xff999999;
  const table = Array.from({ length: count }, (_, i) => {
    const [r, g, b] = colour(i, count, dark);
    return ((255 << 24) | (b << 16) | (g << 8) | r) >>> 0;
  });
  return Uint32Array.from(numbers, number => (number === UNLABELLED ? grey : table[number] ?? grey));
}

function key(names) {
  const dark = isDark();
  return names.map((name, i) => {
    const swatch = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    swatch.setAttribute("viewBox", "0 0 10 10");
    swatch.setAttribute("aria-hidden", "true");
    const box = document.createElementNS("http://www.w3.org/2000/svg", "rect");
    box.setAttribute("width", 10);
    box.setAttribute("height", 10);
    box.setAttribute("fill", `rgb(${colour(i, names.length, dark).join(" ")})`);
    swatch.append(box);
    return el("li", {}, swatch, name);
  });
}

function build(panel, gallery, anew) {
  const { facts } = gallery;
  const canvas = el("canvas", {
    tabindex: "0", role: "application",
    "aria-label": "Map of images. Arrow keys move, plus and minus zoom, 0 shows all, Enter chooses the image in the middle.",
  });
  const side = el("div", { class: "detail", "aria-live": "polite" }, el("p", { class: "soft" }, "Click a point to see the image, its attention and its neighbours."));
  const legend = el("ul", { class: "key", "aria-label": "Colours", tabindex: "0" });
  const choose = async row => {
    scatter.setMarks([row]);
    const rows = await detail.show(side, gallery, row, choose);
    if (rows.length) scatter.setMarks([row, ...rows]);
  };
  const scatter = new Scatter(canvas, { pick: choose, picture: facts.pictures ? row => gallery.picture(row) : null });
  const paint = async () => {
    if (by.value === "class") {
      scatter.setColours(colours(gallery.classes, facts.classes.length));
      legend.replaceChildren(...key(facts.classes));
    } else {
      const numbers = new Uint16Array(await getBytes(`${gallery.base}/assignments?k=12`));
      const count = numbers.reduce((most, n) => Math.max(most, n + 1), 0);
      scatter.setColours(colours(numbers, count));
      legend.replaceChildren(...key(Array.from({ length: count }, (_, i) => `cluster ${i + 1}`)));
    }
  };
  const by = el("select", { onchange: paint },
    facts.classes.length ? el("option", { value: "class" }, "class") : null, el("option", { value: "cluster" }, "cluster"));
  const ask = async file => {
    const found = await detail.query(side, gallery, file, choose);
    if (found) scatter.setMarks([found.place, ...found.rows]);
  };
  const plot = el("div", { class: "plot" }, canvas);
  const file = el("input", { type: "file", accept: "image/*", onchange: event => event.target.files[0] && ask(event.target.files[0]) });
  const button = (words, label, does) => el("button", { "aria-label": label, title: label, onclick: does }, words);
  const rows = facts.rows.toLocaleString("en");
  const of = facts.rows < facts.available ? ` of ${facts.available.toLocaleString("en")}` : "";
  panel.replaceChildren(
    el("h2", {}, "Map of images"),
    el("p", { class: "note" }, `${rows}${of} images by the first two principal components of their features (${Math.round(100 * facts.explained)}% of the variance)${facts.checkpoint ? ` at ${facts.checkpoint}` : ""}. `
      + "It is good if images of a kind lie together; zoom in to see pictures."),
    el("div", { class: "controls" },
      el("label", {}, "Colour by", by),
      el("span", {}, button("+", "Zoom in", () => scatter.zoom(1.6)), " ", button("−", "Zoom out", () => scatter.zoom(1 / 1.6)), " ", button("Show all", "Show all images", () => scatter.fit())),
      facts.outdated ? el("button", { onclick: anew }, "Use the newest checkpoint") : null,
      el("label", { class: "drop" }, "Drop a photograph on the map, or choose one: ", file)),
    el("div", { class: "map-frame" }, el("div", {}, plot, legend), side));
  for (const [event, does] of [["dragover", () => plot.classList.add("over")], ["dragleave", () => plot.classList.remove("over")], ["drop", drop]]) {
    plot.addEventListener(event, happened => { happened.preventDefault(); does(happened); });
  }
  function drop(event) {
    plot.classList.remove("over");
    if (event.dataTransfer.files[0]) ask(event.dataTransfer.files[0]);
  }
  scatter.resize();
  scatter.setPoints(gallery.x, gallery.y, new Uint32Array(facts.rows).fill(0xff888888));
  paint();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", paint);
  // For measurements of the page.
  canvas.scatter = scatter;
}
