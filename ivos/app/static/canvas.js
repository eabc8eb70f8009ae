// The stage: display of the frame, its mask and its strokes; drawing with the pointer; zoom and pan.

const BRUSH = 5; // width of strokes in pixels of the frame, as in the network's input
const CLOSEST = 24; // largest scale, in CSS pixels per pixel of the frame

export class Stage extends EventTarget {
  constructor(box, view, ink) {
    super();
    Object.assign(this, { box, view, ink });
    this.context = view.getContext("2d");
    this.inkContext = ink.getContext("2d");
    this.width = this.height = 1;
    this.scale = 1; // CSS pixels per pixel of the frame
    this.x = this.y = 0; // position of the frame's top left corner on the stage, in CSS pixels
    this.fitted = true;
    this.bitmap = null;
    this.overlay = null;
    this.strokes = [];
    this.live = null;
    this.pointers = new Map();
    this.brush = { colour: "#fff", background: false, ready: false };
    this.editor = null; // the Editor, which handles the pointer while a tool other than the stroke is chosen
    this.cursor = null;
    new ResizeObserver(() => this.resize()).observe(box);
    for (const [type, handler] of Object.entries({
      pointerdown: this.down, pointermove: this.move, pointerup: this.up, pointercancel: this.cancelled,
      pointerleave: this.leave, wheel: this.wheel, contextmenu: (event) => event.preventDefault(),
    })) ink.addEventListener(type, handler.bind(this), { passive: false });
  }

  open(width, height) {
    this.width = width;
    this.height = height;
    this.resize();
  }

  resize() {
    const { width, height } = this.box.getBoundingClientRect();
    this.ratio = Math.min(window.devicePixelRatio || 1, 2);
    for (const canvas of [this.view, this.ink]) {
      canvas.width = Math.max(1, Math.round(width * this.ratio));
      canvas.height = Math.max(1, Math.round(height * this.ratio));
    }
    if (this.fitted) this.fit();
    else this.redraw();
  }

  fit() {
    const { width, height } = this.box.getBoundingClientRect();
    const margin = 10;
    this.scale = Math.max(0.02, Math.min((width - 2 * margin) / this.width, (height - 2 * margin) / this.height));
    this.x = (width - this.width * this.scale) / 2;
    this.y = (height - this.height * this.scale) / 2;
    this.fitted = true;
    this.zoomed();
  }

  zoom(factor, x, y) {
    const { width, height } = this.box.getBoundingClientRect();
    x ??= width / 2;
    y ??= height / 2;
    const scale = Math.max(0.05, Math.min(CLOSEST, this.scale * factor));
    this.x = x - ((x - this.x) * scale) / this.scale;
    this.y = y - ((y - this.y) * scale) / this.scale;
    this.scale = scale;
    this.fitted = false;
    this.zoomed();
  }

  pan(dx, dy) {
    const { width, height } = this.box.getBoundingClientRect();
    const keep = 60; // CSS pixels of the frame that always stay visible
    this.x = Math.max(keep - this.width * this.scale, Math.min(width - keep, this.x + dx));
    this.y = Math.max(keep - this.height * this.scale, Math.min(height - keep, this.y + dy));
    this.fitted = false;
    this.zoomed();
  }

  zoomed() {
    this.dispatchEvent(new Event("zoom"));
    this.redraw();
  }

  // Convert the position of a pointer event to relative coordinates of the frame, which strokes consist of.
  share(event) {
    const box = this.ink.getBoundingClientRect();
    const x = (event.clientX - box.left - this.x) / (this.width * this.scale);
    const y = (event.clientY - box.top - this.y) / (this.height * this.scale);
    return [x, y];
  }

  set(bitmap, overlay, strokes) {
    this.bitmap = bitmap;
    this.overlay = overlay;
    this.strokes = strokes;
    this.redraw();
  }

