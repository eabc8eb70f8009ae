// The page: what is shown follows the server's snapshots; what is drawn is drawn here first.

import { Stage } from "./canvas.js";
import { Frames } from "./frames.js";
import { listen, table } from "./keys.js";
import { Masks, Paint, unpack } from "./masks.js";
import { Panel } from "./panel.js";
import { Playback } from "./playback.js";
import { Connection } from "./socket.js";
import { load, save } from "./storage.js";
import { StudyClock } from "./study_clock.js";
import { LOW_CONFIDENCE, Timeline } from "./timeline.js";
import { toast } from "./toasts.js";

const $ = (id) => document.getElementById(id);
const NAME = location.pathname.split("/")[2];
const BASE = `/w/${NAME}`;
const STYLES = ["fill", "outline", "spot", "off"];

class App {
  constructor() {
    this.video = null;
    this.state = null;
    this.count = 0;
    this.frame = 0;
    this.shown = [];
    this.strokes = new Map();
    this.mine = new Map(); // strokes drawn here that the server has not exported of yet
    this.preview = null;
    this.object = 1;
    this.background = false;
    this.style = load("style", "fill");
    this.opacity = Number(load("opacity", "45"));
    this.showStrokes = load("strokes", "yes") === "yes";
    this.number = 0;
    this.stage = new Stage($("stage"), $("view"), $("ink"));
    this.timeline = new Timeline($("timeline"));
    this.panel = new Panel(this);
    this.playback = new Playback(this);
    this.study = new StudyClock(this);
    this.connection = new Connection(`${BASE}/ws`);
    this.listen();
    listen(this);
    table($("keys"));
    theme(load("theme", ""));
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
    on("end", () => {
      this.study.send("masks");
    });
    on("error", ({ message }) => this.toast(message, "bad"));
    on("refused", ({ id, message }) => {
      this.mine.delete(id);
      this.toast(`the stroke was not taken: ${message}`, "bad");
      this.show();
    });
    on("lost", ({ tries }) => this.lost(tries));
    on("exporting", ({ done, total }) => this.panel.exporting(done, total));
    on("exported", (exported) => this.panel.exported(exported));
    on("satisfied", () => this.panel.satisfied());
    this.stage.addEventListener("press", () => this.press());
    this.stage.addEventListener("stroke", (event) => this.drawn(event.detail));
    this.stage.addEventListener("zoom", () => { $("zoom-fit").textContent = `${Math.round(this.stage.scale * 100)} %`; });
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
      document.title = `${video.name} · ivos`;
      $("name").textContent = video.name;
    }
    this.video = video;
    this.count = this.timeline.count = Math.max(1, video.num_frames);
    $("frame-count").textContent = Math.max(0, this.count - 1);
    $("timeline").setAttribute("aria-valuemax", this.count - 1);
    this.panel.banner("lost");
    for (const stroke of this.connection.unsaved.values()) this.mine.set(stroke.id, stroke);
    this.loading(video.ready, video.num_frames);
    if (video.study) this.panel.study(video.study);
    if (first) this.go(0);
  }

  loading(ready, total) {
    if (!this.frames) return;
    this.frames.ready = this.timeline.ready = ready;
    const text = total ? `Reading the video: ${ready} of ${total} frames` : `Reading the video: ${ready} frames`;
    $("loading").querySelector("span").textContent = text;
    if (ready && !this.stage.bitmap) this.show();
    this.timeline.draw();
  }

  snapshot(state) {
    const before = this.state;
    this.state = state;
    this.shown = state.shown.flatMap(([round, count]) => Array(count).fill(round));
    this.timeline.shown = this.shown;
    this.timeline.rounds = state.rounds;
    if (state.phase !== "loading") this.frames.ready = this.timeline.ready = this.count;
    if (state.previewed === null) this.preview = null;
    const objects = state.objects.filter((one) => !one.removed);
    if (!objects.some((one) => one.number === this.object)) this.object = objects[0]?.number ?? 1;
    if (before && state.phase !== "propagating" && before.phase === "propagating") this.progress();
    if (state.phase === "propagating" && before?.phase !== "propagating") this.progress(0, 0);
    this.timeline.pending = new Set(state.pending.map((id) => this.strokes.get(id)?.frame).filter((t) => t !== undefined));
    this.timeline.draw();
    this.panel.update(state, before);
    this.brush();
    this.show();
  }

  binary(buffer) {
    const mask = unpack(buffer);
    if (mask.preview) {
      this.preview = { frame: mask.frame, packed: mask.packed };
      this.previewed = performance.now();
    } else {
      this.masks.put(mask.round, mask.frame, mask.packed);
      this.shown[mask.frame] = mask.round;
      this.progress(mask.done, mask.total);
      this.timeline.draw();
    }
    if (mask.frame === this.frame) this.show();
  }

  lost(tries) {
    this.panel.phase("lost");
    const unsaved = this.connection.unsaved.size;
    const kept = unsaved ? ` ${unsaved} stroke${unsaved > 1 ? "s" : ""} kept here until then.` : "";
    if (tries > 1) this.panel.banner("lost", `The server does not answer; trying again.${kept}`, "bad");
    if (tries === 4) {
      fetch("/sessions").then((answer) => {
        if (answer.status === 403) this.panel.banner("lost", "The server asks for its token: open the address that it has printed.", "bad");
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

  // Frame and mask change together, or the picture would flicker; of several wishes the last wins.
  async show() {
    if (!this.frames) return;
    const wish = (this.wish = (this.wish ?? 0) + 1);
    const frame = this.frame;
    if (frame >= this.frames.ready) return; // it is shown when it is there
    const previewed = this.preview?.frame === frame ? this.preview : null;
    const round = this.shown[frame] ?? 0;
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
      this.display(frame, bitmap, mask, `${previewed ? "p" + this.previewed : round}`);
    } catch (error) {
      if (this.connection.ready && wish === this.wish) this.toast(error.message.replace(/^error: /, ""), "bad");
    }
  }

  display(frame, bitmap, labels, what) {
    const options = { objects: this.state?.objects ?? [], style: this.style, opacity: this.opacity, thick: this.video.size[1] > 300 };
    const key = `${frame} ${what} ${this.style} ${this.opacity} ${options.objects.map((one) => one.colour + one.hidden + one.removed)}`;
    const empty = labels === this.masks.none && this.style !== "spot";
    if (key !== this.painted && !empty) this.paint.draw(labels, options);
    this.painted = empty ? "" : key;
    const nothing = empty || (this.style === "spot" && labels === this.masks.none);
    this.stage.set(bitmap, nothing ? null : this.paint.canvas, this.strokesOn(frame));
    this.displayedFrame = frame;
    if (!$("loading").classList.contains("small")) $("loading").classList.add("small");
    $("loading").hidden = this.state !== null && this.state.phase !== "loading";
  }

  strokesOn(frame) {
    const colours = new Map((this.state?.objects ?? []).filter((one) => !one.removed).map((one) => [one.number, one.colour]));
    const drawn = (one, old) => ({ path: one.path, background: !one.object_id, colour: colours.get(one.object_id) ?? "#888", old });
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

  // What the user does

  press() {
    this.pause();
    this.pressed = this.frame; // a stroke belongs to the frame it was begun on
    this.study.send("press");
  }

  drawn({ path, background, start, end }) {
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
    };
    this.mine.set(stroke.id, stroke);
    const from = performance.now();
    this.connection.stroke(stroke).then(() => { this.roundTrip = performance.now() - from; });
    this.show();
  }

  ask(type, content) {
    return this.connection.ask(type, content).catch((error) => this.toast(error.message, "bad"));
  }

  undo() {
    this.ask("undo");
  }

  redo() {
    this.ask("redo");
  }

  pendingFrame() {
    const pending = (this.state?.pending ?? []).map((id) => this.strokes.get(id)?.frame);
    return pending.includes(this.frame) ? this.frame : pending.at(-1);
  }

  run() {
    if (!this.state || this.state.role !== "writer") return;
    const frame = this.pendingFrame();
    if (this.state.phase === "propagating") return;
    if (frame !== undefined) {
      this.study.send("run");
      this.ask("propagate", { frame });
    } else if (this.state.phase === "stopped") this.goOn();
    else this.toast("Draw a stroke first: on an object, or on what is wrong", "warn");
  }

  runOrStop() {
    this.state?.phase === "propagating" ? this.stop() : this.run();
  }

  goOn() {
    this.study.send("run");
    this.ask("continue");
  }

  stop() {
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
    const frames = [...new Set([...this.state.rounds.map((one) => one.frame), ...this.timeline.pending])].sort((a, b) => a - b);
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
      this.toast("Propagate first: then the network says what it is least sure of", "warn");
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
    this.stage.brush = { colour: one?.colour ?? "#fff", background: this.background, ready };
    this.stage.look();
    const tool = $("tool");
    tool.hidden = !ready;
    const name = document.createElement("span");
    name.textContent = this.background ? "Background" : one?.name ?? "";
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
