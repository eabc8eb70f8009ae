// A cache of frames as bitmaps. The frame that was requested last is loaded first, with few requests at a time.

const ROOM = 480e6; // most bytes of bitmaps in memory
const AT_ONCE = 5; // most simultaneous requests

export class Frames {
  constructor(base, width, height) {
    this.base = base;
    this.most = Math.max(12, Math.min(300, Math.floor(ROOM / (width * height * 4))));
    this.bitmaps = new Map(); // frame -> ImageBitmap, the most recently used last
    this.asked = new Map(); // frame -> promise of its bitmap, while it is being loaded
    this.wishes = []; // frames to preload, the most important first
    this.running = 0;
    this.ready = 0; // number of frames that the server has decoded
  }

  // Return the bitmap of a frame if it is in memory, and mark it as the most recently used.
  at(frame) {
    const there = this.bitmaps.get(frame);
    if (there) {
      this.bitmaps.delete(frame);
      this.bitmaps.set(frame, there);
    }
    return there;
  }

  async get(frame) {
    const there = this.at(frame);
    if (there) return there;
    if (!this.asked.has(frame)) {
      this.asked.set(frame, this.load(frame).finally(() => this.asked.delete(frame)));
    }
    return this.asked.get(frame);
  }

  async load(frame) {
    this.running += 1;
    try {
      const answer = await fetch(`${this.base}/${frame}.jpg`);
      if (!answer.ok) throw new Error(await answer.text());
      const bitmap = await createImageBitmap(await answer.blob());
      this.bitmaps.set(frame, bitmap);
      while (this.bitmaps.size > this.most) {
        const [oldest, old] = this.bitmaps.entries().next().value;
        this.bitmaps.delete(oldest);
        old.close();
      }
      return bitmap;
    } finally {
      this.running -= 1;
      this.pump();
    }
  }

  // Preload the frames around a frame, more of them in the direction of play.
  around(frame, count, ahead = 1) {
    const reach = Math.min(this.most - AT_ONCE - 2, 52); // small enough that the shown frame stays in the cache
    const wishes = [];
    for (let i = 1; wishes.length < reach; i++) {
      wishes.push(frame + i * ahead);
      if (i % 3 === 0) wishes.push(frame - (i / 3) * ahead);
    }
    this.wishes = wishes.filter((t) => t >= 0 && t < count && t < this.ready);
    this.pump();
  }

  pump() {
    while (this.running < AT_ONCE && this.wishes.length) {
      const frame = this.wishes.shift();
      if (!this.bitmaps.has(frame) && !this.asked.has(frame)) this.get(frame).catch(() => {});
    }
  }
}
