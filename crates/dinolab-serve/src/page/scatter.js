// Points on a canvas that is dragged and zoomed. Points are written into the pixels themselves, which is fast
// enough for 100,000; when few are in view, their pictures are drawn.

const PICTURES = 160;
const WANTED = 10;

/** Colour number `i` of `n`, as red, green and blue. */
export function colour(i, n, dark) {
  const hue = (i * 360) / Math.max(n, 1) + 210, light = dark ? 0.66 : 0.45 - 0.07 * (i % 2), strength = 0.62;
  const a = strength * Math.min(light, 1 - light);
  const channel = k => {
    const at = (k + hue / 30) % 12;
    return Math.round(255 * (light - a * Math.max(-1, Math.min(at - 3, 9 - at, 1))));
  };
  return [channel(0), channel(8), channel(4)];
}

/** How far the rows of a disc of a diameter are from the sides of its square. */
function disc(size) {
  const half = size / 2;
  return Array.from({ length: size }, (_, j) =>
    (size < 4 ? 0 : Math.round(half - Math.sqrt(Math.max(0, half * half - (j + 0.5 - half) ** 2)))));
}

/** The lowest and the highest value, and their distance. */
function range(values) {
  let low = Infinity, high = -Infinity;
  for (const value of values) {
    if (value < low) low = value;
    if (value > high) high = value;
  }
  return { low, high, length: Math.max(high - low, 1) };
}

export class Scatter {
  /** `pick(row)` is called with the point that was clicked; `picture(row)` is the address of its picture. */
  constructor(canvas, { pick, picture }) {
    Object.assign(this, { canvas, pick, picture });
    this.x = this.y = new Uint16Array();
    this.colours = new Uint32Array();
    this.view = { scale: 1, left: 0, top: 0 };
    this.marks = [];
    this.pictures = new Map();
    this.frameTimes = [];
    this.pen = canvas.getContext("2d", { alpha: true });
    this.watchPointer();
    canvas.addEventListener("keydown", event => this.key(event));
    new ResizeObserver(() => this.resize()).observe(canvas);
  }

  /** Shows points, 0–65,535, with the colour of each as 0xAABBGGRR. */
  setPoints(x, y, colours) {
    Object.assign(this, { x, y, colours, across: range(x), up: range(y) });
    this.pictures.clear();
    this.fit();
  }

  setColours(colours) {
    this.colours = colours;
    this.redraw();
  }

  /** Rings around points: rows, or places `[x, y]`. */
  setMarks(marks) {
    this.marks = marks;
    this.redraw();
  }

  resize() {
    const density = Math.min(devicePixelRatio || 1, 2);
    const width = Math.round(this.canvas.clientWidth * density), height = Math.round(this.canvas.clientHeight * density);
    if (!width || !height || (width === this.canvas.width && height === this.canvas.height)) return;
    this.canvas.width = width;
    this.canvas.height = height;
    this.density = density;
    this.pixels = null;
    this.fit();
  }

  /** All points in view. */
  fit() {
    if (!this.x.length) return;
    const { across, up } = this, { width, height } = this.canvas;
    const scale = 0.92 * Math.min(width / across.length, height / up.length);
    this.view = { scale, left: (width - (across.low + across.high) * scale) / 2, top: (height - (up.low + up.high) * scale) / 2 };
    this.fitted = scale;
    this.redraw();
  }

  redraw() {
    if (this.asked) return;
    this.asked = requestAnimationFrame(() => {
      this.asked = null;
      const began = performance.now();
      this.draw();
      this.frameTimes.push(performance.now() - began);
      if (this.frameTimes.length > 300) this.frameTimes.shift();
    });
  }

  draw() {
    const { width, height } = this.canvas;
    if (!width || !height) return;
    this.pixels ??= this.pen.createImageData(width, height);
    const words = new Uint32Array(this.pixels.data.buffer);
    words.fill(0);
    const { scale, left, top } = this.view, { x, y, colours } = this;
    const size = Math.max(2, Math.round((this.size() - 1) * this.density));
    const insets = disc(size), inView = [];
    for (let row = 0; row < x.length; row++) {
      const px = (x[row] * scale + left - size / 2) | 0, py = (y[row] * scale + top - size / 2) | 0;
      if (px < 0 || py < 0 || px >= width - size || py >= height - size) continue;
      if (inView.length <= PICTURES) inView.push(row);
      for (let j = 0; j < size; j++) {
        const start = (py + j) * width + px, inset = insets[j];
        for (let i = start + inset; i < start + size - inset; i++) words[i] = colours[row];
      }
    }
    this.pen.putImageData(this.pixels, 0, 0);
    if (this.picture && inView.length <= PICTURES) this.drawPictures(inView);
    this.drawMarks();
  }

  /** Side of a point: smaller where there are many. */
  size() {
    const n = this.x.length, zoom = this.view.scale / (this.fitted ?? this.view.scale);
    return (n > 30000 ? 3 : n > 5000 ? 4 : n > 1500 ? 6 : 8) + Math.min(4, Math.log2(Math.max(zoom, 1)));
  }

