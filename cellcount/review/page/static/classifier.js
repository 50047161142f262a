// The laboratory's own classifier: made in the background of the cells that people named.

import { byId, element, get, post, showBehind, showError, t } from "./page.js";

const LOOK_MS = 400;
const LEAST = 10;

const run = await get("/api/run");
const names = new Map(run.types.map((type) => [type.id, type.name]));
const nameOf = (id) => names.get(id) ?? (id === "not_a_white_cell" ? t("not_a_cell") : id.replaceAll("_", " "));
const atWork = (state) => state === "looking" || state === "fitting";

let shown = "";
let asked = false;

function share(side) {
  if (side.share === null) return "–";
  const [low, high] = side.limits.map((v) => (100 * v).toFixed(0));
  return `${(100 * side.share).toFixed(1)} % (${low}–${high})`;
}

function row(name, cells, before, after) {
  const line = element("tr", {}, element("th", { scope: "row", text: name }));
  line.append(...[cells, before, after].map((text) => element("td", { text })));
  return line;
}

function figures(found) {
  const { before, after } = found;
  const head = element("tr", {}, ...["classifier_measure", "cells", "before", "after"].map((name) => element("th", { scope: "col", text: t(name) })));
  const rows = [
    row(t("typed_rightly"), before.right.cells, share(before.right), share(after.right)),
    row(t("accepted"), before.accepted.cells, share(before.accepted), share(after.accepted)),
    row(t("accepted_rightly"), "", share(before.accepted_right), share(after.accepted_right)),
    ...Object.entries(before.by_label).map(([label, one]) => row(nameOf(label), one.cells, share(one), share(after.by_label[label]))),
  ];
  const caption = t(found.slides ? "classifier_on_slides" : "classifier_on_fields");
  return element("table", { class: "figures" }, element("caption", { text: caption }), element("thead", {}, head), element("tbody", {}, ...rows));
}

function outcome(now) {
  const isMade = now.state === "made";
  const parts = [element("h2", { id: "outcome-head", text: t(isMade ? "classifier_made" : "classifier_none") })];
  if (now.sentence) parts.push(element("p", { class: "warning", text: now.sentence }));
  const own = now.made.find((one) => one.number === now.number);
  if (isMade && own) {
    parts.push(element("p", { text: t("classifier_written") }), element("p", {}, element("code", { text: own.folder })));
    parts.push(element("p", { text: t("classifier_use") }), element("p", {}, element("code", { text: use(own) })));
  }
  if (now.figures) parts.push(figures(now.figures));
  parts.push(...now.notes.map((text) => element("p", { class: "small", text })));
  return parts;
}

const use = (one) => `cellcount analyze INPUT --classifier ${quoted(one.folder)} --out counts.csv`;
const quoted = (path) => (/^[\w./:\\-]+$/.test(path) ? path : `"${path}"`);

function show(now) {
  const busy = atWork(now.state);
  byId("make").disabled = busy || !hasCells;
  byId("work").hidden = !busy;
  const bar = byId("progress");
  if (now.state === "looking" && now.cells) {
    bar.max = now.cells;
    bar.value = now.done;
  } else {
    bar.removeAttribute("value");
  }
  const texts = { looking: t("classifier_looking", { n: now.cells || "…" }), fitting: t("classifier_fitting") };
  const said = byId("said");
  const text = texts[now.state] ?? "";
  if (said.textContent !== text) said.textContent = text;
  byId("earlier").hidden = !now.made.length;
  byId("made").replaceChildren(
    ...now.made.map((one) => {
      const [before, after, of] = one.right;
      const line = t("classifier_line", { number: one.number, before, after, of });
      return element("li", { "data-number": one.number }, `${line} `, element("code", { text: one.folder }));
    }),
  );
  const place = byId("outcome");
  const isOver = ["made", "refused", "failed"].includes(now.state);
  place.hidden = !isOver;
  const key = JSON.stringify([now.state, now.number, now.sentence]);
  if (isOver && key !== shown) {
    place.replaceChildren(...outcome(now));
    if (asked) place.focus(); // whoever asked for it hears what came of it
  }
  shown = key;
  asked ||= busy;
  if (busy) setTimeout(look, LOOK_MS);
}

async function look() {
  try {
    show(await get("/api/classifier"));
  } catch (error) {
    showError(error.message);
    setTimeout(look, 5 * LOOK_MS);
  }
}

async function make() {
  byId("make").disabled = true;
  showError("");
  shown = "";
  asked = true;
  try {
    show(await post("/api/classifier", {}));
  } catch (error) {
    showError(error.message);
    await look();
  }
}

let hasCells = false;

async function showCells() {
  const { cells } = await get("/api/classifier/cells");
  hasCells = cells.length > 0;
  const most = Math.max(0, ...cells.map(([, n]) => n));
  const list = element("ul", { class: "counts" }, ...cells.map(([id, n]) => element("li", { "data-type": id }, element("strong", { text: n }), ` ${nameOf(id)}`)));
  const parts = hasCells ? [list] : [element("p", { text: t("classifier_no_cells") })];
  if (most < LEAST) parts.push(element("p", { class: "soft", text: t("classifier_least", { n: LEAST }) }));
  byId("cells").replaceChildren(...parts);
}

showBehind(run.behind && !run.read_only);
byId("make").addEventListener("click", make);
try {
  await showCells();
  await look();
  document.body.dataset.ready = "yes";
} catch (error) {
  showError(error.message);
}
