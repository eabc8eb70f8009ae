// The controls around the stage: objects, rounds, buttons, banners, export, and the hints for new users.

import { rgb } from "./masks.js";
import { load, save } from "./storage.js";

const $ = (id) => document.getElementById(id);
const PHASES = {
  loading: "opening the video", decoding: "ready to draw; the rest is being read", restoring: "the network is getting ready", idle: "ready", drawing: "ready to propagate",
  previewing: "previewing", propagating: "propagating", stopped: "stopped", failed: "failed", lost: "connection lost",
};
const COACH = [
  ["Draw a stroke inside the object,", "on a frame that shows it well. It is a prompt, not an outline: a line along the middle is enough."],
  ["Propagate the mask to all frames:", "add strokes until this frame's mask is right, then press Propagate. You can stop at any time."],
  ["Correct the worst frame:", "draw over missing parts in the object's colour, over wrong parts with the right button; propagate again."],
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
    for (const kind of ["annotated", "proposals"]) {
      $(`import-${kind}`).addEventListener("click", () => { this.importAs = kind; $("import-file").click(); });
    }
    $("import-file").addEventListener("change", () => this.import());
    $("done").addEventListener("click", () => app.markDone());
    for (const button of $("exports").querySelectorAll("button[data-format]")) {
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
    $("undo").disabled = !writer || !state.undoable;
    $("redo").disabled = !writer || !state.redoable;
    $("undo").title = state.undoable ? `Undo ${described(state.undoable)} (Ctrl+Z)` : "Undo (Ctrl+Z)";
    $("add-object").disabled = !writer || ["propagating", "loading"].includes(state.phase);
    $("continue").hidden = !(state.phase === "stopped" && writer);
    $("doubt").hidden = !this.app.timeline.sure().length;
    $("export").disabled = ["loading", "decoding"].includes(state.phase) || Boolean(state.exporting);
    $("export").querySelector("span").textContent = state.exporting ? "Exporting…" : "Export, import";
    $("done").hidden = Boolean(this.app.video.study) || !writer || !state.rounds.length;
    $("done").textContent = state.done ? "Not done" : "Done";
    this.banner("reader", writer ? "" : "Another page is annotating this video. This page is read-only.", "warn", ["Take over", () => this.app.ask("take_over")]);
    this.banner("failure", state.failure, "bad", ...(writer && state.phase === "failed" ? [["Try again", () => this.app.ask("retry")]] : []),
      ...(writer && state.can_go_on ? [["Continue without them", () => this.app.ask("retry", { leave_out: true })]] : []));
    this.banner("notice", state.notice, "warn");
    this.banner("disk", state.saved ? "" : "The last round is not saved yet: the disk is full or read-only.", "bad");
    if (before?.phase === "propagating" && state.phase === "stopped") {
      this.app.toast("Stopped. The masks computed so far are kept; continue, or correct another frame.");
    }
    this.coach(state);
  }

  phase(phase, state) {
    $("phase").dataset.phase = phase;
    let text = PHASES[phase] ?? phase;
    if (phase === "propagating" && this.app.done?.[1]) text = `propagating, ${this.app.done[0]} of ${this.app.done[1]}`;
    if (state?.role === "reader") text += " (read-only)";
    $("phase").querySelector("span").textContent = text;
    $("phase").title = text;
  }

  restoring(done, total) {
    if (this.app.state?.phase !== "restoring") return;
    $("phase").querySelector("span").textContent = `the network is getting ready, ${done} of ${total} rounds`;
  }

  runButton() {
    const { state, done } = this.app;
    if (!state) return;
    const button = $("run");
    const running = state.phase === "propagating";
    const waits = this.app.pendingFrames().length > 0 || this.app.isAnnotated(this.app.frame);
    button.classList.toggle("stop", running);
    button.disabled = state.role !== "writer" || state.satisfied || !(running || waits) || ["loading", "decoding", "failed"].includes(state.phase);
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
    const { app } = this;
    const shown = JSON.stringify([state.objects, state.role]);
    if (shown === this.shownObjects) {
      this.mark();
      return;
    }
    if (list.contains(document.activeElement) && document.activeElement.matches("input[type=text]")) {
      this.mark(); // while the user types a name, the list is not replaced
      return;
    }
    this.shownObjects = shown;
    const focused = document.activeElement?.closest?.("#objects li")?.dataset.number;
    const items = state.objects.filter((one) => !one.removed).map((one) => {
      const item = document.createElement("li");
      item.dataset.number = one.number;
      item.classList.toggle("ghost", one.hidden);
      const colour = input("color", one.colour, `Colour of ${one.name}`);
      colour.addEventListener("change", () => app.ask("object", { number: one.number, colour: colour.value }));
      const name = input("text", one.name, "Name");
      name.className = "label";
      name.maxLength = 80;
      name.setAttribute("list", "classes");
      name.readOnly = true;
      name.tabIndex = -1;
      name.addEventListener("dblclick", () => this.rename(one.number));
      name.addEventListener("blur", () => this.renamed(one, name));
      const pencil = button("pencil", `Rename ${one.name}`, () => this.rename(one.number));
      const eye = button(one.hidden ? "hidden" : "eye", one.hidden ? `Show ${one.name}` : `Hide ${one.name}`, () => app.ask("object", { number: one.number, hidden: !one.hidden }));
      eye.classList.toggle("set", one.hidden);
      const bin = button("bin", `Remove ${one.name}`, () => {
        if (confirm(`Remove ${one.name}? Its masks are no longer shown or exported.`)) app.ask("remove_object", { number: one.number });
      });
      const number = key(one.number < 10 ? one.number : "");
      item.append(choice(one.name, () => app.choose(one.number)), colour, name, pencil, eye, bin, number);
      item.addEventListener("click", (event) => { if (!event.target.closest("button, input[type=color]")) app.choose(one.number); });
      return item;
    });
    const item = document.createElement("li");
    item.dataset.number = 0;
    const swatch = document.createElement("span");
    swatch.className = "swatch";
    const label = document.createElement("span");
    label.className = "label";
    label.innerHTML = "Background<small>or the right button</small>";
    item.append(choice("Background", () => app.choose(0)), swatch, label, key(0));
    item.addEventListener("click", () => app.choose(0));
    list.replaceChildren(...items, item);
    if (focused !== undefined) list.querySelector(`li[data-number="${focused}"] .choice`)?.focus();
    this.mark();
  }

  // Let the user edit the name of an object, after a double click, F2 or a click on the pencil.
  rename(number) {
    const name = document.querySelector(`#objects li[data-number="${number}"] input.label`);
    if (!name || this.app.state.role !== "writer") return;
    this.side(true);
    name.readOnly = false;
    name.focus();
    name.select();
  }

  renamed(one, name) {
    if (name.readOnly) return;
    name.readOnly = true;
    const text = name.value.trim();
    if (text && text !== one.name) this.app.ask("object", { number: one.number, name: text });
    else name.value = one.name;
    this.shownObjects = "";
    queueMicrotask(() => this.objects(this.app.state));
  }

  mark() {
    for (const item of $("objects").children) {
      const number = Number(item.dataset.number);
      const on = this.app.background ? number === 0 : number === this.app.object;
      item.classList.toggle("on", on);
      item.querySelector(".choice").setAttribute("aria-checked", String(on));
      item.classList.toggle("locked", number > 0 && this.app.locks.has(this.app.frame, number));
    }
  }

  rounds(state) {
    const { app } = this;
    const shown = JSON.stringify(state.rounds.map((one) => [one.number, one.reach, one.status]));
    if (shown === this.shownRounds) return;
    this.shownRounds = shown;
    const items = state.rounds.map((one, index) => {
      const item = document.createElement("li");
      const newest = index === state.rounds.length - 1;
      item.classList.toggle("newest", newest);
      const badge = document.createElement("i");
      badge.textContent = index + 1;
      const text = document.createElement("span");
      text.textContent = one.kind === "propagation" ? `frame ${one.frame}` : `${one.kind}, frame ${one.frame}`;
      const reach = document.createElement("small");
      reach.textContent = one.reach ? `${one.reach[0]} to ${one.reach[1]}${one.status === "stopped" ? ", stopped" : ""}` : "…";
      const visit = document.createElement("button");
      visit.append(badge, text, reach);
      visit.addEventListener("click", () => app.go(one.frame));
      item.append(visit);
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

  // Show a banner above the stage, or remove it if the text is empty.
  banner(name, text = "", kind = "", ...actions) {
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
    for (const action of actions.filter(Boolean)) {
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
    const answer = await fetch(`/w/${this.app.video.name}/export`, { method: "POST", body: JSON.stringify({ format, object: this.app.object }) });
    if (!answer.ok) this.app.toast((await answer.text()).replace(/^error: /, ""), "bad");
    else this.note("Writing…");
  }

  async import() {
    const [file] = $("import-file").files;
    $("import-file").value = "";
    if (!file) return;
    this.note(`Importing ${file.name}`);
    const { name } = this.app.video;
    const query = new URLSearchParams({ name: file.name, frame: this.app.frame, as: this.importAs });
    const answer = await fetch(`/w/${name}/import?${query}`, { method: "POST", body: file });
    this.note("");
    this.menu(false);
    if (!answer.ok) this.app.toast((await answer.text()).replace(/^error: /, ""), "bad", 12);
    else this.app.toast(`Imported the masks of ${(await answer.json()).frames} frames`);
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

  exportFailed() {
    this.note("");
    this.menu(false);
  }

  // A user study

  study(options) {
    $("satisfied").hidden = false;
    $("name").textContent = `${options.participant} · ${options.sequence} (${options.position} of ${options.of})`;
    $("undo").title = "Undo (Ctrl+Z)";
    if (options.show_truth) this.goal(options).catch(() => this.app.toast("The goal could not be loaded", "bad"));
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
    this.banner("done", next ? "This video is done. Take a break if you like; the time is not counted." : "All videos are done. Thank you!", "", next ? ["Next video", () => { location.href = `/w/${next}/`; }] : null);
  }

  // Three hints for new users, each of which is shown until the user has done that step.

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

// Describe an action for the title of the undo button.
function described({ what, frame }) {
  return frame === undefined ? what : `${what} on frame ${frame}`;
}

// Create the radio button of an object for keyboards and screen readers; a click on the whole row also selects it.
function choice(name, action) {
  const one = document.createElement("button");
  one.className = "choice";
  one.setAttribute("role", "radio");
  one.setAttribute("aria-label", name);
  one.addEventListener("click", (event) => { event.stopPropagation(); action(); });
  return one;
}

function key(text) {
  const one = document.createElement("kbd");
  one.textContent = text;
  one.hidden = text === "";
  return one;
}
