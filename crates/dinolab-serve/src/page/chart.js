// A line chart as SVG, with values under the pointer.

import { digits, el, svg } from "./dom.js";

const WIDTH = 560, HEIGHT = 270, LEFT = 60, RIGHT = 12, TOP = 10, BOTTOM = 40;
const DASHES = ["", "6 4", "2 3", "10 3 2 3", "1 5", "12 4", "4 2", "8 2 2 2"];

/** A range with round ticks over some values. */
function axis(values) {
  let low = Math.min(...values), high = Math.max(...values);
  if (high - low <= Math.max(Math.abs(low), Math.abs(high)) * 1e-9) {
    const room = high === 0 ? 1 : Math.abs(high) * 0.1;
    low -= room;
    high += room;
  }
  const rough = (high - low) / 5, unit = 10 ** Math.floor(Math.log10(rough));
  const step = unit * [1, 2, 5, 10].find(n => rough <= n * unit * (1 + 1e-9));
  const pad = (high - low) * 0.02;
  low -= pad;
  high += pad;
  const ticks = [];
  for (let n = Math.ceil(low / step); n * step <= high && ticks.length < 20; n++) ticks.push(n * step);
  const label = tick => (Math.abs(tick) < step / 1e6 ? "0" : digits(Number(tick.toPrecision(6))));
  return { at: value => (value - low) / (high - low), value: share => low + share * (high - low), ticks, label };
}

const finite = point => point[0] != null && point[1] != null;

/** Parts of a line without the gaps in it. */
function unbroken(points) {
  const parts = [[]];
  for (const point of points) {
    if (finite(point)) parts.at(-1).push(point);
    else if (parts.at(-1).length) parts.push([]);
  }
  return parts.filter(part => part.length);
}

/** The point of a line nearest to x. */
function nearest(points, x) {
  let best = null;
  for (const point of points) {
    if (finite(point) && (!best || Math.abs(point[0] - x) < Math.abs(best[0] - x))) best = point;
  }
  return best;
}

/** A chart of `lines`: `{ name, points, colour, dash }`. */
export function chart({ title, note, x, y, lines }) {
  const points = lines.flatMap(line => line.points).filter(finite);
  const heading = [el("h3", {}, title), el("p", { class: "note" }, note)];
  if (!points.length) return el("figure", { class: "chart" }, ...heading, el("p", {}, "No data yet."));
  const across = axis(points.map(p => p[0])), up = axis(points.map(p => p[1]));
  const right = WIDTH - RIGHT, bottom = HEIGHT - BOTTOM;
  const px = value => LEFT + across.at(value) * (right - LEFT);
  const py = value => bottom - up.at(value) * (bottom - TOP);
  const last = lines.map(line => line.points.findLast(finite)?.[1]);
  const drawing = svg("svg", {
    viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img",
    "aria-label": `${title}. ${lines.map((line, i) => `${line.name}: ${digits(last[i])}`).join(", ")}`,
  });
  for (const tick of up.ticks) {
    drawing.append(
      svg("line", { class: "grid", x1: LEFT, x2: right, y1: py(tick), y2: py(tick) }),
      svg("text", { x: LEFT - 6, y: py(tick) + 4, "text-anchor": "end" }, up.label(tick)));
  }
  for (const tick of across.ticks) {
    drawing.append(svg("text", { x: px(tick), y: bottom + 16, "text-anchor": "middle" }, across.label(tick)));
  }
  drawing.append(
    svg("line", { class: "axis", x1: LEFT, x2: right, y1: bottom, y2: bottom }),
    svg("text", { x: (LEFT + right) / 2, y: HEIGHT - 6, "text-anchor": "middle" }, x),
    svg("text", { transform: `rotate(-90 13 ${(TOP + bottom) / 2})`, x: 13, y: (TOP + bottom) / 2, "text-anchor": "middle" }, y));
  const look = line => ({ class: `line k${line.colour % 8}`, "stroke-dasharray": DASHES[line.dash % DASHES.length] || null });
  for (const line of lines) {
    for (const part of unbroken(line.points)) {
      drawing.append(part.length === 1
        ? svg("circle", { ...look(line), r: 3, cx: px(part[0][0]), cy: py(part[0][1]) })
        : svg("polyline", { ...look(line), points: part.map(p => `${px(p[0]).toFixed(1)},${py(p[1]).toFixed(1)}`).join(" ") }));
    }
  }
  const cursor = svg("line", { class: "cursor", y1: TOP, y2: bottom, visibility: "hidden" });
  drawing.append(cursor);
  const values = lines.map((_, i) => el("b", {}, digits(last[i])));
  const place = el("span", { class: "soft" });
  const legend = el("ul", { class: "legend" }, ...lines.map((line, i) =>
    el("li", {}, svg("svg", { viewBox: "0 0 26 10", "aria-hidden": "true" }, svg("path", { d: "M0 5H26", ...look(line) })), line.name, " ", values[i])), el("li", {}, place));
  const follow = event => {
    const box = drawing.getBoundingClientRect();
    const share = ((event.clientX - box.left) / box.width * WIDTH - LEFT) / (right - LEFT);
    if (share < 0 || share > 1) return leave();
    const at = nearest(points, across.value(share))[0];
    cursor.setAttribute("x1", px(at));
    cursor.setAttribute("x2", px(at));
    cursor.setAttribute("visibility", "visible");
    place.textContent = `at ${x} ${digits(at)}`;
    lines.forEach((line, i) => { values[i].textContent = digits(nearest(line.points, at)?.[1]); });
  };
  const leave = () => {
    cursor.setAttribute("visibility", "hidden");
    place.textContent = "";
    values.forEach((value, i) => { value.textContent = digits(last[i]); });
  };
  drawing.addEventListener("pointermove", follow);
  drawing.addEventListener("pointerleave", leave);
  return el("figure", { class: "chart", "data-title": title }, ...heading, drawing, legend);
}
