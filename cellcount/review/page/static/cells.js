// The gallery: only the tiles in sight are in the page, whatever the number of cells.

import { ask, byId, colourOf, element, get, showError, slideNumber, t } from "./page.js";
import { isForControl, Panels } from "./panels.js";
import { C, DOUBTFUL, isOut, REVIEWED, SlideCells } from "./slide_cells.js";

const TILE = { width: 120, height: 144 };
const ROWS_BEYOND = 2;

const run = await get("/api/run");
const cells = new SlideCells(slideNumber, run);
const gallery = byId("gallery");
const space = byId("space");

let order = []; // places of the cells shown, in their order
let here = 0; // index in the order
let anchor = 0;
let picked = new Set(); // places
let filter = null;
let columns = 1;
const tiles = new Map(); // index in the order → element
const spare = [];
const names = new Map();

const panels = new Panels(cells, run, {
  pick(chosen) {
    filter = chosen;
    arrange();
    gallery.focus();
  },
  retype: (type) => call(type),
});

function matches(row) {
  if (!row.length) return false;
  if (filter === "out") return isOut(row);
  if (byId("doubtful").checked && !(row[C.marks] & DOUBTFUL && !(row[C.marks] & REVIEWED))) return false;
  if (isOut(row)) return false;
  if (filter === null) return true;
  if (typeof filter === "string") return row[C.type] < 0 && `class ${row[C.label]}` === filter;
  return row[C.type] === filter;
}

function arrange() {
  const { rows } = cells;
  const by = byId("order").value;
  order = [];
  rows.forEach((row, place) => {
    if (matches(row)) order.push(place);
  });
  if (by === "random") shuffle(order, slideNumber + 1);
  if (by === "sure") {
    // Typed cells first, the least sure of them at the front; then those of the detector alone.
    const rank = (row) => (row[C.model] < 0 ? 2 : row[C.prob]);
    order.sort((a, b) => rank(rows[a]) - rank(rows[b]) || a - b);
  }
  here = anchor = 0;
  picked = new Set();
  gallery.scrollTop = 0;
  lay();
}

function shuffle(list, seed) {
  let state = seed >>> 0;
  const random = () => {
    state = (state + 0x6d2b79f5) | 0;
    let x = Math.imul(state ^ (state >>> 15), 1 | state);
    x = (x + Math.imul(x ^ (x >>> 7), 61 | x)) ^ x;
    return ((x ^ (x >>> 14)) >>> 0) / 4294967296;
  };
  for (let i = list.length - 1; i > 0; i -= 1) {
    const j = Math.floor(random() * (i + 1));
    [list[i], list[j]] = [list[j], list[i]];
  }
}

function lay() {
  columns = Math.max(1, Math.floor((gallery.clientWidth - 8) / TILE.width));
  space.style.height = `${Math.ceil(order.length / columns) * TILE.height + 8}px`;
  for (const tile of tiles.values()) release(tile);
  tiles.clear();
  paint();
  tellShown();
}

function release(tile) {
  tile.remove();
  spare.push(tile);
}

function paint() {
  const first = Math.max(0, Math.floor(gallery.scrollTop / TILE.height) - ROWS_BEYOND) * columns;
  const last = Math.min(order.length, (Math.ceil((gallery.scrollTop + gallery.clientHeight) / TILE.height) + ROWS_BEYOND) * columns);
  for (const [index, tile] of tiles) {
    if (index < first || index >= last) {
      release(tile);
      tiles.delete(index);
    }
  }
  for (let index = first; index < last; index += 1) {
    if (!tiles.has(index)) tiles.set(index, place(index));
  }
  mark();
}

function place(index) {
  const tile = spare.pop() ?? made();
  tile.style.transform = `translate(${(index % columns) * TILE.width + 4}px, ${Math.floor(index / columns) * TILE.height + 4}px)`;
  tile.id = `cell-${index}`;
  tile.dataset.index = index;
  fill(tile, index);
  space.append(tile);
  return tile;
}