  redraw() {
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => {
      this.waiting = false;
      this.paint();
    });
  }

  paint() {
    const { context: c, ratio } = this;
    c.setTransform(1, 0, 0, 1, 0, 0);
    c.clearRect(0, 0, this.view.width, this.view.height);
    c.setTransform(ratio * this.scale, 0, 0, ratio * this.scale, ratio * this.x, ratio * this.y);
    if (this.bitmap?.width) { // the width of a closed bitmap is 0; the next one is being loaded
      c.imageSmoothingEnabled = this.scale < 3;
      c.drawImage(this.bitmap, 0, 0, this.width, this.height);
    }
    if (this.overlay) {
      c.imageSmoothingEnabled = this.scale < 1;
      c.drawImage(this.overlay, 0, 0);
    }
    for (const stroke of this.strokes) this.line(c, stroke);
    this.paintInk();
    this.painted = performance.now();
  }

  // Draw a stroke in the pixels of the frame, as wide as in the network's input, or the outline of a box.
  line(c, { path, colour, background, old, box }) {
    if (box) path = [path[0], [path[1][0], path[0][1]], path[1], [path[0][0], path[1][1]], path[0]];
    const brush = box ? 2 / this.scale : BRUSH;
    c.lineCap = c.lineJoin = "round";
    c.globalAlpha = old ? 0.55 : 1;
    const rim = Math.max(1, 1.5 / this.scale);
    for (const [width, style] of [[brush + 2 * rim, background ? "#000" : "#fff"], [brush, background ? "#fff" : colour]]) {
      c.strokeStyle = style;
      c.lineWidth = width;
      c.beginPath();
      const [[x0, y0]] = path;
      c.moveTo(x0 * this.width, y0 * this.height);
      if (path.length === 1) c.lineTo(x0 * this.width + 0.01, y0 * this.height);
      for (let i = 1; i < path.length; i++) c.lineTo(path[i][0] * this.width, path[i][1] * this.height);
      c.stroke();
    }
    c.globalAlpha = 1;
  }

  paintInk() {
    const { inkContext: c, ratio } = this;
    c.setTransform(1, 0, 0, 1, 0, 0);
    c.clearRect(0, 0, this.ink.width, this.ink.height);
    c.setTransform(ratio * this.scale, 0, 0, ratio * this.scale, ratio * this.x, ratio * this.y);
    if (this.live) this.line(c, this.live);
    if (this.editor?.active) {
      this.paintEdit(c);
      return;
    }
    if (this.cursor && this.brush.ready && !this.panning) {
      const [x, y] = this.cursor;
      const radius = Math.max(BRUSH / 2, 3 / this.scale);
      c.lineWidth = 3 / this.scale;
      c.strokeStyle = "rgb(0 0 0 / .65)";
      c.beginPath();
      c.arc(x * this.width, y * this.height, radius, 0, 7);
      c.stroke();
      c.lineWidth = 1.5 / this.scale;
      c.strokeStyle = this.brush.background ? "#fff" : this.brush.colour;
      c.stroke();
      if (this.brush.background) {
        c.beginPath();
        c.moveTo(x * this.width - radius, y * this.height);
        c.lineTo(x * this.width + radius, y * this.height);
        c.stroke();
      }
    }
  }

  // Draw the pixels that the current edit covers so far, and the outline of the tool.
  paintEdit(c) {
    const { work, tool, size, canvas } = this.editor;
    const [x, y] = this.cursor ? [this.cursor[0] * this.width, this.cursor[1] * this.height] : [];
    c.imageSmoothingEnabled = false;
    if (work && (tool === "brush" || tool === "eraser")) c.drawImage(canvas, 0, 0);
    const outline = (path) => {
      for (const [width, style] of [[3, "rgb(0 0 0 / .65)"], [1.5, this.brush.background || tool === "eraser" ? "#fff" : this.brush.colour]]) {
        c.lineWidth = width / this.scale;
        c.strokeStyle = style;
        c.stroke(path);
      }
    };
    const path = new Path2D();
    if (tool === "polygon" && work) {
      work.points.forEach(([px, py], i) => (i ? path.lineTo(px, py) : path.moveTo(px, py)));
      if (this.cursor) path.lineTo(x, y);
      outline(path);
    } else if ((tool === "box" || tool === "around") && work) {
      const [[left, top]] = work.points;
      path.rect(left, top, work.last[0] - left, work.last[1] - top);
      outline(path);
    }
    if (!this.cursor || !this.brush.ready || this.panning) return;
    const mark = new Path2D();
    if (tool === "brush" || tool === "eraser") mark.arc(x, y, Math.max(size / 2, 2 / this.scale), 0, 7);
    else {
      const arm = 8 / this.scale;
      mark.moveTo(x - arm, y);
      mark.lineTo(x + arm, y);
      mark.moveTo(x, y - arm);
      mark.lineTo(x, y + arm);
    }
    outline(mark);
  }

  // Discard the unfinished stroke or edit, and return whether there was one.
  cancel() {
    const drawn = Boolean(this.live) || Boolean(this.editor?.cancel());
    this.live = null;
    this.paintInk();
    return drawn;
  }

  cancelled(event) {
    if (this.live?.pointer === event.pointerId || this.editing === event.pointerId) this.cancel();
    this.editing = null;
    this.up(event);
  }

  pixel(event) {
    const [x, y] = this.share(event);
    return [x * this.width, y * this.height];
  }

  // Pointer events: one pointer draws; two pointers, or the middle button, move the frame.

  down(event) {
    this.ink.focus({ preventScroll: true });
    this.ink.setPointerCapture(event.pointerId);
    this.pointers.set(event.pointerId, { x: event.clientX, y: event.clientY });
    if (event.pointerType === "touch" && this.pointers.size === 2) {
      this.cancel(); // the first of two fingers has begun a stroke that was not intended
      this.editing = null;
      this.panning = "pinch";
      return;
    }
    if (event.button === 1 || (event.button === 0 && (event.shiftKey || this.hand))) {
      event.preventDefault();
      this.panning = "drag";
      this.look();
      return;
    }
    const [x, y] = this.share(event);
    const outside = Math.max(-x, x - 1, -y, y - 1);
    if (this.live || this.panning || !this.brush.ready || outside > 0.02 || event.button > 2) return;
    if (this.editor?.active) {
      this.editing = this.editor.press(this.pixel(event), event.button === 2) ? event.pointerId : null;
      this.trace(event);
      return;
    }
    const background = this.brush.background || event.button === 2;
    this.live = { colour: this.brush.colour, background, path: [clamp(x, y)], pointer: event.pointerId };
    this.live.start = Date.now();
    this.dispatchEvent(new CustomEvent("press", { detail: this.live }));
    this.trace(event);
  }

  move(event) {
    const before = this.pointers.get(event.pointerId);
    const now = { x: event.clientX, y: event.clientY };
    this.cursor = event.pointerType === "touch" ? null : this.share(event);
    if (before && this.panning === "drag") this.pan(now.x - before.x, now.y - before.y);
    if (before && this.panning === "pinch") this.pinch(event.pointerId, before, now);
    if (before) this.pointers.set(event.pointerId, now);
    if (this.live && this.live.pointer === event.pointerId) {
      const fine = event.getCoalescedEvents?.() ?? [];
      for (const each of fine.length ? fine : [event]) {
        const point = clamp(...this.share(each));
        const [x, y] = this.live.path.at(-1);
        const step = Math.hypot((point[0] - x) * this.width, (point[1] - y) * this.height);
        if (step >= 0.5) this.live.path.push(point);
      }
      this.trace(event);
      return;
    }
    if (this.editor?.active && this.editing === event.pointerId) {
      const fine = event.getCoalescedEvents?.() ?? [];
      for (const each of fine.length ? fine : [event]) this.editor.move(this.pixel(each));
      this.trace(event);
      return;
    }
    if (!this.panning) this.paintInk();
  }

  trace(event) {
    this.paintInk();
    this.inkDelay = performance.now() - event.timeStamp; // measured by benchmarks/app.py
  }

  pinch(id, before, now) {
    const other = [...this.pointers].find(([key]) => key !== id)?.[1];
    if (!other) return;
    const box = this.ink.getBoundingClientRect();
    const ratio = Math.hypot(now.x - other.x, now.y - other.y) / Math.max(1, Math.hypot(before.x - other.x, before.y - other.y));
    this.pan((now.x - before.x) / 2, (now.y - before.y) / 2);
    this.zoom(ratio, (now.x + other.x) / 2 - box.left, (now.y + other.y) / 2 - box.top);
  }

  up(event) {
    this.pointers.delete(event.pointerId);
    if (this.panning && !this.pointers.size) {
      this.panning = null;
      this.look();
    }
    if (this.editing === event.pointerId) {
      this.editing = null;
      this.editor.release(this.pixel(event));
      return;
    }
    if (!this.live || this.live.pointer !== event.pointerId) return;
    const stroke = this.live;
    this.live = null;
    if (event.type === "pointerup") {
      const point = clamp(...this.share(event));
      if (stroke.path.length === 1 || point.some((value, i) => value !== stroke.path.at(-1)[i])) stroke.path.push(point);
    }
    stroke.end = Date.now();
    this.dispatchEvent(new CustomEvent("stroke", { detail: stroke }));
    this.redraw();
  }

  leave() {
    this.cursor = null;
    this.paintInk();
  }

  wheel(event) {
    event.preventDefault();
    const box = this.ink.getBoundingClientRect();
    if (event.shiftKey) this.pan(-(event.deltaX || event.deltaY), 0);
    else this.zoom(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0022)), event.clientX - box.left, event.clientY - box.top);
  }

  look() {
    this.ink.classList.toggle("pan", Boolean(this.hand));
    this.ink.classList.toggle("panning", Boolean(this.panning));
    this.ink.classList.toggle("idle", !this.brush.ready);
    this.paintInk();
  }
}

function clamp(x, y) {
  return [Math.min(1, Math.max(0, x)), Math.min(1, Math.max(0, y))];
}
