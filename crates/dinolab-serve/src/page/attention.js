// Attention or activation of the run's fixed images over time: by stored checkpoints, and as stored pictures.

import { el, getJson, problem } from "./dom.js";
import { drawings, pictureOf } from "./heat.js";

const titles = {
  attention: "Attention of the class token",
  activation: "Activation: the share of each position in the feature",
};
const seenBefore = new Map();
let turn = 0;

export async function show(panel, run) {
  const own = ++turn;
  panel.replaceChildren(el("p", { class: "soft", role: "status" }, "Looking for checkpoints and pictures …"));
  const base = `/api/runs/${run}`;
  const parts = await Promise.allSettled([getJson(`${base}/networks`), getJson(`${base}/pictures`)]);
  if (own !== turn) return;
  const [networks, pictures] = parts.map(part => part.value);
  const activation = pictures?.some(picture => picture.name.startsWith("activation"));
  const heading = el("h2", {}, titles[activation ? "activation" : "attention"]);
  const children = [heading];
  const named = maps => { heading.textContent = titles[maps]; };
  if (networks?.checkpoints.length && networks.images.length) children.push(...byCheckpoint(base, networks, named));
  else if (parts[0].reason) children.push(problem(parts[0].reason));
  else children.push(el("p", {}, "The run has no checkpoint yet; the first is written after an epoch."));
  if (pictures?.length) children.push(...stored(base, pictures));
  panel.replaceChildren(...children);
}

function slider(label, max, value, words, oninput) {
  const output = el("output", {}, words(value));
  const input = el("input", { type: "range", min: 0, max, value, "aria-label": label, "aria-valuetext": words(value) });
  input.addEventListener("input", () => {
    output.textContent = words(Number(input.value));
    input.setAttribute("aria-valuetext", output.textContent);
    oninput(Number(input.value));
  });
  return el("label", {}, label, input, output);
}

/** Raw maps of a checkpoint that is still stored, computed when it is chosen; `named` is told which maps the network has. */
function byCheckpoint(base, { checkpoints, images, steps_per_epoch: per }, named) {
  const chosen = { checkpoint: checkpoints.length - 1, image: 0, head: "mean", mass: 0.6 };
  const frame = el("div", { class: "seen", "aria-live": "polite" });
  const heads = el("select", { "aria-label": "Head", onchange: event => {
    chosen.head = event.target.value === "mean" ? "mean" : Number(event.target.value);
    redraw();
  } });
  let shown = null, latest = 0;
  const redraw = () => {
    if (shown) frame.replaceChildren(...drawings(shown.seen, shown.image, chosen.head, chosen.mass));
  };
  const load = async () => {
    const own = ++latest;
    const address = `${base}/attention?checkpoint=${checkpoints[chosen.checkpoint].name}&image=${chosen.image}`;
    try {
      let found = seenBefore.get(address);
      if (!found) {
        frame.setAttribute("aria-busy", "true");
        const seen = await getJson(address);
        found = { seen, image: await pictureOf(seen) };
        seenBefore.set(address, found);
      }
      if (own !== latest) return;
      shown = found;
      named(shown.seen.maps);
      if (chosen.head !== "mean" && chosen.head >= shown.seen.heads.length) chosen.head = "mean";
      heads.replaceChildren(el("option", { value: "mean" }, "mean"), ...shown.seen.heads.map((_, i) => el("option", { value: i }, `head ${i}`)));
      heads.value = chosen.head;
      headChoice.hidden = shown.seen.maps === "activation";
      redraw();
    } catch (error) {
      if (own === latest) frame.replaceChildren(problem(error));
    } finally {
      frame.removeAttribute("aria-busy");
    }
  };
  const when = i => {
    const step = checkpoints[i].step;
    return per ? `epoch ${Number((step / per).toFixed(1))}` : `step ${step}`;
  };
  const picture = el("select", { onchange: event => { chosen.image = Number(event.target.value); load(); } },
    ...images.map(image => el("option", { value: image.number }, image.name)));
  const headChoice = el("label", {}, "Head", heads);
  const controls = el("div", { class: "controls" },
    el("label", {}, "Image", picture),
    slider("Checkpoint", checkpoints.length - 1, chosen.checkpoint, when, value => { chosen.checkpoint = value; load(); }),
    headChoice,
    slider("Threshold", 100, 60, value => `${value}%`, value => { chosen.mass = value / 100; redraw(); }));
  load();
  return [
    el("p", { class: "note" }, "It is good if the maps settle on objects, and if heads of attention look at different parts. Similar patches have similar colours."),
    controls, frame,
  ];
}

/** Pictures that the run drew at each evaluation. */
function stored(base, pictures) {
  const image = el("img", {});
  const choose = i => {
    image.src = `${base}/pictures/${pictures[i].name}`;
    image.alt = `${activation(i) ? "Activation" : "Attention"} ${words(i)}: ${columns(i)}`;
  };
  const words = i => (pictures[i].epochs === 0 ? "untrained" : `after epoch ${pictures[i].epochs}`);
  const activation = i => pictures[i].name.startsWith("activation");
  const columns = i => (activation(i) ? "the image, its activation over it and alone" : "the image, the mean over heads, each head");
  choose(pictures.length - 1);
  return [
    el("h2", {}, "Stored pictures"),
    el("p", { class: "note" }, `Drawn at each evaluation: ${columns(pictures.length - 1)}.`),
    el("div", { class: "controls" }, slider("Evaluation", pictures.length - 1, pictures.length - 1, words, choose)),
    el("div", { class: "sheet", tabindex: "0", role: "region", "aria-label": "Stored picture" }, image),
  ];
}
