// The toolbar beside the stage, and the slider for the size of the brush.

import { TOOLS } from "./editor.js";

const $ = (id) => document.getElementById(id);

export class Tools {
  constructor(app) {
    this.app = app;
    for (const button of document.querySelectorAll("#tools [data-tool]")) {
      button.addEventListener("click", () => app.editor.choose(button.dataset.tool));
    }
    $("size").addEventListener("input", () => app.editor.resize(Number($("size").value)));
    $("tools").addEventListener("keydown", (event) => this.arrows(event));
  }

  // Let the arrow keys select the previous or next tool, as in any group of radio buttons.
  arrows(event) {
    const step = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1 }[event.key];
    if (!step || !event.target.dataset.tool) return;
    event.preventDefault();
    event.stopPropagation();
    const next = TOOLS[(TOOLS.indexOf(this.app.editor.tool) + step + TOOLS.length) % TOOLS.length];
    this.app.editor.choose(next);
    document.querySelector(`#tools [data-tool="${next}"]`).focus();
  }

  update() {
    const { tool, size } = this.app.editor;
    for (const button of document.querySelectorAll("#tools [data-tool]")) {
      const on = button.dataset.tool === tool;
      button.setAttribute("aria-checked", String(on));
      button.tabIndex = on ? 0 : -1;
    }
    const clicks = this.app.state?.prompts?.includes("strokes") === false;
    const stroke = document.querySelector('#tools [data-tool="stroke"]');
    stroke.title = clicks ? "Click: a point of the object; a stroke counts as a click (S)" : "Stroke: a prompt for the network (S)";
    stroke.setAttribute("aria-label", clicks ? "Click" : "Stroke");
    $("size").value = size;
    $("size-value").textContent = size;
    $("size-row").hidden = !["brush", "eraser"].includes(tool);
  }
}
