// The videos that this server holds.

import { load } from "./storage.js";

const list = document.getElementById("list");
const sessions = await (await fetch("/sessions")).json();
document.documentElement.dataset.theme = load("theme", "") || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
for (const one of sessions) {
  const tile = document.createElement("a");
  tile.className = `tile${one.done ? " done" : ""}`;
  tile.href = `/w/${one.name}/`;
  const picture = document.createElement("img");
  picture.src = `/w/${one.name}/frames/${one.frames_id}/0.jpg`;
  picture.alt = "";
  const box = document.createElement("div");
  const name = document.createElement("b");
  name.textContent = one.study ? `${one.study.participant}: ${one.study.sequence}` : one.name;
  const text = document.createElement("small");
  text.textContent = `${one.num_frames} frames, ${one.rounds} round${one.rounds === 1 ? "" : "s"}`;
  box.append(name, text);
  tile.append(picture, box);
  list.append(tile);
}