  drawPictures(rows) {
    const side = 44 * this.density;
    let loading = 0;
    for (const row of rows) {
      let image = this.pictures.get(row);
      if (!image) {
        if (++loading > WANTED) continue;
        image = new Image();
        image.onload = image.onerror = () => this.redraw();
        image.src = this.picture(row);
        this.pictures.set(row, image);
      }
      if (!image.complete || !image.naturalWidth) continue;
      const [px, py] = this.place(row), fit = side / Math.max(image.naturalWidth, image.naturalHeight);
      const w = image.naturalWidth * fit, h = image.naturalHeight * fit;
      this.pen.drawImage(image, px - w / 2, py - h / 2, w, h);
      const c = this.colours[row];
      this.pen.strokeStyle = `rgb(${c & 255} ${(c >> 8) & 255} ${(c >> 16) & 255})`;
      this.pen.lineWidth = 2 * this.density;
      this.pen.strokeRect(px - w / 2, py - h / 2, w, h);
    }
  }

  drawMarks() {
    const ink = getComputedStyle(this.canvas).color;
    this.marks.forEach((mark, i) => {
      const [px, py] = this.place(mark);
      this.pen.beginPath();
      this.pen.arc(px, py, (i ? 6 : 11) * this.density, 0, 2 * Math.PI);
      this.pen.lineWidth = (i ? 1.5 : 3) * this.density;
      this.pen.strokeStyle = ink;
      this.pen.stroke();
    });
  }

  /** Where a row or a place is on the canvas. */
  place(mark) {
    const [x, y] = Array.isArray(mark) ? mark : [this.x[mark], this.y[mark]];
    return [x * this.view.scale + this.view.left, y * this.view.scale + this.view.top];
  }

  /** The row nearest to a place on the canvas; -1 if none is near. */
  nearest(px, py) {
    let best = -1, least = (26 * this.density) ** 2;
    const { scale, left, top } = this.view;
    for (let row = 0; row < this.x.length; row++) {
      const dx = this.x[row] * scale + left - px, dy = this.y[row] * scale + top - py, d = dx * dx + dy * dy;
      if (d < least) [best, least] = [row, d];
    }
    return best;
  }

  move(dx, dy) {
    this.view.left += dx;
    this.view.top += dy;
    this.redraw();
  }

  zoom(factor, px = this.canvas.width / 2, py = this.canvas.height / 2) {
    const view = this.view, smallest = 0.3 * (this.fitted ?? 0);
    const scale = Math.min(Math.max(view.scale * factor, smallest), 40);
    const by = scale / view.scale;
    this.view = { scale, left: px - (px - view.left) * by, top: py - (py - view.top) * by };
    this.redraw();
  }

  key(event) {
    const step = 60 * this.density;
    const does = {
      ArrowLeft: () => this.move(step, 0), ArrowRight: () => this.move(-step, 0),
      ArrowUp: () => this.move(0, step), ArrowDown: () => this.move(0, -step),
      "+": () => this.zoom(1.5), "=": () => this.zoom(1.5), "-": () => this.zoom(1 / 1.5), 0: () => this.fit(),
      Enter: () => this.pickAt(this.canvas.width / 2, this.canvas.height / 2),
    }[event.key];
    if (!does) return;
    event.preventDefault();
    does();
  }

  pickAt(px, py) {
    const row = this.nearest(px, py);
    if (row >= 0) this.pick(row);
  }

  /** One pointer drags, two zoom, a wheel zooms, a click picks. */
  watchPointer() {
    const { canvas } = this, down = new Map();
    let moved = 0;
    const at = event => [event.offsetX * this.density, event.offsetY * this.density];
    canvas.addEventListener("pointerdown", event => {
      canvas.setPointerCapture(event.pointerId);
      if (!down.size) moved = 0;
      down.set(event.pointerId, at(event));
    });
    canvas.addEventListener("pointermove", event => {
      const from = down.get(event.pointerId);
      if (!from) return;
      const to = at(event), dx = to[0] - from[0], dy = to[1] - from[1];
      moved += Math.abs(dx) + Math.abs(dy);
      const other = [...down].find(([id]) => id !== event.pointerId)?.[1];
      if (other) {
        const apart = p => Math.hypot(p[0] - other[0], p[1] - other[1]);
        this.zoom(apart(to) / Math.max(apart(from), 1), other[0], other[1]);
      } else {
        this.move(dx, dy);
      }
      down.set(event.pointerId, to);
    });
    const up = event => {
      if (down.delete(event.pointerId) && event.type === "pointerup" && !down.size && moved < 6 * this.density) this.pickAt(...at(event));
    };
    canvas.addEventListener("pointerup", up);
    canvas.addEventListener("pointercancel", up);
    canvas.addEventListener("wheel", event => {
      event.preventDefault();
      this.zoom(1.0015 ** -event.deltaY, ...at(event));
    }, { passive: false });
  }
}
