// What a network sees in an image: attention or activation as a heat map, the patches that hold most of it, colours of patches.

import { el } from "./dom.js";

/** Colour of a value in 0–1: dark blue over green to yellow. */
function warm(value) {
  const stops = [[24, 20, 72], [38, 84, 124], [32, 148, 120], [140, 196, 70], [252, 232, 80]];
  const at = Math.min(Math.max(value, 0), 1) * (stops.length - 1), low = Math.min(Math.floor(at), stops.length - 2);
  return stops[low].map((from, i) => from + (stops[low + 1][i] - from) * (at - low));
}

const mean = maps => maps[0].map((_, i) => maps.reduce((sum, map) => sum + map[i], 0) / maps.length);

/** What the maps are, as a heading. */
export const titleOf = seen => (seen.maps === "activation" ? "Activation" : "Attention");

/** The map of head `which`, or of all heads ("mean"). */
export const mapOf = (seen, which) => (which === "mean" ? mean(seen.heads) : seen.heads[which]);

/** Which patches hold the share `mass` of the attention, fewest first. */
export function holding(map, mass) {
  const order = [...map.keys()].sort((a, b) => map[b] - map[a]);
  const total = map.reduce((sum, value) => sum + value, 0);
  const inside = new Uint8Array(map.length);
  let sum = 0;
  for (const patch of order) {
    if (sum >= mass * total) break;
    inside[patch] = 1;
    sum += map[patch];
  }
  return inside;
}

/** Draws one pixel for each patch, and enlarges it over the image. */
function patches(context, seen, smooth, alpha, colourOf) {
  const [rows, columns] = seen.grid;
  const small = new OffscreenCanvas(columns, rows), pen = small.getContext("2d");
  const data = pen.createImageData(columns, rows);
  for (let i = 0; i < rows * columns; i++) data.data.set(colourOf(i), 4 * i);
  pen.putImageData(data, 0, 0);
  context.imageSmoothingEnabled = smooth;
  context.globalAlpha = alpha;
  context.drawImage(small, 0, 0, ...seen.size);
  context.globalAlpha = 1;
}

function canvas(seen, label, draw) {
  const node = el("canvas", { width: seen.size[0], height: seen.size[1], role: "img", "aria-label": label });
  draw(node.getContext("2d"));
  return el("figure", {}, node, el("figcaption", { class: "soft" }, label));
}

/** The decoded picture of what was seen. */
export async function pictureOf(seen) {
  const image = new Image();
  image.src = seen.image;
  await image.decode();
  return image;
}

/** The image, attention of `which` or activation, the patches that hold `mass` of it, and patch colours. */
export function drawings(seen, image, which, mass) {
  const map = mapOf(seen, which), inside = holding(map, mass);
  const low = Math.min(...map), range = Math.max(...map) - low || 1;
  const name = seen.maps === "activation" ? "activation" : `attention, ${which === "mean" ? "mean over heads" : `head ${which}`}`;
  return [
    canvas(seen, "image", c => c.drawImage(image, 0, 0)),
    canvas(seen, name, c => {
      c.drawImage(image, 0, 0);
      patches(c, seen, true, 0.72, i => [...warm((map[i] - low) / range), 255]);
    }),
    canvas(seen, `${Math.round(100 * mass)}% of the ${seen.maps}`, c => {
      c.drawImage(image, 0, 0);
      patches(c, seen, false, 1, i => (inside[i] ? [255, 64, 32, 120] : [0, 0, 0, 120]));
    }),
    canvas(seen, "patch colours (PCA)", c => patches(c, seen, false, 1, i => [...seen.colours.slice(3 * i, 3 * i + 3), 255])),
  ];
}
