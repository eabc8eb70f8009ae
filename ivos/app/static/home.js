// The list of the server's videos, with the progress of each and a link to the next video to annotate.

import { load } from "./storage.js";

const $ = (id) => document.getElementById(id);
document.documentElement.dataset.theme = load("theme", "") || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");

function element(kind, text = "", name = "") {
  const one = document.createElement(kind);
  one.textContent = text;
  if (name) one.className = name;
  return one;
}

function duration(seconds) {
  if (seconds < 60) return seconds ? "under a minute" : "";
  const minutes = Math.round(seconds / 60);
  return minutes < 60 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

function tile(one) {
  const link = element("a", "", `tile ${one.done ? "done" : ""}`);
  link.href = `/w/${one.name}/`;
  const picture = element("img");
  picture.src = `/w/${one.name}/thumbnail.jpg`;
  picture.loading = "lazy";
  picture.alt = "";
  const box = element("div");
  const frames = one.num_frames ? `${one.num_frames} frames` : "";
  const objects = one.status === "new" ? "" : `${one.objects} object${one.objects === 1 ? "" : "s"}`;
  const rounds = `${one.rounds} round${one.rounds === 1 ? "" : "s"}`;
  const parts = [frames, objects, one.status === "new" ? "" : rounds, duration(one.seconds)].filter(Boolean);
  box.append(element("b", one.study ? `${one.study.participant}: ${one.study.sequence}` : one.name));
  box.append(element("small", parts.join(", ")), element("span", one.failure || one.status, "status"));
  const bar = element("progress");
  bar.max = Math.max(1, one.num_frames);
  bar.value = one.masked;
  bar.setAttribute("aria-label", `${one.masked} of ${one.num_frames} frames of ${one.name} have a mask`);
  box.append(bar);
  link.append(picture, box);
  return link;
}

async function update() {
  const answer = await fetch("/sessions");
  if (!answer.ok) return;
  const sessions = await answer.json();
  const done = sessions.filter((one) => one.done).length;
  $("summary").textContent = `${done} of ${sessions.length} done`;
  const text = JSON.stringify(sessions);
  if (text !== update.shown) $("list").replaceChildren(...sessions.map(tile));
  update.shown = text;
  const next = sessions.find((one) => one.status === "in work") ?? sessions.find((one) => !one.done);
  $("next").hidden = !next;
  if (next) $("next").href = `/w/${next.name}/`;
  $("upload-row").hidden = answer.headers.get("X-Uploads") !== "yes";
}

async function upload() {
  for (const file of $("upload").files) {
    $("upload-note").textContent = `Uploading ${file.name}`;
    const answer = await fetch(`/upload?name=${encodeURIComponent(file.name)}`, { method: "POST", body: file });
    $("upload-note").textContent = answer.ok ? "" : (await answer.text()).replace(/^error: /, "");
    if (!answer.ok) break;
  }
  $("upload").value = "";
  update();
}

async function archive() {
  const kind = $("archive-format").value;
  $("upload-note").textContent = "Writing…";
  const answer = await fetch(`/archive/${kind}`, { method: "POST" });
  $("upload-note").textContent = answer.ok ? "" : (await answer.text()).replace(/^error: /, "");
  if (!answer.ok) return;
  const link = element("a");
  link.href = URL.createObjectURL(await answer.blob());
  link.download = `all-${kind}.zip`;
  link.click();
  URL.revokeObjectURL(link.href);
}

$("upload").addEventListener("change", upload);
$("archive").addEventListener("click", archive);
update();
setInterval(update, 5000); // videos can be added while the server runs
