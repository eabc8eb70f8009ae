// Playback without skipped frames; a frame that is loaded late delays the frames after it.

export class Playback {
  constructor(app) {
    this.app = app;
    this.playing = false;
    this.last = null; // start time and number of frames of the latest playback, for benchmarks/app.py
  }

  toggle() {
    this.playing ? this.pause() : this.start();
  }

  async start() {
    const { app } = this;
    if (this.playing || app.count < 2) return;
    this.playing = true;
    app.panel.play(true);
    if (app.frame >= app.count - 1) await app.go(0);
    let due = performance.now();
    this.last = { from: due, frames: 0 };
    while (this.playing) {
      const next = app.frame + 1;
      if (next >= app.count) break;
      due = Math.max(due + 1000 * this.duration(app.frame), performance.now() - 100);
      for (let ahead = 1; ahead <= 3; ahead++) app.preloadMask(app.frame + ahead);
      const wait = due - performance.now();
      if (wait > 2) await new Promise((done) => setTimeout(done, wait - 1));
      if (!this.playing) break;
      await app.go(next);
      this.last.frames += 1;
    }
    this.pause();
  }

  // Return the seconds for which a frame is shown.
  duration(frame) {
    const { times, rate } = this.app.video;
    return times.length ? times[frame + 1] - times[frame] : 1 / rate;
  }

  pause() {
    this.playing = false;
    this.app.panel.play(false);
  }
}
