// The page of a video. It shows the state that the server sends. Strokes and edits are shown at once and then sent.

import { Stage } from "./canvas.js";
import { Editor } from "./editor.js";
import { Frames } from "./frames.js";
import { listen, table } from "./keys.js";
import { LockedRanges } from "./locks.js";
import { Masks, Paint, rgb, unpack } from "./masks.js";
import { Panel } from "./panel.js";
import { Playback } from "./playback.js";
import { Range } from "./range.js";
import { Connection } from "./socket.js";
import { load, save } from "./storage.js";
import { StudyClock } from "./study_clock.js";
import { LOW_CONFIDENCE, Timeline } from "./timeline.js";
import { toast } from "./toasts.js";
import { Tools } from "./tools.js";

const $ = (id) => document.getElementById(id);
const NAME = location.pathname.split("/")[2];
const BASE = `/w/${NAME}`;
const STYLES = ["fill", "outline", "spot", "off"];

class App {
  constructor() {
    this.video = null;
    this.state = null; // the state of the session; the server sends only the parts that have changed
    this.rounds = new Map(); // number -> round, including undone rounds
    this.locks = new LockedRanges();
    this.annotated = []; // ranges of frames whose masks the user has set
    this.queue = []; // annotated frames to propagate from after the current round
    this.count = 0;
    this.frame = 0;
    this.shown = [];
    this.strokes = new Map();
    this.mine = new Map(); // strokes of this page that the server has not confirmed yet
    this.preview = null;
    this.object = 1;
    this.background = false;
    this.style = load("style", "fill");
    this.opacity = Number(load("opacity", "45"));
    this.showStrokes = load("strokes", "yes") === "yes";
    this.number = 0;
    this.stage = new Stage($("stage"), $("view"), $("ink"));
    this.timeline = new Timeline($("timeline"));
    this.editor = this.stage.editor = new Editor(this);
    this.panel = new Panel(this);
    this.tools = new Tools(this);
    this.range = new Range(this);
    this.playback = new Playback(this);
    this.study = new StudyClock(this);
    this.connection = new Connection(`${BASE}/ws`);
    this.listen();
    listen(this);
    table($("keys"));
    theme(load("theme", ""));
    this.tools.update();
  }

  listen() {
    const on = (type, handler) => this.connection.addEventListener(type, (event) => handler.call(this, event.detail));
    on("welcome", this.welcome);
    on("state", this.snapshot);
    on("strokes", ({ strokes }) => {
      for (const one of strokes) {
        this.strokes.set(one.id, one);
        this.mine.delete(one.id);
      }
      this.show();
    });
    on("binary", this.binary);
    on("loading", ({ ready, total }) => this.loading(ready, total));
    on("begin", () => this.progress(0, 0));
    on("end", ({ complete }) => {
      this.study.send("masks");
      if (!complete) this.queue = [];
      else if (this.queue.length) this.propagate();
    });
    on("saved", () => this.editor.settle());
    on("error", ({ message, format }) => {
      if (format) this.panel.exportFailed();
      this.toast(message, "bad");
    });
    on("refused", ({ id, edit, message }) => {
      this.mine.delete(id);
      this.toast(`The ${edit ? "edit" : "stroke"} was refused: ${message}`, "bad");
      this.editor.settle();
      this.show();
    });
    on("lost", ({ tries }) => this.lost(tries));
    on("restoring", ({ done, total }) => this.panel.restoring(done, total));
    on("exporting", ({ done, total }) => this.panel.exporting(done, total));
    on("exported", (exported) => this.panel.exported(exported));
    on("satisfied", () => this.panel.satisfied());
    this.stage.addEventListener("press", () => this.press());
    this.stage.addEventListener("stroke", (event) => this.drawn(event.detail));
    this.stage.addEventListener("zoom", () => { $("zoom-fit").textContent = `${Math.round(this.stage.scale * 100)} %`; });
    $("stage").addEventListener("dblclick", () => this.editor.closePolygon());
    this.timeline.addEventListener("seek", (event) => { this.pause(); this.go(event.detail); });
    const clicks = {
      undo: this.undo, redo: this.redo, play: () => this.playback.toggle(), run: this.runOrStop, doubt: this.leastSure, help: this.help,
      continue: this.goOn, first: () => this.go(0), last: () => this.go(this.count - 1), prev: () => this.step(-1),
      next: () => this.step(1), "zoom-in": () => this.stage.zoom(1.25), "zoom-out": () => this.stage.zoom(0.8),
      "zoom-fit": () => this.stage.fit(), "add-object": this.addObject, satisfied: this.satisfied,
      theme: () => theme(document.documentElement.dataset.theme === "dark" ? "light" : "dark", true, this),
    };
    for (const [id, action] of Object.entries(clicks)) $(id).addEventListener("click", () => action.call(this));
  }

