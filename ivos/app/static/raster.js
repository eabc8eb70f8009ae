// Rasterisation of brush strokes, polygons and boxes. A set of pixels is a Uint8Array of the frame's size, which is 1
// at the pixels of the set.

// Set the pixels whose centres are within `radius` of the segment; the pixels at its ends are always set.
// Points are in pixels of the frame. Returns the box [left, top, right, bottom] that may have changed, or null.
export function segment(set, width, height, [x0, y0], [x1, y1], radius) {
  const left = Math.max(0, Math.floor(Math.min(x0, x1) - radius));
  const right = Math.min(width - 1, Math.ceil(Math.max(x0, x1) + radius));
  const top = Math.max(0, Math.floor(Math.min(y0, y1) - radius));
  const bottom = Math.min(height - 1, Math.ceil(Math.max(y0, y1) + radius));
  if (left > right || top > bottom) return null;
  const dx = x1 - x0;
  const dy = y1 - y0;
  const length = dx * dx + dy * dy;
  const limit = radius * radius;
  for (let y = top; y <= bottom; y++) {
    for (let x = left; x <= right; x++) {
      const px = x + 0.5 - x0;
      const py = y + 0.5 - y0;
      const t = length ? Math.max(0, Math.min(1, (px * dx + py * dy) / length)) : 0;
      const ex = px - t * dx;
      const ey = py - t * dy;
      if (ex * ex + ey * ey <= limit) set[y * width + x] = 1;
    }
  }
  for (const [x, y] of [[x0, y0], [x1, y1]]) {
    const column = Math.floor(x);
    const row = Math.floor(y);
    if (column >= 0 && column < width && row >= 0 && row < height) set[row * width + column] = 1;
  }
  return [left, top, right, bottom];
}

// Set the pixels whose centres are inside a polygon (even-odd rule).
export function polygon(set, width, height, points) {
  for (let row = 0; row < height; row++) {
    const y = row + 0.5;
    const crossings = [];
    for (let i = 0; i < points.length; i++) {
      const [x0, y0] = points[i];
      const [x1, y1] = points[(i + 1) % points.length];
      if ((y0 <= y) !== (y1 <= y)) crossings.push(x0 + ((y - y0) * (x1 - x0)) / (y1 - y0));
    }
    crossings.sort((a, b) => a - b);
    for (let i = 0; i + 1 < crossings.length; i += 2) {
      const from = Math.max(0, Math.ceil(crossings[i] - 0.5));
      const to = Math.min(width - 1, Math.ceil(crossings[i + 1] - 0.5) - 1);
      for (let x = from; x <= to; x++) set[row * width + x] = 1;
    }
  }
}

export function box(set, width, height, [x0, y0], [x1, y1]) {
  const left = Math.max(0, Math.floor(Math.min(x0, x1)));
  const right = Math.min(width - 1, Math.ceil(Math.max(x0, x1)) - 1);
  const top = Math.max(0, Math.floor(Math.min(y0, y1)));
  const bottom = Math.min(height - 1, Math.ceil(Math.max(y0, y1)) - 1);
  for (let y = top; y <= bottom; y++) set.fill(1, y * width + left, y * width + Math.max(left, right) + 1);
}

// Return alternating numbers of pixels outside and inside the set, row by row.
export function runs(set) {
  const found = [];
  let from = 0;
  let i = set.indexOf(1);
  while (i >= 0) {
    let end = set.indexOf(0, i);
    if (end < 0) end = set.length;
    found.push(i - from, end - i);
    from = end;
    i = set.indexOf(1, end);
  }
  return found;
}
