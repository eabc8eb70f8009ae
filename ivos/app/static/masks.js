// A cache of masks, which are kept compressed and decompressed for display, and the colouring of labels.

const HEADER = 24; // bytes of the header of a binary message
const DECODED = 64e6; // most bytes of decompressed labels in memory
const PACKED = 64e6; // most bytes of compressed masks in memory

export function unpack(buffer) {
  const view = new DataView(buffer);
  if (view.getUint8(0) !== 1) throw new Error("the page is older than the server; reload it");
  return {
    preview: view.getUint8(1) === 1,
    round: view.getUint32(4, true), // number of the round, or of the preview
    frame: view.getUint32(8, true),
    done: view.getUint32(12, true),
    total: view.getUint32(16, true),
    packed: buffer.slice(HEADER),
  };
}

async function inflate(packed, length) {
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate-raw"));
  const labels = new Uint8Array(await new Response(stream).arrayBuffer());
  if (labels.length !== length) throw new Error("the size of the mask differs from the size of the frame");
  return labels;
}

export class Masks {
  constructor(base, width, height) {
    this.base = base;
    this.width = width;
    this.height = height;
    this.packed = new Map(); // "round/frame" -> ArrayBuffer
    this.labels = new Map(); // "round/frame" -> Uint8Array, the most recently used last
    this.asked = new Map();
    this.none = new Uint8Array(width * height);
  }

  put(round, frame, packed) {
    this.keepPacked(`${round}/${frame}`, packed);
  }

  // Add the labels after an edit on this page.
  putLabels(shown, frame, labels) {
    this.labels.set(`${shown}/${frame}`, labels);
    this.trim();
  }

  keepPacked(key, packed) {
    this.size = (this.size ?? 0) + packed.byteLength - (this.packed.get(key)?.byteLength ?? 0);
    this.packed.delete(key);
    this.packed.set(key, packed);
    while (this.size > PACKED && this.packed.size > 1) {
      const [oldest, old] = this.packed.entries().next().value;
      this.packed.delete(oldest);
      this.size -= old.byteLength;
    }
  }

  trim() {
    while (this.labels.size * this.width * this.height > DECODED && this.labels.size > 8) {
      this.labels.delete(this.labels.keys().next().value);
    }
  }

  at(round, frame) {
    return round ? this.labels.get(`${round}/${frame}`) : this.none;
  }

  async get(round, frame) {
    if (!round) return this.none;
    const key = `${round}/${frame}`;
    const there = this.labels.get(key);
    if (there) {
      this.labels.delete(key);
      this.labels.set(key, there);
      return there;
    }
    if (!this.asked.has(key)) {
      this.asked.set(key, this.load(key).finally(() => this.asked.delete(key)));
    }
    return this.asked.get(key);
  }

  async load(key) {
    let packed = this.packed.get(key);
    if (!packed) {
      const answer = await fetch(`${this.base}/${key}`);
      if (!answer.ok) throw new Error(await answer.text());
      packed = await answer.arrayBuffer();
      this.keepPacked(key, packed);
    }
    const labels = await inflate(packed, this.width * this.height);
    this.labels.set(key, labels);
    this.trim();
    return labels;
  }

  inflate(packed) {
    return inflate(packed, this.width * this.height);
  }
}

export function rgb(colour) {
  return [1, 3, 5].map((i) => parseInt(colour.slice(i, i + 2), 16));
}

// Replace the labels of merged objects by those of the objects that they were merged into.
function merged(labels, objects) {
  const into = new Map(objects.filter((one) => one.removed && one.merged_into).map((one) => [one.number, one]));
  if (!into.size) return labels;
  const table = Uint8Array.from({ length: 256 }, (_, number) => {
    for (let i = 0; i < 256 && into.has(number); i++) number = into.get(number).merged_into;
    return number;
  });
  return labels.map((label) => table[label]);
}

// Painting of coloured labels on a canvas of the frame's size.
export class Paint {
  constructor(width, height) {
    this.canvas = new OffscreenCanvas(width, height);
    this.context = this.canvas.getContext("2d", { willReadFrequently: true });
    this.image = this.context.createImageData(width, height);
    this.pixels = new Uint32Array(this.image.data.buffer);
    this.width = width;
  }

  draw(labels, { objects, style, opacity, thick }) {
    const fill = new Uint32Array(256);
    const edge = new Uint32Array(256);
    const shown = new Uint8Array(256);
    labels = merged(labels, objects);
    for (const one of objects) {
      if (one.removed || one.hidden) continue;
      const [r, g, b] = rgb(one.colour);
      const colour = (b << 16) | (g << 8) | r;
      fill[one.number] = style === "fill" ? ((Math.round(opacity * 2.55) << 24) | colour) >>> 0 : 0;
      edge[one.number] = style === "spot" ? 0 : (0xff000000 | colour) >>> 0;
      shown[one.number] = 1;
    }
    if (style === "spot") {
      const dark = (Math.round(Math.max(opacity, 30) * 2.3) << 24) >>> 0;
      for (let i = 0; i < 256; i++) fill[i] = shown[i] ? 0 : dark;
    }
    const { pixels, width } = this;
    const length = pixels.length;
    let last = 0;
    let any = false;
    for (let i = 0; i < length; i++) {
      const label = labels[i];
      pixels[i] = fill[label];
      if (label !== last && i % width) {
        if (shown[label]) { pixels[i] = edge[label] || fill[label]; any = true; }
        else if (shown[last]) { pixels[i - 1] = edge[last] || fill[last]; any = true; }
      }
      last = label;
    }
    if (style !== "spot") this.vertical(labels, shown, edge, thick);
    this.context.putImageData(this.image, 0, 0);
    return any;
  }

  vertical(labels, shown, edge, thick) {
    const { pixels, width } = this;
    for (let i = width; i < pixels.length; i++) {
      const here = labels[i];
      const above = labels[i - width];
      if (here !== above) {
        if (shown[here]) {
          pixels[i] = edge[here];
          if (thick && i + width < pixels.length && labels[i + width] === here) pixels[i + width] = edge[here];
        }
        if (shown[above]) {
          pixels[i - width] = edge[above];
          if (thick && i >= 2 * width && labels[i - 2 * width] === above) pixels[i - 2 * width] = edge[above];
        }
      }
      if (thick && i % width > 1 && here !== labels[i - 1]) {
        if (shown[here] && labels[i + 1] === here) pixels[i + 1] = edge[here];
        if (shown[labels[i - 1]] && labels[i - 2] === labels[i - 1]) pixels[i - 2] = edge[labels[i - 1]];
      }
    }
  }
}