  // Messages of the server

  welcome(video) {
    const first = !this.video || this.video.id !== video.id;
    const [width, height] = video.size;
    if (first) {
      this.frames = new Frames(`${BASE}/frames/${video.frames_id}`, width, height);
      this.masks = new Masks(`${BASE}/masks/${video.id}`, width, height);
      this.paint = new Paint(width, height);
      this.stage.open(width, height);
      this.editor.open(width, height);
      document.title = `${video.name} · ivos`;
      $("name").textContent = video.name;
    }
    this.video = video;
    this.count = this.timeline.count = Math.max(1, video.num_frames);
    $("frame-count").textContent = Math.max(0, this.count - 1);
    this.rounds.clear();
    this.shown = [];
    $("timeline").setAttribute("aria-valuemax", this.count - 1);
    this.panel.banner("lost");
    for (const one of this.connection.unsaved.values()) if (one.path) this.mine.set(one.id, one);
    this.loading(video.ready, video.num_frames);
    $("classes").replaceChildren(...(video.classes ?? []).map((name) => new Option(name)));
    if (video.study) this.panel.study(video.study);
    if (first) this.go(0);
  }

  loading(ready, total) {
    if (!this.frames) return;
    this.frames.ready = this.timeline.ready = ready;
    const text = total ? `Reading the video: ${ready} of ${total} frames` : `Reading the video: ${ready} frames`;
    $("loading").querySelector("span").textContent = text;
    if (this.frame < ready && this.displayedFrame !== this.frame) this.show();
    this.timeline.draw();
  }

  snapshot(state) {
    const before = this.state;
    state = this.state = { ...before, ...state };
    this.merge(state);
    if (!["loading", "decoding", "failed"].includes(state.phase)) this.frames.ready = this.timeline.ready = this.count;
    if (state.previewed === null) this.preview = null;
    const objects = state.objects.filter((one) => !one.removed);
    if (!objects.some((one) => one.number === this.object)) this.object = objects[0]?.number ?? 1;
    if (before && state.phase !== "propagating" && before.phase === "propagating") this.progress();
    if (state.phase === "propagating" && before?.phase !== "propagating") this.progress(0, 0);
    this.timeline.pending = new Set(state.pending.map((id) => this.strokes.get(id)?.frame).filter((t) => t !== undefined));
    this.timeline.changed();
    this.panel.update(state, before);
    this.tools.update();
    this.range.update();
    this.brush();
    this.show();
  }

  // Merge the changed rounds, frames and objects of a message into the state.
  merge(state) {
    for (const one of Array.isArray(state.rounds) ? state.rounds : []) this.rounds.set(one.number, one);
    state.rounds = [...this.rounds.values()].filter((one) => !one.undone).sort((a, b) => a.number - b.number);
    if (state.shown) {
      const [first, runs] = state.shown;
      let frame = first;
      for (const [value, count] of runs) for (let i = 0; i < count; i++) this.shown[frame++] = value;
    }
    state.shown = null;
    this.editor.settle();
    this.locks.set(state.locks ?? {});
    this.timeline.shown = this.shown;
    this.timeline.rounds = state.rounds.filter((one) => one.kind === "propagation");
    this.timeline.locked = this.locks.of(0);
    this.timeline.edited = new Set(this.editedFrames());
  }

