// The clock of a user study, which sends the times of events; ivos/app/study.py computes the durations from them.

export class StudyClock {
  constructor(app) {
    this.app = app;
    this.waitingForMasks = false;
  }

  get active() {
    return Boolean(this.app.video?.study);
  }

  send(event) {
    const { state } = this.app;
    if (!this.active || state?.satisfied || state?.role !== "writer") return;
    if (event === "masks" && !this.waitingForMasks) return;
    this.waitingForMasks = event === "run" || (this.waitingForMasks && event !== "masks");
    this.app.ask("study", { event, at: performance.timeOrigin + performance.now() });
  }
}