function made() {
  const name = element("span", { class: "name" }, element("span", { class: "t" }), element("span", { class: "p" }));
  return element("div", { class: "tile", role: "option", draggable: "true" }, element("img", { width: 96, height: 96, alt: "", draggable: "false", decoding: "async" }), name);
}

function fill(tile, index) {
  const row = cells.rows[order[index]];
  if (!row.length) {
    tile.hidden = true;
    return;
  }
  tile.hidden = false;
  const image = tile.firstChild;
  const source = cells.cropOf(row);
  if (image.getAttribute("src") !== source) image.src = source;
  const [type, prob] = tile.lastChild.children;
  type.textContent = cells.shortName(row);
  const byPerson = Boolean(row[C.marks] & REVIEWED);
  const sure = row[C.model] >= 0 && !byPerson && !isOut(row) ? Math.round(100 * row[C.prob]) : null;
  prob.textContent = sure === null ? "" : `${sure} %`;
  tile.lastChild.style.borderTopColor = colourOf(row[C.type]);
  tile.classList.toggle("out", isOut(row));
  tile.classList.toggle("seen", byPerson || isOut(row));
  tile.classList.toggle("said", Boolean(row[C.comment]));
  tile.setAttribute("aria-label", labelOf(row, sure));
  tile.title = row[C.comment] || "";
  tile.setAttribute("aria-posinset", index + 1);
  tile.setAttribute("aria-setsize", order.length);
}

function labelOf(row, sure) {
  return t("cell_label", {
    image: names.get(row[C.image]) ?? "",
    number: row[C.number],
    type: isOut(row) ? cells.shortName(row) : row[C.type] < 0 ? cells.shortName(row) : cells.typeName(row[C.type]),
    sure: sure === null ? "" : t("sure", { p: sure }),
    who: row[C.reviewer] ? t("by", { name: row[C.reviewer] }) : "",
  });
}

function mark() {
  for (const [index, tile] of tiles) {
    const isPicked = picked.has(order[index]);
    tile.classList.toggle("picked", isPicked);
    tile.classList.toggle("here", index === here);
    tile.setAttribute("aria-selected", String(isPicked || (!picked.size && index === here)));
  }
  if (tiles.has(here)) gallery.setAttribute("aria-activedescendant", `cell-${here}`);
}

function tellShown() {
  const parts = [order.length ? t("shown_n", { n: order.length.toLocaleString("en") }) : t("nothing_here")];
  if (picked.size) parts.push(t("selected_n", { n: picked.size }));
  byId("shown").textContent = parts.join(", ");
}

function go(index, extend = false) {
  here = Math.min(Math.max(0, index), Math.max(0, order.length - 1));
  if (extend) {
    const [from, to] = anchor < here ? [anchor, here] : [here, anchor];
    picked = new Set(order.slice(from, to + 1));
  } else {
    anchor = here;
    picked = new Set();
  }
  const top = Math.floor(here / columns) * TILE.height;
  if (top < gallery.scrollTop) gallery.scrollTop = top;
  else if (top + TILE.height + 8 > gallery.scrollTop + gallery.clientHeight) gallery.scrollTop = top + TILE.height + 8 - gallery.clientHeight;
  paint();
  tellShown();
}

const chosen = () => (picked.size ? [...picked] : order.length ? [order[here]] : []);

// Name the chosen cells; the next one is at hand then, as on a tally counter.
function call(type) {
  const places = chosen();
  if (!places.length || run.read_only) return;
  showError("");
  cells.correct(places, type === "not_a_cell" ? { kind: "not_a_cell" } : { kind: "retype", type });
  if (picked.size) {
    picked = new Set();
    mark();
    tellShown();
  } else go(here + 1);
}

function confirm() {
  const byType = new Map();
  for (const place of chosen()) {
    const type = cells.rows[place][C.type];
    const index = type >= 0 && run.types[type].id === "unclassified" ? cells.rows[place][C.model] : type;
    if (index >= 0) byType.set(index, [...(byType.get(index) ?? []), place]);
  }
  for (const [index, places] of byType) cells.correct(places, { kind: "retype", type: run.types[index].id });
  if (picked.size) {
    picked = new Set();
    mark();
  } else go(here + 1);
}

