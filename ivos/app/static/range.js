// The range of frames to which the user can limit propagation, locks and operations.

const $ = (id) => document.getElementById(id);

export class Range {
  constructor(app) {
    this.app = app;
    this.from = null;
    this.to = null;
    for (const id of ["range-from", "range-to"]) $(id).addEventListener("change", () => this.read());
    const actions = {
      "range-clear": () => this.set(null, null),
      "range-run": () => app.run(true),
      "range-lock": () => this.lock(0, true),
      "range-unlock": () => this.unlock(),
      "range-lock-object": () => this.lock(app.object, true),
      "range-delete": () => this.operate("delete"),
      "range-copy": () => this.operate("copy"),
      "range-fill": () => this.fill(),
      "range-swap": () => this.swap(),
      "range-merge": () => this.merge(),
    };
    for (const [id, action] of Object.entries(actions)) $(id).addEventListener("click", action);
  }

  // The first and the last frame of the range; if no range is set, both are the current frame.
  get bounds() {
    const { frame } = this.app;
    return this.from === null ? [frame, frame] : [this.from, this.to];
  }

  set(from, to) {
    const last = this.app.count - 1;
    const inside = (value) => Math.max(0, Math.min(last, value));
    [this.from, this.to] = from === null ? [null, null] : [inside(Math.min(from, to)), inside(Math.max(from, to))];
    this.update();
  }

  begin() {
    const { frame } = this.app;
    this.set(frame, this.to === null || this.to < frame ? this.app.count - 1 : this.to);
  }

  end() {
    const { frame } = this.app;
    this.set(this.from === null || this.from > frame ? 0 : this.from, frame);
  }

  read() {
    const [from, to] = ["range-from", "range-to"].map((id) => $(id).value);
    if (from === "" && to === "") this.set(null, null);
    else this.set(Number(from || 0), Number(to === "" ? this.app.count - 1 : to));
  }

  update() {
    $("range-from").value = this.from ?? "";
    $("range-to").value = this.to ?? "";
    for (const id of ["range-from", "range-to"]) $(id).max = this.app.count - 1;
    this.app.timeline.range = this.from === null ? null : [this.from, this.to];
    this.app.timeline.draw();
    const objects = (this.app.state?.objects ?? []).filter((one) => !one.removed && one.number !== this.app.object);
    const list = $("range-other");
    const chosen = list.value;
    list.replaceChildren(...objects.map((one) => new Option(one.name, one.number)));
    if (objects.some((one) => String(one.number) === chosen)) list.value = chosen;
    for (const id of ["range-other", "range-swap", "range-merge"]) $(id).disabled = !objects.length;
    const writer = this.app.state?.role === "writer";
    for (const button of document.querySelectorAll("#range-card button")) {
      if (!["range-swap", "range-merge"].includes(button.id)) button.disabled = !writer;
    }
    $("range-what").textContent = this.from === null ? `frame ${this.app.frame}` : `frames ${this.from} to ${this.to}`;
  }

  lock(object, locked) {
    const [lo, hi] = this.bounds;
    return this.app.ask("lock", { lo, hi, object, locked });
  }

  unlock() {
    const [lo, hi] = this.bounds;
    const wanted = [0, ...this.app.state.objects.map((one) => one.number)];
    for (const object of wanted) {
      if (this.app.locks.of(object).some(([first, last]) => first <= hi && last >= lo)) this.app.ask("lock", { lo, hi, object, locked: false });
    }
  }

  async operate(kind, content = {}) {
    const [lo, hi] = this.bounds;
    const { frame, object } = this.app;
    await this.app.ask("operation", { kind, frame, lo, hi, object: ["copy", "fill"].includes(kind) ? 0 : object, ...content });
  }

  // Interpolate the masks inside the range, or between the annotated frames around the current one if no range is set.
  fill() {
    const { app } = this;
    if (this.from !== null) return this.operate("fill");
    const annotated = (app.state.annotated ?? []).flatMap(([first, last]) => [first, last]);
    const keys = [...new Set([...annotated, ...app.editedFrames(), ...app.state.rounds.map((one) => one.frame)])];
    const lo = Math.max(...keys.filter((frame) => frame < app.frame));
    const hi = Math.min(...keys.filter((frame) => frame > app.frame));
    if (!Number.isFinite(lo) || !Number.isFinite(hi)) {
      return app.toast("Go to a frame between two annotated frames, or choose a range (I, O)", "warn");
    }
    return this.operate("fill", { lo, hi });
  }

  swap() {
    return this.operate("swap", { other: Number($("range-other").value) });
  }

  merge() {
    return this.app.ask("remove_object", { number: Number($("range-other").value), into: this.app.object });
  }
}
