// Blind second reading: one picture at a time, and no label of anybody.

import { byId, element, get, newBatch, post, showError, slideNumber, status, t } from "./page.js";
import { isForControl } from "./panels.js";

const run = await get("/api/run");
let left = [];
let read = [];
let total = 0;
let waiting = Promise.resolve();

const cropOf = ([image, id]) => `/crops/${image}/${id}?k=${run.pictures}`;

function show() {
  const cell = left[0];
  byId("reading").hidden = !cell;
  byId("done").hidden = Boolean(cell);
  byId("read").textContent = t("second_progress", { n: total - left.length, of: total });
  byId("back").disabled = !read.length;
  if (!cell) return;
  byId("picture").src = cropOf(cell);
  if (left[1]) new Image().src = cropOf(left[1]);
}

function say(type) {
  const cell = left.shift();
  if (!cell) return;
  read.push(cell);
  show();
  const said = { batch: newBatch(), image: cell[0], cell: cell[1], type };
  waiting = waiting
    .then(() => post(`/api/slides/${slideNumber}/readings`, said))
    .then(() => status(t("saved")))
    .catch((error) => showError(error.message));
}

function back() {
  const cell = read.pop();
  if (!cell) return;
  left.unshift(cell);
  show();
}

const keys = new Map(Object.entries(run.keys));

function choice(type, name, key) {
  const label = key ? [element("kbd", { text: key.toUpperCase() }), name] : [name];
  return element("button", { type: "button", "data-type": type, onclick: () => say(type) }, ...label);
}

addEventListener("keydown", (event) => {
  if (isForControl(event) || event.ctrlKey || event.metaKey || event.altKey) return;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (key === "Backspace" || key === "z") back();
  else if (key === "n") say("not_a_cell");
  else if (keys.has(key)) say(keys.get(key));
  else return;
  event.preventDefault();
});
byId("back").addEventListener("click", back);

try {
  const found = await get(`/api/slides/${slideNumber}/second`);
  ({ cells: left, total } = found);
  const keyOf = (id) => [...keys].find(([, name]) => name === id)?.[0] ?? "";
  byId("choices").append(
    ...run.types.map((type) => choice(type.id, type.name, keyOf(type.id))),
    choice("not_a_cell", t("not_a_cell"), "n"),
  );
  show();
  if (left.length) byId("reading").focus();
  document.body.dataset.ready = "yes";
} catch (error) {
  showError(error.message);
}
