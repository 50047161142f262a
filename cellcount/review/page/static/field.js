// The field: the picture by tiles below, outlines above; boxes are drawn, moved and resized here.

import { ask, byId, colourOf, element, get, showError, slideNumber, t } from "./page.js";
import { FieldTiles } from "./field_tiles.js";
import { isForControl, Panels } from "./panels.js";
import { C, isOut, REVIEWED, SlideCells } from "./slide_cells.js";

const GRID = 256;
const HANDLE = 9;
const LEAST_PX = 4;

const run = await get("/api/run");
const cells = new SlideCells(slideNumber, run);
const stage = byId("stage");
const picture = byId("picture").getContext("2d");
const outlines = byId("outlines").getContext("2d");

let fields = [];
let field = null;
let tiles = null;
let view = { x: 0, y: 0, scale: 1 };
let selected = null; // place of a cell
let wantedCell = "";
let adding = false;
let drag = null;
let asked = false;
let grid = new Map();
const hidden = new Set();
let filter = null;

const panels = new Panels(cells, run, {
  pick(chosen) {
    filter = chosen;
    redraw();
  },
  retype: (type) => call(type),
});

const boxOf = (row) => [row[C.x0], row[C.y0], row[C.x1], row[C.y1]];
const rowOf = (place) => (place === null ? null : cells.rows[place]);

function isShown(row) {
  if (!row.length || row[C.image] !== field?.image || row[C.marks] & 4) return false;
  if (hidden.has(row[C.label])) return false;
  if (filter === null) return true;
  if (filter === "out") return isOut(row);
  if (typeof filter === "string") return row[C.type] < 0 && `class ${row[C.label]}` === filter;
  return row[C.type] === filter && !isOut(row);
}

function index() {
  grid = new Map();
  cells.rows.forEach((row, place) => {
    if (!row.length || row[C.image] !== field?.image) return;
    const [x0, y0, x1, y1] = boxOf(row);
    for (let x = Math.floor(x0 / GRID); x <= Math.floor(x1 / GRID); x += 1) {
      for (let y = Math.floor(y0 / GRID); y <= Math.floor(y1 / GRID); y += 1) {
        const key = x * 100000 + y;
        if (!grid.has(key)) grid.set(key, []);
        grid.get(key).push(place);
      }
    }
  });
}

function inSight(x0, y0, x1, y1) {
  const found = new Set();
  for (let x = Math.floor(x0 / GRID); x <= Math.floor(x1 / GRID); x += 1) {
    for (let y = Math.floor(y0 / GRID); y <= Math.floor(y1 / GRID); y += 1) {
      for (const place of grid.get(x * 100000 + y) ?? []) found.add(place);
    }
  }
  return found;
}

function redraw() {
  if (asked) return;
  asked = true;
  requestAnimationFrame(() => {
    asked = false;
    draw();
  });
}

function draw() {
  if (!field) return;
  const { width, height } = stage.getBoundingClientRect();
  const dots = devicePixelRatio || 1;
  for (const context of [picture, outlines]) {
    const { canvas } = context;
    if (canvas.width !== Math.round(width * dots) || canvas.height !== Math.round(height * dots)) {
      canvas.width = Math.round(width * dots);
      canvas.height = Math.round(height * dots);
    }
    context.setTransform(dots, 0, 0, dots, 0, 0);
    context.clearRect(0, 0, width, height);
  }
  picture.imageSmoothingEnabled = view.scale < 3;
  tiles.draw(picture, view, width, height);
  drawOutlines(width, height);
}

function drawOutlines(width, height) {
  const small = [];
  const places = inSight(view.x, view.y, view.x + width / view.scale, view.y + height / view.scale);
  outlines.lineWidth = 2;
  for (const place of places) {
    const row = cells.rows[place];
    if (!isShown(row) || place === selected) continue;
    const [x0, y0, x1, y1] = boxOf(row);
    if ((x1 - x0) * view.scale < 5) {
      small.push([row, x0, y0]);
      continue;
    }
    outlines.strokeStyle = colourOf(row[C.type]);
    outlines.setLineDash(isOut(row) ? [3, 5] : row[C.marks] & REVIEWED || row[C.type] < 0 ? [] : [7, 3]);
    outlines.strokeRect((x0 - view.x) * view.scale, (y0 - view.y) * view.scale, (x1 - x0) * view.scale, (y1 - y0) * view.scale);
  }
  outlines.setLineDash([]);
  for (const [row, x, y] of small) {
    outlines.fillStyle = colourOf(row[C.type]);
    outlines.fillRect((x - view.x) * view.scale, (y - view.y) * view.scale, 2, 2);
  }
  const row = rowOf(selected);
  if (row?.length && row[C.image] === field.image) drawSelected(drag?.box ?? boxOf(row), colourOf(row[C.type]));
  if (drag?.kind === "add" && drag.box) drawSelected(drag.box, "#ffb300");
}

