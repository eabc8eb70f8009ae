// The timeline, which shows the frames with masks, the frames of the last round, and frames of low confidence.

export const LOW_CONFIDENCE = 0.8; // a confidence counts as low below this fraction of its round's median

// Divide the confidences of a round, [[frame, confidence], ...], by their median. The level of the confidence differs
// between networks, videos and objects, but within a round the frames of lower confidence tend to have worse masks
// (docs/guides/annotation.md has measurements).
export function relative(confidence) {
  const values = confidence.map(([, value]) => value).sort((a, b) => a - b);
  const middle = values[Math.floor((values.length - 1) / 2)] || 1;
  return confidence.map(([frame, value]) => [frame, value / middle]);
}

export class Timeline extends EventTarget {
  constructor(canvas) {
    super();
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
    this.count = 1;
    this.frame = 0;
    this.shown = [];
    this.rounds = [];
    this.edited = new Set(); // frames with edits that were not propagated
    this.locked = []; // ranges of locked frames
    this.range = null; // range [first, last] that the user has set
    this.pending = new Set(); // frames with strokes that were not propagated
    this.ready = 0;
    new ResizeObserver(() => this.resize()).observe(canvas);
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      this.scrubbing = true;
      this.seek(event);
    });
    canvas.addEventListener("pointermove", (event) => {
      this.hover = this.at(event);
      if (this.scrubbing) this.seek(event);
      else if (this.hover !== this.hovered) this.draw();
      this.hovered = this.hover;
    });
    for (const type of ["pointerup", "pointercancel"]) canvas.addEventListener(type, () => { this.scrubbing = false; });
    canvas.addEventListener("pointerleave", () => { this.hover = null; this.draw(); });
  }

  resize() {
    this.ratio = Math.min(window.devicePixelRatio || 1, 2);
    this.canvas.width = Math.max(1, this.canvas.clientWidth * this.ratio);
    this.canvas.height = Math.max(1, this.canvas.clientHeight * this.ratio);
    this.draw();
  }

  at(event) {
    const box = this.canvas.getBoundingClientRect();
    return Math.max(0, Math.min(this.count - 1, Math.floor(((event.clientX - box.left - PAD) / (box.width - 2 * PAD)) * this.count)));
  }

  seek(event) {
    const frame = this.at(event);
    if (frame !== this.frame) this.dispatchEvent(new CustomEvent("seek", { detail: frame }));
  }

  draw() {
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => { this.waiting = false; this.paint(); });
  }

  paint() {
    const { context: c, ratio, canvas } = this;
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue(name).trim();
    const width = canvas.width / ratio;
    const height = canvas.height / ratio;
    const step = (width - 2 * PAD) / this.count;
    const x = (frame) => PAD + frame * step;
    const top = 21;
    const bottom = height - 14;
    c.setTransform(ratio, 0, 0, ratio, 0, 0);
    c.clearRect(0, 0, width, height);
    c.fillStyle = colour("--track");
    round(c, PAD, top, width - 2 * PAD, bottom - top, 5);
    c.save();
    c.clip();
    const last = this.rounds.at(-1);
    this.bars(c, (t) => (this.shown[t] ? (typeof this.shown[t] === "string" ? 3 : last && this.shown[t] === last.number ? 2 : 1) : 0), (kind, from, to) => {
      if (!kind) return;
      c.fillStyle = colour(["", "--mask", "--accent", "--good"][kind]);
      c.fillRect(x(from), top, x(to) - x(from), bottom - top);
    });
    if (last && last.status === "stopped" && last.planned) this.stale(c, last, x, top, bottom, colour("--warn"));
    if (this.ready < this.count) {
      c.fillStyle = colour("--line");
      c.fillRect(x(this.ready), top, width, bottom - top);
    }
    c.fillStyle = colour("--warn");
    for (const [frame, share] of this.lowConfidence()) {
      const tall = 4 + (1 - share / LOW_CONFIDENCE) * (bottom - top - 6);
      c.fillRect(x(frame), bottom - tall, Math.max(1.5, step - (step > 5 ? 1 : 0)), tall);
    }
    c.fillStyle = colour("--good");
    for (const [from, to] of this.locked) c.fillRect(x(from), bottom - 5, Math.max(2, x(to + 1) - x(from)), 5);
    c.restore();
    if (this.range) {
      c.strokeStyle = colour("--text");
      c.lineWidth = 1.5;
      c.strokeRect(x(this.range[0]), top - 2, x(this.range[1] + 1) - x(this.range[0]), bottom - top + 4);
    }
    this.ticks(c, x, step, bottom, colour("--soft"), width);
    this.head(c, x, step, top, bottom, colour);
    this.marks(c, x, step, (top + bottom) / 2, colour);
  }

  bars(c, kind, paint) {
    let from = 0;
    for (let t = 1; t <= this.count; t++) {
      if (t === this.count || kind(t) !== kind(from)) {
        paint(kind(from), from, t);
        from = t;
      }
    }
  }

  stale(c, last, x, top, bottom, colour) {
    const [low, high] = last.planned;
    const [from, to] = last.reach;
    c.strokeStyle = colour;
    c.lineWidth = 1.5;
    for (const [a, b] of [[low, from], [to + 1, high + 1]]) {
      if (a >= b) continue;
      c.save();
      c.beginPath();
      c.rect(x(a), top, x(b) - x(a), bottom - top);
      c.clip();
      c.beginPath();
      for (let at = x(a) - 30; at < x(b); at += 7) { c.moveTo(at, bottom); c.lineTo(at + (bottom - top), top); }
      c.stroke();
      c.restore();
    }
  }

  // Return [frame, confidence divided by the round's median] of the frames with masks, lowest first.
  sure() {
    if (!this.sorted) {
      const all = this.rounds.flatMap((one) => relative(one.confidence).filter(([frame]) => this.shown[frame] === one.number));
      this.sorted = all.sort((a, b) => a[1] - b[1]);
    }
    return this.sorted;
  }

  // Redraw the timeline after a change of the rounds, or of the frames that show them.
  changed() {
    this.sorted = null;
    this.draw();
  }

  lowConfidence() {
    return this.sure().filter(([, share]) => share < LOW_CONFIDENCE);
  }

  ticks(c, x, step, bottom, colour, width) {
    const every = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000].find((n) => n * step > 52) ?? 2000;
    c.fillStyle = colour;
    c.font = "10px system-ui, 'DejaVu Sans', sans-serif";
    c.textAlign = "center";
    c.textBaseline = "bottom";
    for (let t = 0; t < this.count; t += every) {
      const at = x(t) + step / 2;
      if (at < width - 14) c.fillText(String(t), Math.max(at, 8), bottom + 14);
    }
  }

  marks(c, x, step, middle, colour) {
    const mark = (frame, fill, line) => {
      c.fillStyle = colour(fill);
      c.strokeStyle = colour(line);
      c.lineWidth = 1.5;
      diamond(c, x(frame) + step / 2, middle, 6);
      c.fill();
      c.stroke();
    };
    for (const one of this.rounds) mark(one.frame, "--text", "--face");
    for (const frame of [...this.pending, ...this.edited]) mark(frame, "--face", "--warn");
  }

  head(c, x, step, top, bottom, colour) {
    const at = x(this.frame) + step / 2;
    c.fillStyle = colour("--text");
    c.fillRect(at - 1, top - 3, 2, bottom - top + 6);
    const shown = this.hover ?? this.frame;
    const where = x(shown) + step / 2;
    if (this.hover !== null && this.hover !== undefined && this.hover !== this.frame) {
      c.globalAlpha = 0.4;
      c.fillRect(where - 0.5, top - 2, 1, bottom - top + 4);
      c.globalAlpha = 1;
    }
    const text = String(shown);
    c.font = "600 11px system-ui, 'DejaVu Sans', sans-serif";
    const wide = Math.max(22, c.measureText(text).width + 10);
    const left = Math.max(0, Math.min(this.canvas.width / this.ratio - wide, where - wide / 2));
    c.fillStyle = colour("--text");
    round(c, left, 0, wide, 15, 4);
    c.fillStyle = colour("--face");
    c.textAlign = "center";
    c.textBaseline = "middle";
    c.fillText(text, left + wide / 2, 8);
  }
}

const PAD = 4;

function round(c, x, y, width, height, radius) {
  c.beginPath();
  c.roundRect(x, y, width, height, radius);
  c.fill();
}

function diamond(c, x, y, size) {
  c.beginPath();
  c.moveTo(x, y - size);
  c.lineTo(x + size, y);
  c.lineTo(x, y + size);
  c.lineTo(x - size, y);
  c.closePath();
}
