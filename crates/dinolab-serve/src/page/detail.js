// An image: its picture, what the network sees in it, and its neighbours.

import { el, getJson, problem } from "./dom.js";
import { drawings, pictureOf, titleOf } from "./heat.js";

/** A button with a small picture of an image. */
export function tile(gallery, image, choose) {
  const words = [image.class, image.similarity == null ? null : image.similarity.toFixed(3)].filter(Boolean).join(" · ");
  return el("li", {}, el("button", { class: "tile", onclick: () => choose(image.row), title: image.name, "aria-label": `${image.name} ${words}` },
    image.picture ? el("img", { src: gallery.picture(image.row), alt: "", loading: "lazy" }) : null,
    el("span", {}, words || image.name)));
}

/** Tiles of images. */
export const tiles = (gallery, images, choose) =>
  el("ul", { class: "tiles" }, ...images.map(image => tile(gallery, image, choose)));

/** What the network sees, with a choice of the head and a threshold. */
async function seenBy(seen) {
  const image = await pictureOf(seen);
  const frame = el("div", { class: "seen" });
  let head = "mean", mass = 0.6;
  const redraw = () => frame.replaceChildren(...drawings(seen, image, head, mass).slice(1));
  const heads = el("select", { onchange: event => { head = event.target.value === "mean" ? "mean" : Number(event.target.value); redraw(); } },
    el("option", { value: "mean" }, "mean"), ...seen.heads.map((_, i) => el("option", { value: i }, `head ${i}`)));
  const threshold = el("input", { type: "range", min: 0, max: 100, value: 60, oninput: event => { mass = event.target.value / 100; redraw(); } });
  redraw();
  const headChoice = seen.maps === "activation" ? "" : el("label", {}, "Head", heads);
  return [el("h3", {}, titleOf(seen)), el("div", { class: "controls" }, headChoice, el("label", {}, "Threshold", threshold)), frame];
}

let latest = 0;

/** Shows image `row` in `panel`; returns its neighbours' rows. */
export async function show(panel, gallery, row, choose) {
  const own = ++latest;
  try {
    const { image, neighbours } = await getJson(`${gallery.base}/images/${row}`);
    if (own !== latest) return [];
    const attention = el("div", {});
    panel.replaceChildren(
      el("h2", {}, image.name), image.class ? el("p", {}, `Class: ${image.class}`) : "",
      image.picture ? el("img", { class: "large", src: gallery.picture(row, 256), alt: image.name }) : "",
      attention, el("h3", {}, "Most similar images"), tiles(gallery, neighbours, choose));
    if (image.picture) {
      getJson(`${gallery.base}/images/${row}/attention`).then(seenBy)
        .then(parts => attention.replaceChildren(...parts), error => attention.replaceChildren(problem(error)));
    }
    return neighbours.map(neighbour => neighbour.row);
  } catch (error) {
    panel.replaceChildren(problem(error));
    return [];
  }
}

/** Shows a photograph that is not in the gallery; returns its place and its neighbours' rows. */
export async function query(panel, gallery, file, choose) {
  const own = ++latest;
  panel.replaceChildren(el("p", { role: "status" }, "Looking for similar images …"));
  try {
    const found = await getJson(`${gallery.base}/query`, { method: "POST", body: file });
    if (own !== latest) return null;
    panel.replaceChildren(
      el("h2", {}, file.name || "Photograph"), el("img", { class: "large", src: found.attention.image, alt: "The photograph" }),
      el("div", {}, ...await seenBy(found.attention)), el("h3", {}, "Most similar images"), tiles(gallery, found.neighbours, choose));
    return { place: found.place, rows: found.neighbours.map(neighbour => neighbour.row) };
  } catch (error) {
    panel.replaceChildren(problem(error));
    return null;
  }
}