function onScreen([x0, y0, x1, y1]) {
  return [(x0 - view.x) * view.scale, (y0 - view.y) * view.scale, (x1 - view.x) * view.scale, (y1 - view.y) * view.scale];
}

function drawSelected(box, colour) {
  const [x0, y0, x1, y1] = onScreen(box);
  outlines.lineWidth = 5;
  outlines.strokeStyle = "#fff";
  outlines.strokeRect(x0, y0, x1 - x0, y1 - y0);
  outlines.lineWidth = 2.5;
  outlines.strokeStyle = colour;
  outlines.strokeRect(x0, y0, x1 - x0, y1 - y0);
  outlines.fillStyle = "#fff";
  for (const [x, y] of handles(box)) {
    outlines.fillRect(x - HANDLE / 2, y - HANDLE / 2, HANDLE, HANDLE);
    outlines.lineWidth = 1.5;
    outlines.strokeRect(x - HANDLE / 2, y - HANDLE / 2, HANDLE, HANDLE);
  }
}

// Corners and middles of the sides on the screen, with the sides of the box that each moves.
function handles(box) {
  const [x0, y0, x1, y1] = onScreen(box);
  const [x, y] = [(x0 + x1) / 2, (y0 + y1) / 2];
  return [
    [x0, y0, [0, 1]], [x1, y0, [2, 1]], [x0, y1, [0, 3]], [x1, y1, [2, 3]],
    [x, y0, [1]], [x, y1, [3]], [x0, y, [0]], [x1, y, [2]],
  ];
}

function tellSelected(extra = "") {
  const row = rowOf(selected);
  if (!row?.length) {
    byId("stage-note").textContent = extra || t("no_cell");
    return;
  }
  const sure = row[C.model] >= 0 && !(row[C.marks] & REVIEWED) ? t("sure", { p: Math.round(100 * row[C.prob]) }) : "";
  const type = isOut(row) || row[C.type] < 0 ? cells.shortName(row) : cells.typeName(row[C.type]);
  const who = row[C.reviewer] ? t("by", { name: row[C.reviewer] }) : "";
  const said = row[C.comment] ? ` “${row[C.comment]}”` : "";
  byId("stage-note").textContent = t("cell_label", { image: field.name, number: row[C.number], type, sure, who }) + said;
}

function select(place, centred = false) {
  selected = place;
  const row = rowOf(place);
  const { width, height } = stage.getBoundingClientRect();
  if (centred && row?.length && !isInView(boxOf(row), width, height)) {
    view.x = (row[C.x0] + row[C.x1]) / 2 - width / view.scale / 2;
    view.y = (row[C.y0] + row[C.y1]) / 2 - height / view.scale / 2;
  }
  tellSelected();
  redraw();
}

function isInView(box, width, height) {
  const [x0, y0, x1, y1] = onScreen(box);
  return x0 >= 0 && y0 >= 0 && x1 <= width && y1 <= height && x1 - x0 >= 12;
}

function step(by) {
  const places = [];
  cells.rows.forEach((row, place) => {
    if (isShown(row) && !isOut(row)) places.push(place);
  });
  if (!places.length) return;
  const at = places.indexOf(selected);
  const next = at < 0 ? (by > 0 ? 0 : places.length - 1) : (at + by + places.length) % places.length;
  select(places[next], true);
}

function fit() {
  const { width, height } = stage.getBoundingClientRect();
  const scale = Math.min(width / field.width, height / field.height);
  view = { x: (field.width - width / scale) / 2, y: (field.height - height / scale) / 2, scale };
  redraw();
}

function zoom(factor, at = null) {
  const { width, height } = stage.getBoundingClientRect();
  const [px, py] = at ?? [width / 2, height / 2];
  const least = Math.min(width / field.width, height / field.height) / 2;
  const scale = Math.min(16, Math.max(least, view.scale * factor));
  view.x += px / view.scale - px / scale;
  view.y += py / view.scale - py / scale;
  view.scale = scale;
  redraw();
}

function pan(x, y) {
  view.x += x / view.scale;
  view.y += y / view.scale;
  redraw();
}

function showField(image) {
  field = fields.find((one) => one.image === image) ?? fields[0];
  panels.image = field.image;
  byId("image").value = String(field.image);
  selected = null;
  const missing = (name) => tellSelected(name && t(name));
  tiles = new FieldTiles(field.image, field, run.pictures, redraw, missing);
  if (field.status !== "done") showError(`${field.name}: ${field.status}, ${field.reason}`);
  index();
  fit();
  tellSelected();
  if (panels.summary) panels.showFlags(panels.summary.fields);
}