async function comment() {
  const places = chosen();
  if (!places.length || run.read_only) return;
  const text = await ask(t("comment_of"));
  if (text) cells.correct(places, { kind: "comment", comment: text });
  gallery.focus();
}

const MOVES = {
  ArrowLeft: () => here - 1,
  ArrowRight: () => here + 1,
  ArrowUp: () => here - columns,
  ArrowDown: () => here + columns,
  Home: () => 0,
  End: () => order.length - 1,
  PageUp: () => here - columns * Math.max(1, Math.floor(gallery.clientHeight / TILE.height)),
  PageDown: () => here + columns * Math.max(1, Math.floor(gallery.clientHeight / TILE.height)),
};

function command(event) {
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (event.ctrlKey || event.metaKey) {
    if (key === "a") {
      picked = new Set(order);
      mark();
      tellShown();
    } else if (key === "z") cells.takeBack(event.shiftKey);
    else if (key === "y") cells.takeBack(true);
    else return false;
    return true;
  }
  if (event.altKey) return false;
  if (key in MOVES) go(MOVES[key](), event.shiftKey);
  else if (key === "z") cells.takeBack(event.shiftKey);
  else if (key === "Enter") confirm();
  else if (key === " ") toggle(here);
  else if (key === "Escape") go(here);
  else if (key === "n" || key === "Delete") call("not_a_cell");
  else if (key === "c") comment();
  else if (key === "f") openField();
  else if (panels.typeOfKey(event.key)) call(panels.typeOfKey(event.key));
  else return false;
  return true;
}

function toggle(index) {
  const place = order[index];
  if (picked.has(place)) picked.delete(place);
  else picked.add(place);
  mark();
  tellShown();
}

function openField() {
  const row = cells.rows[order[here]];
  if (row?.length) location.href = `/slides/${slideNumber}/field#${row[C.image]}/${row[C.id]}`;
}

// How long a key takes to the painted frame, for whoever measures it.
function measure(start) {
  requestAnimationFrame(() => {
    const channel = new MessageChannel();
    channel.port1.onmessage = () => {
      performance.measure("key to paint", { start, end: performance.now() });
      if (performance.getEntriesByName("key to paint").length > 2000) performance.clearMeasures();
    };
    channel.port2.postMessage(0);
  });
}

addEventListener("keydown", (event) => {
  if (isForControl(event)) return;
  if (command(event)) {
    event.preventDefault();
    measure(event.timeStamp);
  }
});
gallery.addEventListener("scroll", paint, { passive: true });
gallery.addEventListener("click", (event) => {
  const tile = event.target.closest(".tile");
  if (!tile) return;
  const index = Number(tile.dataset.index);
  if (event.shiftKey) go(index, true);
  else if (event.ctrlKey || event.metaKey) {
    here = anchor = index;
    toggle(index);
  } else go(index);
});
gallery.addEventListener("dblclick", openField);
gallery.addEventListener("dragstart", (event) => {
  const tile = event.target.closest(".tile");
  if (!tile) return;
  const index = Number(tile.dataset.index);
  if (!picked.has(order[index])) go(index);
  event.dataTransfer.setData("text/plain", String(index));
});
cells.addEventListener("change", (event) => {
  const touched = new Set(event.detail);
  for (const [index, tile] of tiles) if (touched.has(order[index])) fill(tile, index);
});
cells.addEventListener("summary", (event) => {
  for (const field of event.detail.fields) names.set(field.image, field.name);
});
byId("order").addEventListener("change", arrange);
byId("doubtful").addEventListener("change", arrange);
byId("confirm").addEventListener("click", confirm);
byId("comment").addEventListener("click", comment);
new ResizeObserver(() => {
  const before = columns;
  columns = Math.max(1, Math.floor((gallery.clientWidth - 8) / TILE.width));
  if (columns !== before) lay();
  else paint();
}).observe(gallery);

try {
  await cells.load();
  arrange();
  await panels.start();
  for (const [index, tile] of tiles) fill(tile, index);
  gallery.focus();
  document.body.dataset.ready = "yes";
} catch (error) {
  showError(error.message);
}
