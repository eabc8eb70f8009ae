// Short messages above the timeline, which disappear automatically.

export function toast(text, kind = "", seconds = 6) {
  const list = document.getElementById("toasts");
  const box = document.createElement("div");
  box.className = `toast ${kind}`;
  box.append(text);
  box.addEventListener("click", () => box.remove());
  [...list.children].find((one) => one.textContent === box.textContent)?.remove();
  list.append(box);
  setTimeout(() => box.remove(), 1000 * seconds);
}