function call(type) {
  const row = rowOf(selected);
  if (!row?.length || run.read_only) return;
  showError("");
  cells.correct([selected], type === "not_a_cell" ? { kind: "not_a_cell" } : { kind: "retype", type });
}

function remove() {
  if (rowOf(selected)?.length) cells.correct([selected], { kind: "delete" });
}

function keep(box) {
  const clipped = [
    Math.max(0, Math.min(box[0], box[2])), Math.max(0, Math.min(box[1], box[3])),
    Math.min(field.width, Math.max(box[0], box[2])), Math.min(field.height, Math.max(box[1], box[3])),
  ].map((v) => Math.round(v * 100) / 100);
  return clipped[2] - clipped[0] >= LEAST_PX && clipped[3] - clipped[1] >= LEAST_PX ? clipped : null;
}

function moveTo(box) {
  const kept = keep(box);
  if (kept && rowOf(selected)?.length) cells.correct([selected], { kind: "move", box: kept });
}

function nudge(dx, dy, { resize }) {
  const row = rowOf(selected);
  if (!row?.length) return;
  const [x0, y0, x1, y1] = boxOf(row);
  moveTo(resize ? [x0, y0, x1 + dx, y1 + dy] : [x0 + dx, y0 + dy, x1 + dx, y1 + dy]);
}

function addBox(box) {
  const kept = keep(box);
  if (!kept) return;
  wantedCell = "new";
  cells.addCell(field.image, kept, byId("class").value);
}

function addInMiddle() {
  const { width, height } = stage.getBoundingClientRect();
  const side = usualSide();
  const [x, y] = [view.x + width / view.scale / 2, view.y + height / view.scale / 2];
  addBox([x - side / 2, y - side / 2, x + side / 2, y + side / 2]);
}

// Median side of the boxes of the class that is added.
function usualSide() {
  const label = run.classes.findIndex((one) => one.id === byId("class").value);
  const sides = cells.rows.filter((row) => row.length && row[C.label] === label).map((row) => row[C.x1] - row[C.x0]);
  sides.sort((a, b) => a - b);
  return sides[Math.floor(sides.length / 2)] ?? 40;
}

function setAdding(on) {
  adding = on;
  byId("add").setAttribute("aria-pressed", String(on));
  stage.style.cursor = on ? "crosshair" : "";
  if (on) byId("stage-note").textContent = t("add_box_help");
}

function place(event) {
  const frame = stage.getBoundingClientRect();
  const at = [event.clientX - frame.left, event.clientY - frame.top];
  return { at, xy: [view.x + at[0] / view.scale, view.y + at[1] / view.scale] };
}

function under([x, y]) {
  let best = null;
  let least = Infinity;
  for (const one of inSight(x, y, x, y)) {
    const row = cells.rows[one];
    const [x0, y0, x1, y1] = boxOf(row);
    const area = (x1 - x0) * (y1 - y0);
    if (isShown(row) && x >= x0 && x <= x1 && y >= y0 && y <= y1 && area < least) [best, least] = [one, area];
  }
  return best;
}

stage.addEventListener("pointerdown", (event) => {
  if (!field || event.button > 0) return;
  stage.focus();
  stage.setPointerCapture(event.pointerId);
  const { at, xy } = place(event);
  const row = rowOf(selected);
  const base = { from: at, view: { ...view }, moved: false };
  if (adding) {
    drag = { ...base, kind: "add", start: xy };
    return;
  }
  if (row?.length && !run.read_only) {
    const box = boxOf(row);
    const handle = handles(box).find(([x, y]) => Math.hypot(x - at[0], y - at[1]) <= HANDLE);
    if (handle) {
      drag = { ...base, kind: "resize", sides: handle[2], first: box, start: xy };
      return;
    }
    if (under(xy) === selected) {
      drag = { ...base, kind: "move", first: box, start: xy };
      return;
    }
  }
  drag = { ...base, kind: "pan", start: xy };
});

stage.addEventListener("pointermove", (event) => {
  if (!drag) return;
  const { at, xy } = place(event);
  if (!drag.moved && Math.hypot(at[0] - drag.from[0], at[1] - drag.from[1]) < 4) return;
  drag.moved = true;
  const [dx, dy] = [xy[0] - drag.start[0], xy[1] - drag.start[1]];
  if (drag.kind === "pan") {
    view.x = drag.view.x - (at[0] - drag.from[0]) / view.scale;
    view.y = drag.view.y - (at[1] - drag.from[1]) / view.scale;
  } else if (drag.kind === "add") {
    drag.box = [...drag.start, ...xy];
  } else if (drag.kind === "move") {
    drag.box = drag.first.map((v, i) => v + (i % 2 ? dy : dx));
  } else {
    drag.box = [...drag.first];
    for (const side of drag.sides) drag.box[side] += side % 2 ? dy : dx;
  }
  redraw();
});