  editedFrames() {
    const found = [...this.editor.local.keys()];
    this.shown.forEach((value, frame) => { if (typeof value === "string") found.push(frame); });
    return [...new Set(found)];
  }

  binary(buffer) {
    const mask = unpack(buffer);
    if (mask.preview) {
      this.preview = { frame: mask.frame, packed: mask.packed, number: mask.round };
    } else {
      this.masks.put(mask.round, mask.frame, mask.packed);
      if (!this.keeps(mask.frame)) this.shown[mask.frame] = mask.round;
      this.progress(mask.done, mask.total);
      this.timeline.changed();
    }
    if (mask.frame === this.frame) this.show();
  }

  // Return whether a frame keeps its mask during the open round.
  keeps(frame) {
    const source = this.rounds.get(this.openRound)?.frame;
    if (frame === source) return false;
    return typeof this.shown[frame] === "string" || this.locks.has(frame, 0)
      || (this.state?.annotated ?? []).some(([first, last]) => first <= frame && frame <= last);
  }

  get openRound() {
    return this.state?.rounds.find((one) => one.status === "open")?.number;
  }

  lost(tries) {
    this.panel.phase("lost");
    const unsaved = this.connection.unsaved.size;
    const kept = unsaved ? ` ${unsaved} unsaved stroke${unsaved > 1 ? "s are" : " is"} kept on this page until then.` : "";
    if (tries > 1) this.panel.banner("lost", `The server does not answer; trying again.${kept}`, "bad");
    if (tries === 4) {
      fetch("/sessions").then((answer) => {
        if (answer.status === 403) this.panel.banner("lost", "The server needs its token: open the address that it has printed.", "bad");
      }).catch(() => {});
    }
  }

  // Display

  go(frame) {
    this.frame = Math.max(0, Math.min(this.count - 1, frame));
    this.timeline.frame = this.frame;
    $("frame-number").textContent = this.frame;
    $("timeline").setAttribute("aria-valuenow", this.frame);
    this.timeline.draw();
    return this.show();
  }

  step(by) {
    this.pause();
    this.go(this.frame + by);
  }

  // Show the current frame. Frame and mask change together, so that the picture does not flicker. If several calls
  // wait for their data, the last one wins.
  async show() {
    if (!this.frames) return;
    const wish = (this.wish = (this.wish ?? 0) + 1);
    const frame = this.frame;
    if (frame >= this.frames.ready) return; // the frame is shown when it has been decoded
    const edited = this.editor.local.has(frame);
    const previewed = this.preview?.frame === frame && !edited ? this.preview : null;
    const round = this.editor.shownOn(frame);
    this.frames.around(frame, this.count, this.direction ?? 1);
    try {
      const labels = () => (previewed ? this.masks.inflate(previewed.packed) : this.masks.at(round, frame) ?? this.masks.get(round, frame));
      const [bitmap, mask] = await Promise.all([
        this.frames.at(frame) ?? this.frames.get(frame),
        this.style === "off" ? this.masks.none : labels(),
      ]);
      if (wish !== this.wish && this.frame !== frame && !this.playing) return;
      if (wish < (this.displayed ?? 0)) return;
      this.displayed = wish;
      this.displayedMask = this.style === "off" ? {} : { labels: mask, base: previewed ? `preview:${previewed.number}` : round };
      this.display(frame, bitmap, mask, `${previewed ? "p" + previewed.number : round}`);
    } catch (error) {
      if (this.connection.ready && wish === this.wish) this.toast(error.message.replace(/^error: /, ""), "bad");
    }
  }

