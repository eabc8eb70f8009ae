// Everything around the stage: objects, rounds, buttons, banners, export, the first-use hints.

import { rgb } from "./masks.js";
import { load, save } from "./storage.js";

const $ = (id) => document.getElementById(id);
const PHASES = {
  loading: "opening the video", restoring: "the network is getting ready", idle: "ready", drawing: "ready to propagate",
  previewing: "previewing", propagating: "propagating", stopped: "stopped", failed: "failed", lost: "connection lost",
};
const COACH = [
  ["Draw a stroke inside the object,", "on a frame that shows it well. It is a hint, not an outline: a line along the middle is enough."],
  ["Carry it to all frames:", "add strokes until this frame's mask is right, then press Propagate. You can stop at any time."],
  ["Look through, correct the worst frame:", "what is missing in the object's colour, what is too much with the right button; propagate again."],
];

export class Panel {
  constructor(app) {
    this.app = app;
    this.coachDone = Number(load("coach", "0"));
    for (const button of $("styles").children) button.addEventListener("click", () => app.setStyle(button.dataset.style));
    $("opacity").addEventListener("input", () => {
      app.opacity = Number($("opacity").value);
      save("opacity", app.opacity);
      app.show();
    });
    $("show-strokes").addEventListener("change", () => {
      app.showStrokes = $("show-strokes").checked;
      save("strokes", app.showStrokes ? "yes" : "no");
      app.show();
    });
    $("export").addEventListener("click", () => this.menu($("exports").hidden));
    document.addEventListener("pointerdown", (event) => {
      if (!event.target.closest(".menu")) this.menu(false);
      if (!event.target.closest("#side, #panel")) this.side(false);
    });
    document.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && !$("exports").hidden) {
        this.menu(false);
        event.preventDefault();
      }
    }, true);
    for (const button of $("exports").querySelectorAll("button")) {
      button.addEventListener("click", () => this.export(button.dataset.format));
    }
    $("panel").addEventListener("click", () => this.side(!$("side").classList.contains("open")));
    queueMicrotask(() => this.styles());
  }

  update(state, before) {
    this.phase(state.phase, state);
    this.objects(state);
    this.rounds(state);
    this.runButton();
    const writer = state.role === "writer";
    $("undo").disabled = !writer || !(state.pending.length || state.rounds.length) || state.phase === "propagating";
    $("redo").disabled = !writer || !state.can_redo;
    $("add-object").disabled = !writer || ["propagating", "loading"].includes(state.phase);
    $("continue").hidden = !(state.phase === "stopped" && writer);
    $("doubt").hidden = !this.app.timeline.sure().length;
    $("export").disabled = state.phase === "loading" || Boolean(state.exporting);
    $("export").querySelector("span").textContent = state.exporting ? "Exporting…" : "Export";
    this.banner("reader", writer ? "" : "Another page is annotating this video. This one only looks on.", "warn", ["Take over", () => this.app.ask("take_over")]);
    this.banner("failure", state.failure, "bad", writer && state.phase === "failed" ? ["Try again", () => this.app.ask("retry")] : null);
    this.banner("notice", state.notice, "warn");
    this.banner("disk", state.saved ? "" : "The last round is not saved yet: the disk is full or read-only.", "bad");
    if (before?.phase === "propagating" && state.phase === "stopped") {
      this.app.toast("Stopped. What was reached is kept; continue, or correct another frame.");
    }
    this.coach(state);
  }

  phase(phase, state) {
    $("phase").dataset.phase = phase;
    let text = PHASES[phase] ?? phase;
    if (phase === "propagating" && this.app.done?.[1]) text = `propagating, ${this.app.done[0]} of ${this.app.done[1]}`;
    if (state?.role === "reader") text += " (looking on)";
    $("phase").querySelector("span").textContent = text;
    $("phase").title = text;
  }

  runButton() {
    const { state, done } = this.app;
    if (!state) return;
    const button = $("run");
    const running = state.phase === "propagating";
    const waits = state.pending.length > 0;
    button.classList.toggle("stop", running);
    button.disabled = state.role !== "writer" || state.satisfied || !(running || waits) || state.phase === "loading" || state.phase === "failed";
    const limit = this.app.video?.study?.rounds;
    if (!running && limit && state.rounds.length >= limit) button.disabled = true;
    const [text, key] = running ? ["Stop", "Esc"] : ["Propagate", "Enter"];
    button.querySelector("span").textContent = text;
    button.querySelector("kbd").textContent = key;
    if (running) this.phase("propagating", state);
    if (running && done?.[1]) $("progress").setAttribute("aria-valuetext", `${done[0]} of ${done[1]} frames`);
  }

  objects(state) {
    const list = $("objects");
    if (list.contains(document.activeElement) && document.activeElement.matches("input")) {
      this.mark();
      if (list.children.length === state.objects.filter((one) => !one.removed).length + 1) return;
    }
    const { app } = this;
    const items = state.objects.filter((one) => !one.removed).map((one) => {
      const item = document.createElement("li");
      item.dataset.number = one.number;
      item.classList.toggle("ghost", one.hidden);
      const colour = input("color", one.colour, `Colour of ${one.name}`);
      colour.addEventListener("change", () => app.ask("object", { number: one.number, colour: colour.value }));
      const name = input("text", one.name, "Name");
      name.className = "label";
      name.maxLength = 80;
      name.readOnly = true;
      name.addEventListener("dblclick", () => { name.readOnly = false; name.select(); });
      name.addEventListener("focus", () => { name.readOnly = state.role !== "writer"; });
      name.addEventListener("change", () => {
        if (name.value.trim()) app.ask("object", { number: one.number, name: name.value });
        else name.value = one.name;
      });
      const eye = button(one.hidden ? "hidden" : "eye", one.hidden ? `Show ${one.name}` : `Hide ${one.name}`, () => app.ask("object", { number: one.number, hidden: !one.hidden }));
      eye.classList.toggle("set", one.hidden);
      const bin = button("bin", `Remove ${one.name}`, () => {
        if (confirm(`Remove ${one.name}? Its masks are no longer shown or exported.`)) app.ask("remove_object", { number: one.number });
      });
      item.append(colour, name, eye, bin, key(one.number < 10 ? one.number : ""));
      item.addEventListener("click", (event) => { if (!event.target.closest("button")) app.choose(one.number); });
      return item;
    });
    const item = document.createElement("li");
    item.dataset.number = 0;
    const swatch = document.createElement("span");
    swatch.className = "swatch";
    const label = document.createElement("span");
    label.className = "label";
    label.innerHTML = "Background<small>or the right button</small>";
    item.append(swatch, label, key(0));
    item.addEventListener("click", () => app.choose(0));
    list.replaceChildren(...items, item);
    this.mark();
  }

  mark() {
    for (const item of $("objects").children) {
      const number = Number(item.dataset.number);
      item.classList.toggle("on", this.app.background ? number === 0 : number === this.app.object);
    }
  }

  rounds(state) {
    const { app } = this;
    const items = state.rounds.map((one, index) => {
      const item = document.createElement("li");
      const newest = index === state.rounds.length - 1;
      item.classList.toggle("newest", newest);
      const badge = document.createElement("i");
      badge.textContent = index + 1;
      const text = document.createElement("span");
      text.textContent = `frame ${one.frame}`;
      const reach = document.createElement("small");
      reach.textContent = one.reach ? `${one.reach[0]} to ${one.reach[1]}${one.status === "stopped" ? ", stopped" : ""}` : "…";
      item.append(badge, text, reach);
      item.addEventListener("click", () => app.go(one.frame));
      return item;
    });
    if (!items.length) {
      const none = document.createElement("li");
      none.className = "none";
      none.textContent = "None yet: draw, then propagate.";
      items.push(none);
    }
    $("rounds").replaceChildren(...items.reverse());
  }

  styles() {
    for (const one of $("styles").children) one.setAttribute("aria-checked", String(one.dataset.style === this.app.style));
    $("opacity").value = this.app.opacity;
    $("show-strokes").checked = this.app.showStrokes;
  }

  play(playing) {
    $("play").querySelector("use").setAttribute("href", playing ? "#i-pause" : "#i-play");
    $("play").setAttribute("aria-label", playing ? "Pause" : "Play");
  }

  side(open) {
    $("side").classList.toggle("open", open);
    $("panel").setAttribute("aria-expanded", String(open));
  }

  // A strip above the stage; without a text it goes away.
  banner(name, text = "", kind = "", action = null) {
    const old = $("banners").querySelector(`[data-name="${name}"]`);
    if (!text) {
      old?.remove();
      return;
    }
    const box = document.createElement("div");
    box.className = `banner ${kind}`;
    box.dataset.name = name;
    const span = document.createElement("span");
    span.textContent = text;
    box.append(span);
    if (action) {
      const click = document.createElement("button");
      click.textContent = action[0];
      click.addEventListener("click", action[1]);
      box.append(click);
    }
    old ? old.replaceWith(box) : $("banners").append(box);
  }

  // Export

  menu(open) {
    $("exports").hidden = !open;
    $("export").setAttribute("aria-expanded", String(open));
  }

  async export(format) {
    const answer = await fetch(`/w/${this.app.video.name}/export`, { method: "POST", body: JSON.stringify({ format }) });
    if (!answer.ok) this.app.toast((await answer.text()).replace(/^error: /, ""), "bad");
    else this.note("Writing…");
  }

  exporting(done, total) {
    this.note(`Writing ${done} of ${total}`);
  }

  note(text) {
    $("export-note").hidden = !text;
    $("export-note").textContent = text;
  }

  exported({ file, folder, warning }) {
    this.note(`Saved on the server: ${folder}/${file}`);
    this.menu(false);
    const link = document.createElement("a");
    link.href = `/w/${this.app.video.name}/exports/${encodeURIComponent(file)}`;
    link.download = file;
    if (this.app.state.role === "writer") link.click();
    const text = document.createElement("span");
    link.textContent = file;
    text.append("Exported ", link, `; on the server in ${folder}`, warning ? `. ${warning}` : "");
    this.app.toast(text, warning ? "warn" : "", warning ? 15 : 6);
  }

  // A user study

  study(options) {
    $("satisfied").hidden = false;
    $("name").textContent = `${options.participant} · ${options.sequence} (${options.position} of ${options.of})`;
    $("undo").title = "Undo (Ctrl+Z)";
    if (options.show_truth) this.goal(options);
  }

  async goal() {
    const { app } = this;
    const [width, height] = app.video.size;
    const answer = await fetch(`/w/${app.video.name}/truth`);
    if (!answer.ok) return;
    const labels = await app.masks.inflate(await answer.arrayBuffer());
    const bitmap = await app.frames.get(0);
    const canvas = $("goal-canvas");
    canvas.width = width;
    canvas.height = height;
    const context = canvas.getContext("2d");
    context.drawImage(bitmap, 0, 0);
    const image = context.getImageData(0, 0, width, height);
    const colours = new Map((app.state?.objects ?? []).map((one) => [one.number, rgb(one.colour)]));
    labels.forEach((label, i) => {
      const colour = colours.get(label);
      if (colour) colour.forEach((value, c) => { image.data[4 * i + c] = (image.data[4 * i + c] + 2 * value) / 3; });
    });
    context.putImageData(image, 0, 0);
    $("goal").hidden = false;
  }

  satisfied() {
    const { next } = this.app.video.study;
    this.banner("done", next ? "Done with this video. Take a break if you like; the clock stands still." : "Done with all videos. Thank you!", "", next ? ["Next video", () => { location.href = `/w/${next}/`; }] : null);
  }

  // Three hints for the first session, each shown until what it says was done.

  coach(state) {
    const step = state.rounds.some((one) => one.status !== "open") ? 2 : state.pending.length || state.rounds.length ? 1 : 0;
    const hidden = this.coachDone > step || state.role !== "writer";
    const box = $("coach");
    box.hidden = hidden;
    if (hidden || box.dataset.step === String(step)) return;
    box.dataset.step = step;
    const badge = document.createElement("i");
    badge.textContent = step + 1;
    const text = document.createElement("p");
    const title = document.createElement("b");
    title.textContent = COACH[step][0];
    text.append(title, COACH[step][1]);
    const keys = labelled("All keys", () => this.app.help());
    keys.className = "keys-button";
    const fine = labelled("Got it", () => {
      this.coachDone = step + 1;
      save("coach", this.coachDone);
      box.hidden = true;
    });
    box.replaceChildren(badge, text, keys, fine);
  }
}

function input(type, value, label) {
  const one = document.createElement("input");
  one.type = type;
  one.value = value;
  one.setAttribute("aria-label", label);
  one.spellcheck = false;
  return one;
}

function button(icon, label, action) {
  const one = document.createElement("button");
  one.className = "icon small";
  one.title = label;
  one.setAttribute("aria-label", label);
  one.innerHTML = `<svg><use href="#i-${icon}"/></svg>`;
  one.addEventListener("click", action);
  return one;
}

function labelled(text, action) {
  const one = document.createElement("button");
  one.textContent = text;
  one.addEventListener("click", action);
  return one;
}

function key(text) {
  const one = document.createElement("kbd");
  one.textContent = text;
  one.hidden = text === "";
  return one;
}