stage.addEventListener("pointerup", (event) => {
  if (!drag) return;
  const done = drag;
  drag = null;
  if (done.kind === "add") {
    if (done.box) addBox(done.box);
    setAdding(false);
  } else if (done.moved && done.box) moveTo(done.box);
  else if (!done.moved) select(under(place(event).xy));
  redraw();
});
stage.addEventListener("pointercancel", () => {
  drag = null;
  redraw();
});
stage.addEventListener("wheel", (event) => {
  event.preventDefault();
  zoom(Math.exp(-event.deltaY / 400), place(event).at);
}, { passive: false });

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

function command(event) {
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (key in ARROWS && document.activeElement === stage) {
    const [dx, dy] = ARROWS[key];
    const far = event.shiftKey ? 10 : 1;
    if (event.altKey) nudge(dx * far, dy * far, { resize: false });
    else if (event.ctrlKey || event.metaKey) nudge(dx * far, dy * far, { resize: true });
    else pan(dx * 80, dy * 80);
    return true;
  }
  if (event.ctrlKey || event.metaKey) {
    if (key === "z") cells.takeBack(event.shiftKey);
    else if (key === "y") cells.takeBack(true);
    else return false;
    return true;
  }
  if (event.altKey) return false;
  if (key === "+" || key === "=") zoom(1.4);
  else if (key === "-") zoom(1 / 1.4);
  else if (key === "Home") fit();
  else if (key === ",") step(-1);
  else if (key === ".") step(1);
  else if (key === "z") cells.takeBack(event.shiftKey);
  else if (key === "Escape") cancel();
  else if (key === "Delete" || key === "Backspace") remove();
  else if (key === "n") call("not_a_cell");
  else if (key === "b") addInMiddle();
  else if (key === "c") comment();
  else if (panels.typeOfKey(event.key)) call(panels.typeOfKey(event.key));
  else return false;
  return true;
}

function cancel() {
  drag = null;
  setAdding(false);
  select(null);
}

async function comment() {
  if (!rowOf(selected)?.length || run.read_only) return;
  const text = await ask(t("comment_of"));
  if (text) cells.correct([selected], { kind: "comment", comment: text });
  stage.focus();
}

addEventListener("keydown", (event) => {
  if (field && !isForControl(event) && command(event)) event.preventDefault();
});
cells.addEventListener("saved", (event) => {
  index();
  if (wantedCell === "new" && event.detail.rows?.length) {
    wantedCell = "";
    const row = event.detail.rows.find((one) => one[C.image] === field.image);
    if (row) select(cells.places.get(cells.key(row[C.image], row[C.id])));
  }
});
cells.addEventListener("change", () => {
  if (selected !== null && !rowOf(selected)?.length) selected = null;
  tellSelected();
  redraw();
});
byId("image").addEventListener("change", () => showField(Number(byId("image").value)));
byId("zoom-in").addEventListener("click", () => zoom(1.4));
byId("zoom-out").addEventListener("click", () => zoom(1 / 1.4));
byId("fit").addEventListener("click", fit);
byId("add").addEventListener("click", () => setAdding(!adding));
byId("delete").addEventListener("click", remove);
byId("comment").addEventListener("click", comment);
for (const id of ["brightness", "contrast"]) {
  byId(id).addEventListener("input", () => {
    byId("picture").style.filter = `brightness(${byId("brightness").value}%) contrast(${byId("contrast").value}%)`;
  });
}
new ResizeObserver(redraw).observe(stage);

try {
  const [, summary] = await Promise.all([cells.load(), get(`/api/slides/${slideNumber}`)]);
  fields = summary.fields.filter((one) => one.width > 0);
  for (const one of fields) byId("image").append(element("option", { value: one.image, text: one.name }));
  run.classes.forEach((one, label) => {
    byId("class").append(element("option", { value: one.id, text: one.name }));
    const box = element("input", { type: "checkbox" });
    box.checked = true;
    box.addEventListener("change", () => {
      if (box.checked) hidden.delete(label);
      else hidden.add(label);
      redraw();
    });
    byId("shown-classes").append(element("label", { class: "small" }, box, one.plural));
  });
  const white = run.classes.findIndex((one) => one.id === "wbc");
  if (white >= 0) byId("class").value = "wbc";
  const [image, id] = decodeURIComponent(location.hash.slice(1)).split("/");
  if (fields.length) showField(image ? Number(image) : fields[0].image);
  panels.summary = summary;
  await panels.start();
  const place = cells.places.get(`${image}/${id}`);
  if (place !== undefined) {
    view.scale = Math.max(view.scale, 1);
    select(place, true);
  }
  stage.focus();
  document.body.dataset.ready = "yes";
} catch (error) {
  showError(error.message);
}