  display(frame, bitmap, labels, what) {
    const options = { objects: this.state?.objects ?? [], style: this.style, opacity: this.opacity, thick: this.video.size[1] > 300 };
    const key = `${frame} ${what} ${this.style} ${this.opacity} ${options.objects.map((one) => one.colour + one.hidden + one.removed + one.merged_into)}`;
    const empty = labels === this.masks.none && this.style !== "spot";
    if (key !== this.painted && !empty) this.paint.draw(labels, options);
    this.painted = empty ? "" : key;
    const nothing = empty || (this.style === "spot" && labels === this.masks.none);
    this.stage.set(bitmap, nothing ? null : this.paint.canvas, this.strokesOn(frame));
    this.displayedFrame = frame;
    if (!$("loading").classList.contains("small")) $("loading").classList.add("small");
    $("loading").hidden = this.state !== null && !["loading", "decoding"].includes(this.state.phase);
  }

  strokesOn(frame) {
    const colours = new Map((this.state?.objects ?? []).filter((one) => !one.removed).map((one) => [one.number, one.colour]));
    const drawn = (one, old) => ({ path: one.path, background: !one.object_id, colour: colours.get(one.object_id) ?? "#888", old, box: one.box });
    const list = [];
    if (this.showStrokes) {
      for (const round of this.state?.rounds ?? []) {
        if (round.frame !== frame) continue;
        for (const id of round.strokes) if (this.strokes.has(id)) list.push(drawn(this.strokes.get(id), true));
      }
    }
    for (const id of this.state?.pending ?? []) {
      const one = this.strokes.get(id);
      if (one?.frame === frame) list.push(drawn(one, false));
    }
    for (const one of this.mine.values()) if (one.frame === frame) list.push(drawn(one, false));
    return list;
  }

  // Return the colour of an object as a 32-bit pixel of a canvas, with an opacity from 0 to 1.
  packedColour(number, opacity) {
    const [r, g, b] = rgb(this.state.objects.find((one) => one.number === number)?.colour ?? "#ffffff");
    return ((Math.round(opacity * 255) << 24) | (b << 16) | (g << 8) | r) >>> 0;
  }

  progress(done, total) {
    const bar = $("progress");
    if (done === undefined) {
      bar.classList.add("idle");
      return;
    }
    bar.classList.remove("idle");
    bar.setAttribute("aria-valuemax", total);
    bar.setAttribute("aria-valuenow", done);
    bar.firstElementChild.style.width = total ? `${(100 * done) / total}%` : "0";
    this.done = [done, total];
    this.panel.runButton();
  }

  get playing() {
    return this.playback.playing;
  }

  pause() {
    this.playback.pause();
  }

  preloadMask(frame) {
    if (frame < this.count && this.style !== "off") this.masks.get(this.shown[frame] ?? 0, frame).catch(() => {});
  }

  // Actions of the user

  press() {
    this.pause();
    this.pressed = this.displayedFrame; // a stroke belongs to the displayed frame, even if another one is being loaded
    if (this.frame !== this.displayedFrame) this.go(this.displayedFrame);
    this.study.send("press");
  }

  drawn({ path, background, start, end, box }) {
    const most = this.video.max_points;
    const every = Math.ceil(path.length / most);
    const thinned = every > 1 ? path.filter((_, i) => i % every === 0 || i === path.length - 1) : path;
    const stroke = {
      id: `${this.connection.page}-${Date.now().toString(36)}-${++this.number}`,
      frame: this.pressed ?? this.frame,
      path: thinned.map(([x, y]) => [Number(x.toFixed(6)), Number(y.toFixed(6))]),
      object_id: background ? 0 : this.object,
      start_time: start,
      end_time: end,
      ...(box ? { box } : {}),
      ...(background ? { of: this.object } : {}), // a network that accepts clicks gets a negative click for this object
    };
    this.mine.set(stroke.id, stroke);
    const from = performance.now();
    this.connection.save("stroke", stroke).then(() => { this.roundTrip = performance.now() - from; });
    this.show();
  }

  ask(type, content) {
    return this.connection.ask(type, content).catch((error) => this.toast(error.message, "bad"));
  }

