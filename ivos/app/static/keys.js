// Keyboard shortcuts: one table for the handling of the keys and for the help dialog.

export const KEYS = [
  { keys: ["Enter", "p"], show: "Enter", what: "propagate; continue a stopped round", run: (a) => a.run() },
  { keys: ["Escape"], show: "Esc", what: "discard an unfinished stroke; stop the propagation", run: (a) => a.stop() },
  { keys: [" "], show: "Space", what: "play or pause", run: (a) => a.space() },
  { keys: ["ArrowLeft", ","], show: "← →", what: "one frame back, forward (Shift: ten frames)", run: (a, e) => a.step(e.shiftKey ? -10 : -1) },
  { keys: ["ArrowRight", "."], run: (a, e) => a.step(e.shiftKey ? 10 : 1) },
  { keys: ["Home"], show: "Home, End", what: "first, last frame", run: (a) => a.go(0) },
  { keys: ["End"], run: (a) => a.go(a.count - 1) },
  { keys: ["ArrowUp", "["], show: "↑ ↓", what: "previous, next annotated frame", run: (a) => a.annotated(-1) },
  { keys: ["ArrowDown", "]"], run: (a) => a.annotated(1) },
  { keys: ["n"], show: "N", what: "the frame with the lowest confidence of the network, then the next", run: (a) => a.leastSure() },
  { keys: ["z"], ctrl: true, show: "Ctrl Z", what: "undo the latest action", run: (a, e) => (e.shiftKey ? a.redo() : a.undo()) },
  { keys: ["y"], ctrl: true, show: "Ctrl Shift Z", what: "redo", run: (a) => a.redo() },
  { keys: ["1", "2", "3", "4", "5", "6", "7", "8", "9"], show: "1 … 9", what: "draw for this object", run: (a, e) => a.choose(Number(e.key)) },
  { keys: ["0", "b"], show: "0 or B", what: "draw background", run: (a) => a.choose(0) },
  { keys: ["x"], show: "X", what: "switch between object and background", run: (a) => a.swap() },
  { show: "right button", what: "draw background once" },
  { keys: ["s"], show: "S", what: "tool: stroke, a prompt for the network (a click is a point)", run: (a) => a.editor.choose("stroke") },
  { keys: ["t"], show: "T", what: "tool: box around an object, a prompt for the network", run: (a) => a.editor.choose("around") },
  { keys: ["d"], show: "D", what: "tool: brush, draws the mask itself", run: (a) => a.editor.choose("brush") },
  { keys: ["e"], show: "E", what: "tool: eraser, removes pixels of the selected object", run: (a) => a.editor.choose("eraser") },
  { keys: ["g"], show: "G", what: "tool: polygon (Enter or a double click closes it)", run: (a) => a.editor.choose("polygon") },
  { keys: ["r"], show: "R", what: "tool: box, fills a rectangle", run: (a) => a.editor.choose("box") },
  { keys: ["q"], show: "Q W", what: "brush smaller, larger", run: (a) => a.editor.resize(a.editor.size > 10 ? a.editor.size / 1.25 : a.editor.size - 1) },
  { keys: ["w"], run: (a) => a.editor.resize(a.editor.size > 9 ? a.editor.size * 1.25 : a.editor.size + 1) },
  { keys: ["j"], show: "J K", what: "previous, next object", run: (a) => a.neighbour(-1) },
  { keys: ["k"], run: (a) => a.neighbour(1) },
  { keys: ["F2"], show: "F2", what: "rename the object", run: (a) => a.rename() },
  { keys: ["v"], show: "V", what: "lock or unlock the frame (reviewed)", run: (a) => a.lockFrame() },
  { keys: ["l"], show: "L", what: "lock or unlock the object on the frame", run: (a) => a.lockObject() },
  { keys: ["c"], show: "C", what: "copy the mask to the next frame", run: (a) => a.copyToNext() },
  { keys: ["u"], show: "U", what: "interpolate between the annotated frames around this one, or within the range", run: (a) => a.range.fill() },
  { keys: ["Delete"], show: "Del", what: "delete the object on the frame or on the range", run: (a) => a.deleteHere() },
  { keys: ["i"], show: "I O", what: "first, last frame of the range", run: (a) => a.range.begin() },
  { keys: ["o"], run: (a) => a.range.end() },
  { keys: ["PageDown"], show: "Page Down", what: "the next video that is not done", run: (a) => a.nextVideo() },
  { keys: ["a"], show: "A", what: "add an object", run: (a) => a.addObject() },
  { keys: ["h"], show: "H", what: "hide or show the object", run: (a) => a.hide() },
  { keys: ["m"], show: "M", what: "next style of the masks", run: (a) => a.nextStyle() },
  { keys: ["+", "="], show: "+ − F", what: "zoom in, out, fit", run: (a) => a.stage.zoom(1.25) },
  { keys: ["-"], run: (a) => a.stage.zoom(0.8) },
  { keys: ["f"], run: (a) => a.stage.fit() },
  { show: "wheel", what: "zoom at the pointer" },
  { show: "Shift drag, middle", what: "move the picture (touch: two fingers)" },
  { keys: ["?"], show: "?", what: "this help", run: (a) => a.help() },
];

export function listen(app) {
  // Remove the focus from a clicked control, so that keys such as Space keep their meaning after a click.
  document.addEventListener("click", (event) => {
    if (event.detail) event.target.closest("button, input:not([type=text])")?.blur();
  });
  document.addEventListener("keydown", (event) => {
    const typing = event.target.matches("input, select") && !event.target.readOnly;
    if (event.defaultPrevented || event.isComposing || document.querySelector("dialog[open]") || !app.state) return;
    if (typing) {
      if (event.key === "Enter" || event.key === "Escape") event.target.blur();
      return;
    }
    const ctrl = event.ctrlKey || event.metaKey;
    const presses = event.key === "Enter" || event.key === " ";
    const gone = event.target.closest("dialog"); // a dialog that was just closed keeps the focus until the next repaint
    const onButton = presses && !gone && event.target.matches("button, a, [role=menuitem]");
    if (onButton || event.altKey) return;
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    const found = KEYS.find((one) => one.keys?.includes(key) && Boolean(one.ctrl) === ctrl);
    if (!found) return;
    event.preventDefault();
    found.run(app, event);
  });
}

export function table(list) {
  for (const one of KEYS) {
    if (!one.show) continue;
    const row = document.createElement("div");
    const term = document.createElement("dt");
    const text = document.createElement("dd");
    term.textContent = one.show;
    text.textContent = one.what;
    row.append(term, text);
    list.append(row);
  }
}
