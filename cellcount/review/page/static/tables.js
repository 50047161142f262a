// Tables of a differential: rows with a number first, the others folded below.

import { element, t } from "./page.js";

const SVG = "http://www.w3.org/2000/svg";

function drawn(name, attributes) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

function bar(b) {
  const svg = drawn("svg", { class: "bar", viewBox: "-1 0 202 16", "aria-hidden": "true" });
  svg.append(
    drawn("rect", { class: "track", x: 0, y: 2, width: 200, height: 12 }),
    drawn("rect", { class: "share", x: 0, y: 2, width: b.value, height: 12 }),
    drawn("path", { class: "limits", d: `M${b.low} 3V13M${b.low} 8H${b.high}M${b.high} 3V13` }),
  );
  return svg;
}

function row(one, columns) {
  const head = element("th", { scope: "row", text: one.name });
  if (one.note) head.append(element("small", { text: one.note, title: one.note }));
  const line = element("tr", { "data-kind": one.kind, "data-row": one.id }, head);
  if (one.missing) {
    line.append(element("td", { class: "missing", colspan: columns, text: one.missing }));
    return line;
  }
  for (const cell of one.cells) {
    const td = element("td", cell.bar ? {} : { text: cell.text });
    if (cell.bar) td.append(bar(cell.bar));
    for (const [name, value] of Object.entries(cell.values)) td.setAttribute(`data-${name.replaceAll("_", "-")}`, value);
    line.append(td);
  }
  return line;
}

function table(caption, columns, rows) {
  const head = element("tr", {}, element("th", { scope: "col", text: t("name") }));
  for (const name of columns) head.append(element("th", { scope: "col", text: name }));
  const body = element("tbody", {}, ...rows.map((one) => row(one, columns.length)));
  return element("table", {}, element("caption", { text: caption }), element("thead", {}, head), body);
}

export function showTables(place, tables) {
  const folded = place.querySelector("details")?.open ?? false;
  const shown = [];
  const missing = [];
  for (const one of tables) {
    const assessed = one.rows.filter((r) => !r.missing);
    if (assessed.length) shown.push(table(one.caption, one.columns, assessed));
    const others = one.rows.filter((r) => r.missing);
    if (others.length) missing.push([one, others]);
  }
  if (missing.length) {
    const count = missing.reduce((sum, [, others]) => sum + others.length, 0);
    const more = element("details", {}, element("summary", { text: t("unassessed", { n: count }) }));
    more.open = folded;
    more.append(...missing.map(([one, others]) => table(one.caption, one.columns, others)));
    shown.push(more);
  }
  place.replaceChildren(...shown);
}