  // Discard an unfinished stroke; if there is none, undo the latest action.
  async undo() {
    if (this.stage.cancel()) return;
    await this.connection.settled();
    await this.visit("undo", this.state?.undoable);
  }

  redo() {
    return this.visit("redo", this.state?.redoable);
  }

  // Undo or redo an action, and show the frame of the action if another frame is displayed.
  async visit(type, action) {
    try {
      await this.connection.ask(type);
    } catch (error) {
      this.toast(error.message, "warn");
      return;
    }
    if (action?.frame === undefined || action.frame === this.frame || action.what === "round") return;
    this.pause();
    this.go(action.frame);
    this.toast(`${type === "undo" ? "Undone" : "Redone"}: ${action.what} on frame ${action.frame}`);
  }

  // Return the frames with strokes or edits that were not propagated; the displayed frame comes first.
  pendingFrames() {
    const strokes = (this.state?.pending ?? []).map((id) => this.strokes.get(id)?.frame);
    const drawn = [...this.mine.values()].map((one) => one.frame);
    const all = new Set([...strokes, ...drawn, ...this.editedFrames()].filter((frame) => frame !== undefined));
    return [...all].sort((a, b) => (b === this.frame) - (a === this.frame) || a - b);
  }

  isAnnotated(frame) {
    return (this.state?.annotated ?? []).some(([first, last]) => first <= frame && frame <= last);
  }

  async run(limited = false) {
    if (!this.state || this.state.role !== "writer") return;
    if (this.editor.closePolygon()) return;
    if (this.state.phase === "propagating") return;
    let frames = this.pendingFrames();
    if (limited) frames = frames.filter((frame) => frame === this.frame);
    const here = this.isAnnotated(this.frame) || this.locks.has(this.frame, 0);
    if (!frames.length && here) frames = [this.frame];
    if (!frames.length && this.state.phase === "stopped" && !limited) {
      this.goOn();
      return;
    }
    if (!frames.length) {
      this.toast("First draw a stroke on an object or on an error of its mask, or edit the mask", "warn");
      return;
    }
    if (frames.length > 1) this.toast(`Frames ${frames.join(", ")} are propagated one after the other`);
    this.limited = limited;
    this.queue = frames;
    this.study.send("run");
    await this.connection.settled(); // wait until the server has the latest strokes and edits
    return this.propagate();
  }

  // Propagate from the next frame of the queue.
  propagate() {
    const frame = this.queue.shift();
    const [lo, hi] = this.range.bounds;
    const limits = this.limited && this.range.from !== null ? { lo: Math.min(lo, frame), hi: Math.max(hi, frame) } : {};
    return this.ask("propagate", { frame, ...limits });
  }

  runOrStop() {
    this.state?.phase === "propagating" ? this.stop() : this.run();
  }

  goOn() {
    this.study.send("run");
    this.ask("continue");
  }

  // Discard an unfinished stroke or edit; if there is none, stop the propagation (Esc).
  stop() {
    if (this.stage.cancel()) return;
    this.queue = [];
    if (this.state?.phase === "propagating") this.ask("stop");
    else this.pause();
  }

  space() {
    if (this.study.active) {
      this.pause();
      this.study.send("space");
    } else this.playback.toggle();
  }

  satisfied() {
    this.study.send("satisfied");
  }

  annotated(way) {
    const frames = [...new Set([...this.state.rounds.map((one) => one.frame), ...this.timeline.pending, ...this.timeline.edited])].sort((a, b) => a - b);
    const found = way < 0 ? frames.filter((t) => t < this.frame).at(-1) : frames.find((t) => t > this.frame);
    if (found !== undefined) {
      this.pause();
      this.go(found);
    }
  }

  leastSure() {
    const all = this.timeline.sure().filter(([frame]) => !this.state.rounds.some((one) => one.frame === frame));
    const low = all.filter(([, share]) => share < LOW_CONFIDENCE);
    const list = low.length ? low : all.slice(0, 1);
    if (!list.length) {
      this.toast("Propagate first; the network's confidence is known only afterwards", "warn");
      return;
    }
    const at = list.findIndex(([frame]) => frame === this.frame);
    this.pause();
    this.go(list[(at + 1) % list.length][0]);
  }

