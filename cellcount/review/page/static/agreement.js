// Agreement of two readers, and the cells on which a consensus is wanted.

import { byId, element, get, newBatch, post, showError, slideNumber, t } from "./page.js";

const run = await get("/api/run");
const names = new Map(run.types.map((type) => [type.id, type.name]));
const nameOf = (id) => (id === "not_a_cell" ? t("not_a_cell") : (names.get(id) ?? id));

function table(pair) {
  const head = element("tr", {}, ...["type", "both", "first_only", "second_only", "kappa"].map((name) => element("th", { scope: "col", text: t(name) })));
  const rows = pair.rows.map((row) =>
    element(
      "tr",
      { "data-type": row.type },
      element("th", { scope: "row", text: row.type ? nameOf(row.type) : t("agreement_all") }),
      element("td", { text: row.both }),
      element("td", { text: row.first }),
      element("td", { text: row.second }),
      element("td", { "data-kappa": row.kappa ?? "", text: row.kappa === null ? "–" : row.kappa.toFixed(2) }),
    ),
  );
  const caption = t("agreement_pair", pair);
  return element("table", {}, element("caption", { text: caption }), element("thead", {}, head), element("tbody", {}, ...rows));
}

function disagreement(pair, one) {
  const words = t("disagreement", { first: pair.first, a: nameOf(one.first), second: pair.second, b: nameOf(one.second) });
  const choices = element("div", { class: "choices" });
  const others = run.types.filter((type) => type.id !== one.first && type.id !== one.second);
  for (const id of [one.first, one.second]) choices.append(settle(one, id));
  const select = element("select", { "aria-label": t("settle_as") }, element("option", { value: "", text: t("settle_as") }));
  for (const type of others) select.append(element("option", { value: type.id, text: type.name }));
  select.addEventListener("change", () => select.value && send(one, select.value));
  choices.append(select);
  const settled = one.settled ? element("p", { class: "soft", text: t("settled", { type: nameOf(one.settled) }) }) : "";
  return element(
    "div",
    { class: "disagree", "data-cell": one.cell, "data-settled": one.settled },
    element("img", { src: `/crops/${one.image}/${one.cell}?k=${run.pictures}`, alt: words, width: 96, height: 96 }),
    element("div", {}, element("p", { text: words }), settled, run.read_only ? "" : choices),
  );
}

const settle = (one, id) => element("button", { type: "button", text: nameOf(id), onclick: () => send(one, id) });

async function send(one, type) {
  try {
    showError("");
    show(await post(`/api/slides/${slideNumber}/consensus`, { batch: newBatch(), image: one.image, cell: one.cell, type }));
  } catch (error) {
    showError(error.message);
  }
}

function show(found) {
  byId("none").hidden = found.pairs.length > 0;
  const parts = found.pairs.map((pair) => {
    const open = pair.disagreements.filter((one) => !one.settled);
    const settled = pair.disagreements.filter((one) => one.settled);
    return element(
      "section",
      {},
      table(pair),
      element("h2", { text: `${t("disagreements")}: ${open.length}` }),
      ...[...open, ...settled].map((one) => disagreement(pair, one)),
    );
  });
  byId("pairs").replaceChildren(...parts);
}

try {
  show(await get(`/api/slides/${slideNumber}/agreement`));
  document.body.dataset.ready = "yes";
} catch (error) {
  showError(error.message);
}
