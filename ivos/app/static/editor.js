// Editing of masks by hand with brush, eraser, polygon and box, and drawing of boxes as prompts for the network.
// The page changes the mask at once and sends the changed pixels as run lengths. The server writes them to its
// journal before it acknowledges them.

import { box, polygon, runs, segment } from "./raster.js";
import { load, save } from "./storage.js";

export const TOOLS = ["stroke", "around", "brush", "eraser", "polygon", "box"];
const LARGEST = 200;

export class Editor {
  constructor(app) {
    this.app = app;
    this.tool = "stroke";
    this.size = Number(load("size", "12")); // the brush's diameter in pixels of the frame
    this.number = 0;
    this.work = null; // the unfinished edit
    this.local = new Map(); // frame -> id of the latest edit on this page that the server's state does not contain yet
  }

  open(width, height) {
    this.width = width;
    this.height = height;
    this.canvas = new OffscreenCanvas(width, height);
    this.context = this.canvas.getContext("2d");
  }

  get active() {
    return this.tool !== "stroke";
  }

  choose(tool) {
    this.cancel();
    this.tool = tool;
    this.app.tools.update();
    this.app.brush();
  }

  resize(size) {
    this.size = Math.max(1, Math.min(LARGEST, Math.round(size)));
    save("size", this.size);
    this.app.tools.update();
    this.app.brush();
  }

  // The label that the tool draws. The eraser draws background, but only over the selected object.
  get label() {
    return this.tool === "eraser" || this.app.background ? 0 : this.app.object;
  }

  // Handle a press on the stage at [x, y] in pixels of the frame, and return whether an edit has begun.
  press(point, other = false) {
    if (this.tool === "polygon" && this.work) {
      this.work.points.push(point);
      this.app.stage.paintInk();
      return true;
    }
    const { app } = this;
    const frame = app.displayedFrame;
    if (this.tool === "around") {
      app.press();
      this.work = { points: [point], last: point, start: Date.now() };
      return true;
    }
    if (frame === undefined || app.locks.isLocked(frame, 0)) {
      app.toast(`Frame ${frame} is locked; unlock it first (V)`, "warn");
      return false;
    }
    const { labels, base } = app.displayedMask;
    if (!labels) return false;
    const erase = this.tool === "eraser" || (other && this.tool === "brush");
    this.work = {
      frame, base, labels, erase, object: app.object, label: erase ? 0 : this.label, points: [point],
      locked: app.locks.objectsOn(frame), set: new Uint8Array(this.width * this.height), last: point,
    };
    app.pause();
    if (app.frame !== frame) app.go(frame);
    if (this.tool === "brush" || this.tool === "eraser") this.stamp(point, point);
    return true;
  }

  move(point) {
    const { work } = this;
    if (!work) return;
    if (this.tool === "brush" || this.tool === "eraser") {
      this.stamp(work.last, point);
    }
    work.last = point;
  }

  release(point) {
    const { work } = this;
    if (!work || this.tool === "polygon") return;
    this.move(point);
    if (this.tool === "around") {
      this.around(point);
      return;
    }
    if (this.tool === "box") box(work.set, this.width, this.height, work.points[0], point);
    this.commit();
  }

  // Send a box around the selected object. A box of less than 2 pixels is ignored as an accidental click.
  around([x1, y1]) {
    const { points: [[x0, y0]], start } = this.work;
    this.cancel();
    const inside = (value, most) => Math.min(1, Math.max(0, value / most));
    if (Math.abs(x1 - x0) < 2 || Math.abs(y1 - y0) < 2) return;
    const path = [[x0, y0], [x1, y1]].map(([x, y]) => [inside(x, this.width), inside(y, this.height)]);
    this.app.drawn({ path, background: false, box: true, start, end: Date.now() });
  }

  closePolygon() {
    const { work } = this;
    if (!work || this.tool !== "polygon") return false;
    if (work.points.length > 2) {
      polygon(work.set, this.width, this.height, work.points);
      this.commit();
    } else this.cancel();
    return true;
  }

  cancel() {
    const drawn = Boolean(this.work);
    this.work = null;
    this.context?.clearRect(0, 0, this.width, this.height);
    if (drawn) this.app.stage.paintInk();
    return drawn;
  }

  // Draw a segment of the brush's path, and show the pixels that it covers.
  stamp(from, to) {
    const changed = segment(this.work.set, this.width, this.height, from, to, this.size / 2);
    if (!changed) return;
    const [left, top, right, bottom] = changed;
    const wide = right - left + 1;
    const image = this.context.createImageData(wide, bottom - top + 1);
    const pixels = new Uint32Array(image.data.buffer);
    const colour = this.work.label ? this.app.packedColour(this.work.label, 0.75) : 0xb0ffffff;
    for (let y = top; y <= bottom; y++) {
      for (let x = left; x <= right; x++) {
        if (this.work.set[y * this.width + x]) pixels[(y - top) * wide + x - left] = colour;
      }
    }
    this.context.putImageData(image, left, top);
  }

  commit() {
    const { work, app } = this;
    this.cancel();
    const { frame, base, label, erase, object, set } = work;
    const labels = work.labels.slice();
    const locked = new Set(work.locked);
    const mine = erase && !app.background ? (old) => old === object : () => true;
    let any = false;
    for (let i = 0; i < set.length; i++) {
      const old = labels[i];
      if (set[i] && old !== label && mine(old) && !locked.has(old) && !locked.has(label)) {
        labels[i] = label;
        any = true;
      } else set[i] = 0;
    }
    if (!any) {
      if (locked.size && set.length) app.show();
      return;
    }
    const pixels = runs(set);
    if (pixels.length > app.video.max_runs) {
      app.toast("This edit is too large; draw it in several parts", "warn");
      return;
    }
    const edit = { id: `${app.connection.page}-e${Date.now().toString(36)}-${++this.number}`, frame, label, runs: pixels, base };
    app.masks.putLabels(edit.id, frame, labels);
    this.local.set(frame, edit.id);
    app.connection.save("edit", edit);
    app.show();
  }

  // Return the round or the latest edit that a frame shows; an edit that the server does not know yet has priority.
  shownOn(frame) {
    return this.local.get(frame) ?? this.app.shown[frame] ?? 0;
  }

  // Forget local edits that the server has acknowledged or refused.
  settle() {
    const waiting = new Set([...this.app.connection.unsaved.values()].filter((one) => one.runs).map((one) => one.frame));
    for (const frame of [...this.local.keys()]) if (!waiting.has(frame)) this.local.delete(frame);
  }
}