  choose(number) {
    if (number && !this.state?.objects.some((one) => one.number === number && !one.removed)) return;
    this.background = number === 0;
    if (number) this.object = number;
    this.brush();
    this.panel.objects(this.state);
  }

  // Select the previous or the next object; keys 1 to 9 select only the first nine objects.
  neighbour(step) {
    const numbers = this.state.objects.filter((one) => !one.removed).map((one) => one.number);
    const at = numbers.indexOf(this.object);
    this.choose(numbers[(at + step + numbers.length) % numbers.length]);
  }

  lockFrame() {
    return this.ask("lock", { lo: this.frame, hi: this.frame, object: 0, locked: !this.locks.has(this.frame, 0) });
  }

  lockObject() {
    const { frame, object } = this;
    return this.ask("lock", { lo: frame, hi: frame, object, locked: !this.locks.has(frame, object) });
  }

  // Copy the mask of this frame to the next frame, and show that frame.
  async copyToNext() {
    const next = this.frame + 1;
    if (next >= this.count) return;
    await this.connection.settled();
    await this.ask("operation", { kind: "copy", frame: this.frame, lo: next, hi: next, object: 0 });
    this.go(next);
  }

  deleteHere() {
    return this.range.operate("delete");
  }

  // Mark the video as done, and go to the next video that is not done; or mark it as not done.
  async markDone() {
    const done = !this.state.done;
    await this.ask("done", { done });
    if (done) this.nextVideo();
  }

  async nextVideo() {
    const sessions = await (await fetch("/sessions")).json();
    const here = sessions.findIndex((one) => one.name === this.video.name);
    const next = [...sessions.slice(here + 1), ...sessions.slice(0, here)].find((one) => !one.done);
    if (next) location.href = `/w/${next.name}/`;
    else this.toast(sessions.length > 1 ? "All videos are done" : "This is the only video");
  }

  rename() {
    this.panel.rename(this.object);
  }

  swap() {
    this.choose(this.background ? this.object : 0);
  }

  addObject() {
    const number = Math.max(0, ...this.state.objects.map((one) => one.number)) + 1;
    this.ask("add_object", { name: "" }).then(() => this.choose(number));
  }

  hide() {
    const one = this.state.objects.find((each) => each.number === this.object);
    if (one) this.ask("object", { number: one.number, hidden: !one.hidden });
  }

  nextStyle() {
    this.setStyle(STYLES[(STYLES.indexOf(this.style) + 1) % STYLES.length]);
  }

  setStyle(style) {
    this.style = style;
    save("style", style);
    this.panel.styles();
    this.show();
  }

  brush() {
    const one = this.state?.objects.find((each) => each.number === this.object);
    const ready = this.state?.role === "writer" && !["loading"].includes(this.state.phase) && !this.state.satisfied;
    const area = this.editor.tool;
    $("stage").dataset.tool = area;
    this.stage.brush = { colour: one?.colour ?? "#fff", background: this.background, ready };
    this.stage.look();
    const tool = $("tool");
    tool.hidden = !ready;
    const name = document.createElement("span");
    name.textContent = this.editor.tool === "eraser" ? `Erase ${one?.name ?? ""}` : this.background ? "Background" : one?.name ?? "";
    tool.replaceChildren(document.createElement("i"), name);
    tool.firstChild.style.background = this.background ? "#000" : one?.colour ?? "#fff";
  }

  help() {
    this.pause();
    $("help-dialog").showModal();
  }

  toast(text, kind, seconds) {
    toast(text, kind, seconds);
  }
}

function theme(chosen, remember = false, app = null) {
  const dark = chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  document.documentElement.dataset.theme = dark ? "dark" : "light";
  if (remember) save("theme", chosen);
  app?.timeline.draw();
}

window.app = new App();
