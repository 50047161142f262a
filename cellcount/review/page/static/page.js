// What every view shares: texts, requests, the status line, small dialogs.

export const texts = await (await fetch("/static/texts.en.json")).json();

export function t(name, values = {}) {
  const text = texts[name] ?? name;
  return text.replace(/\{(\w+)\}/g, (whole, key) => (key in values ? String(values[key]) : whole));
}

export const byId = (id) => document.getElementById(id);
export const slideNumber = Number(document.body.dataset.slide ?? -1);

export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "text") made.textContent = value;
    else if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (value !== false && value !== null) made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children);
  return made;
}

export class Refused extends Error {
  constructor(status, facts) {
    super(facts.error ?? `status ${status}`);
    this.status = status;
    this.facts = facts;
  }
}

async function answered(response) {
  let facts = {};
  try {
    facts = await response.json();
  } catch {
    facts = { error: response.status === 403 ? t("server_gone", { n: 0 }) : `status ${response.status}` };
  }
  if (!response.ok) throw new Refused(response.status, facts);
  return facts;
}

export async function get(path) {
  return answered(await fetch(path, { cache: "no-store" }));
}

export async function post(path, said) {
  const headers = { "Content-Type": "application/json" };
  return answered(await fetch(path, { method: "POST", headers, body: JSON.stringify(said) }));
}

export function newBatch() {
  const bytes = crypto.getRandomValues(new Uint8Array(8));
  return Array.from(bytes, (b) => b.toString(16).padStart(2, "0")).join("");
}

export function status(text, bad = false) {
  const line = byId("status");
  if (line.textContent !== text) line.textContent = text;
  line.classList.toggle("bad", bad);
}

export function showError(text) {
  const box = byId("error");
  box.textContent = text;
  box.hidden = !text;
}

export function showBehind(behind) {
  byId("behind").hidden = !behind;
}

// Asks for a text, or for a yes where no text is wanted; null where the person cancels.
export function ask(text, { wanted = true } = {}) {
  const dialog = byId("ask");
  const value = byId("ask-value");
  byId("ask-text").textContent = text;
  value.hidden = !wanted;
  value.value = "";
  dialog.returnValue = "";
  dialog.showModal();
  if (wanted) value.focus();
  return new Promise((resolve) => {
    dialog.addEventListener(
      "close",
      () => resolve(dialog.returnValue === "yes" ? value.value.trim() : null),
      { once: true },
    );
  });
}

export async function writeOutputs() {
  try {
    const done = await post("/api/outputs", {});
    showBehind(false);
    status([t("written", { names: done.written.join(", ") }), ...done.notes].join("; "));
  } catch (error) {
    showError(error.message);
  }
}

export const colours = [
  "#1f77b4", "#d95f02", "#1b9e77", "#c2185b", "#7570b3", "#8c6d00", "#00838f", "#b30000",
  "#5d4037", "#558b2f", "#6a1b9a", "#37474f", "#ad5c00", "#00695c", "#283593", "#9e9d24",
];

export function colourOf(type) {
  return type < 0 ? "#8b8b94" : colours[type % colours.length];
}

byId("sign-out")?.addEventListener("click", async () => {
  await post("/api/sign-in", { name: "" });
  location.href = "/";
});
byId("error").addEventListener("click", () => showError(""));
byId("write")?.addEventListener("click", writeOutputs);
