// The panels beside gallery and field: types with their keys, tally and bell, differential, flags,
// approval, conflicts.

import { ask, byId, colourOf, element, get, newBatch, post, showBehind, showError, status, t } from "./page.js";
import { C, isOut, REVIEWED } from "./slide_cells.js";
import { showTables } from "./tables.js";

const COMMANDS = "bcfnz";

export class Panels {
  // pick(filter): a person chose a type in the list; filter is an index, "out", or null for all.
  constructor(cells, run, { pick, retype }) {
    Object.assign(this, { cells, run, pick, retype, filter: null, reached: 0 });
    this.keys = new Map(Object.entries(run.keys));
    this.timer = 0;
    this.showTypes();
    this.showTargets();
    this.showNames();
    cells.addEventListener("change", () => this.count());
    cells.addEventListener("saved", () => this.refreshSoon());
    cells.addEventListener("state", () => this.showState());
    cells.addEventListener("refused", (event) => showError(event.detail));
    cells.addEventListener("conflict", () => this.showConflicts());
    byId("undo").addEventListener("click", () => cells.takeBack(false));
    byId("redo").addEventListener("click", () => cells.takeBack(true));
    byId("edit-keys").addEventListener("click", () => this.editKeys());
    byId("approve").addEventListener("click", () => this.approve());
    byId("reopen").addEventListener("click", () => this.reopen());
    addEventListener("beforeunload", (event) => {
      if (cells.unsaved) event.preventDefault();
    });
  }

  start() {
    this.count();
    this.showState();
    return this.refresh();
  }

  typeOfKey(key) {
    return this.keys.get(key) ?? this.keys.get(key.toLowerCase());
  }

  keyOf(type) {
    for (const [key, name] of this.keys) if (name === type) return key;
    return "";
  }

  showTypes() {
    const line = (filter, key, name, colour) => {
      const button = element(
        "button",
        { type: "button", "aria-pressed": String(this.filter === filter) },
        key ? element("kbd", { text: key.toUpperCase() }) : element("span"),
        element("span", { text: name }),
        element("span", { class: "n", text: "0" }),
      );
      button.style.borderLeftColor = colour;
      button.addEventListener("click", () => this.choose(filter));
      button.addEventListener("dragover", (event) => event.preventDefault());
      button.addEventListener("drop", (event) => {
        event.preventDefault();
        const type = filter === "out" ? "not_a_cell" : this.run.types[filter]?.id;
        if (type) this.retype(type);
      });
      this.lines.set(filter, button);
      return element("li", {}, button);
    };
    this.lines = new Map();
    const items = [line(null, "", t("all_types"), "var(--line)")];
    this.run.types.forEach((type, i) => items.push(line(i, this.keyOf(type.id), this.cells.typeName(i), colourOf(i))));
    this.run.classes.forEach((one, i) => items.push(line(`class ${i}`, "", `${one.plural}, ${t("untyped")}`, "#8b8b94")));
    items.push(line("out", "n", t("not_a_cell"), "var(--ink)"));
    byId("types").replaceChildren(...items);
  }

  // Without a keyboard and a mouse the chosen cells are named by a list.
  showNames() {
    const select = byId("name-as");
    select.append(element("option", { value: "", text: t("choose") }));
    this.run.types.forEach((type, i) => select.append(element("option", { value: type.id, text: this.cells.typeName(i) })));
    select.append(element("option", { value: "not_a_cell", text: t("not_a_cell") }));
    select.disabled = this.run.read_only;
    select.addEventListener("change", () => {
      if (select.value) this.retype(select.value);
      select.value = "";
    });
  }

  choose(filter) {
    this.filter = filter;
    for (const [one, button] of this.lines) button.setAttribute("aria-pressed", String(one === filter));
    this.pick(filter);
  }

  // Counts of the list and the tally: a pass over all cells, a millisecond for tens of thousands.
  count() {
    const counts = new Map([[null, 0], ["out", 0]]);
    const nrbc = this.run.types.findIndex((type) => type.row === this.run.nrbc || type.id === this.run.nrbc);
    let mine = 0;
    let nucleated = 0;
    for (const row of this.cells.rows) {
      if (!row.length) continue;
      if (isOut(row)) {
        counts.set("out", counts.get("out") + 1);
        continue;
      }
      const group = row[C.type] < 0 ? `class ${row[C.label]}` : row[C.type];
      counts.set(group, (counts.get(group) ?? 0) + 1);
      counts.set(null, counts.get(null) + 1);
      if (row[C.marks] & REVIEWED && row[C.reviewer] === this.run.person) {
        if (row[C.type] === nrbc) nucleated += 1;
        else if (this.run.types[row[C.type]]?.part === "denominator") mine += 1;
      }
    }
    for (const [filter, button] of this.lines) {
      const text = (counts.get(filter) ?? 0).toLocaleString("en");
      const place = button.lastChild;
      if (place.textContent !== text) place.textContent = text;
      const unused = typeof filter === "string" && filter.startsWith("class") && !counts.get(filter);
      button.parentElement.hidden = unused;
    }
    byId("counted").textContent = this.target ? `${mine} / ${this.target}` : String(mine);
    byId("nrbc").textContent = nrbc >= 0 && mine ? ((100 * nucleated) / mine).toFixed(1) : "–";
    byId("nrbc-name").hidden = byId("nrbc").hidden = nrbc < 0;
    this.ring(mine);
  }

  showTargets() {
    const select = byId("target");
    const options = [...new Set([...this.run.targets, 100, 200, 500])].sort((a, b) => a - b);
    select.append(element("option", { value: 0, text: t("no_target") }));
    for (const n of options) select.append(element("option", { value: n, text: n }));
    select.addEventListener("change", () => {
      this.target = Number(select.value);
      this.reached = 0;
      this.count();
    });
    this.target = 0;
  }

  ring(mine) {
    const full = this.target > 0 && mine >= this.target;
    document.querySelector(".tally").classList.toggle("full", full);
    if (!full) {
      this.reached = 0;
      byId("reached").textContent = "";
      return;
    }
    if (this.reached === this.target) return;
    this.reached = this.target;
    byId("reached").textContent = t("target_reached", { n: this.target });
    if (byId("bell").checked) bell();
  }

  refreshSoon() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.refresh(), 150);
  }

  async refresh() {
    try {
      this.show(await get(`/api/slides/${this.cells.number}`));
    } catch (error) {
      if (error.status !== undefined) showError(error.message);
    }
  }

  show(found) {
    this.summary = found;
    showTables(byId("tables"), found.tables);
    byId("advice-part").hidden = !found.advice.length;
    byId("advice").replaceChildren(...found.advice.map((text) => element("li", { text })));
    showBehind(found.behind && !this.run.read_only);
    this.showFlags(found.fields);
    this.showApproval(found.approval);
    document.body.dataset.sequence = found.sequence;
    this.cells.dispatchEvent(new CustomEvent("summary", { detail: found }));
  }

  showFlags(fields) {
    const image = this.image ?? null;
    const shown = image === null ? fields.filter((f) => fields.length <= 12 || Object.keys(f.flags).length) : fields.filter((f) => f.image === image);
    const parts = shown.map((field) => {
      const box = element("fieldset", {}, element("legend", { class: "small", text: field.name }));
      for (const [flag, words] of Object.entries(this.run.flags)) {
        const input = element("input", { type: "checkbox", "data-flag": flag, disabled: this.run.read_only });
        input.checked = flag in field.flags;
        input.addEventListener("change", () => this.flag(field.image, flag, input.checked));
        const who = field.flags[flag] ? ` (${field.flags[flag]})` : "";
        box.append(element("label", { class: "small" }, input, words + who), " ");
      }
      return box;
    });
    byId("flags").replaceChildren(...parts);
  }

  async flag(image, flag, isUp) {
    try {
      const said = { batch: newBatch(), image, flag, is_up: isUp };
      this.show(await post(`/api/slides/${this.cells.number}/flag`, said));
    } catch (error) {
      showError(error.message);
      this.refresh();
    }
  }

  showApproval(approval) {
    const locked = Boolean(approval?.locked);
    byId("approval").textContent = approval ? approval.words : t("not_approved");
    byId("approve").hidden = locked || this.run.read_only;
    byId("reopen").hidden = !locked || this.run.read_only;
    const versions = approval && approval.versions.length > 1 ? approval.versions : [];
    byId("versions").replaceChildren(...versions.map((v) => element("li", { text: t("version_line", v) + (v.reason ? ` (${v.reason})` : "") })));
  }

  async approve() {
    if ((await ask(t("approve_sure"), { wanted: false })) === null) return;
    await this.said("approve", {});
  }

  async reopen() {
    const reason = await ask(t("reopen_why"));
    if (reason) await this.said("reopen", { reason });
  }

  async said(what, facts) {
    try {
      showError("");
      this.show(await post(`/api/slides/${this.cells.number}/${what}`, { batch: newBatch(), ...facts }));
    } catch (error) {
      showError(error.message);
    }
  }

  showState() {
    const { cells } = this;
    const n = cells.unsaved;
    if (cells.gone) status(t("server_gone", { n }), true);
    else if (cells.failed) status(t("unsaved", { n }), true);
    else status(n ? t("saving", { n }) : t("saved"));
    byId("undo").disabled = !cells.depth[0];
    byId("redo").disabled = !cells.depth[1];
  }

  showConflicts() {
    const { conflicts, rows, places } = this.cells;
    byId("conflicts").hidden = !conflicts.length;
    const items = conflicts.map((conflict) => {
      const row = rows[places.get(conflict.key)] ?? [];
      const yours = conflict.edit.type || t(conflict.edit.kind);
      const text = t("conflict_line", { number: row[C.number], name: row[C.reviewer], theirs: row.length ? this.cells.shortName(row) : "", yours });
      return element(
        "li",
        {},
        element("p", { class: "small", text }),
        element("button", { type: "button", text: t("keep_theirs"), onclick: () => this.cells.settle(conflict, false) }),
        " ",
        element("button", { type: "button", text: t("take_mine"), onclick: () => this.cells.settle(conflict, true) }),
      );
    });
    byId("conflict-list").replaceChildren(...items);
  }

  editKeys() {
    const dialog = byId("keys");
    const inputs = new Map();
    byId("key-list").replaceChildren();
    for (const type of this.run.types) {
      const input = element("input", { maxlength: 1, value: this.keyOf(type.id), "aria-label": type.name });
      inputs.set(type.id, input);
      byId("key-list").append(input, element("span", { text: type.name }));
    }
    byId("keys-error").hidden = true;
    byId("keys-keep").onclick = (event) => {
      const chosen = new Map();
      for (const [type, input] of inputs) {
        const key = input.value.toLowerCase();
        if (!key.trim()) continue;
        const wrong = chosen.has(key) ? "keys_double" : COMMANDS.includes(key) ? "keys_taken" : "";
        if (wrong) {
          event.preventDefault();
          byId("keys-error").hidden = false;
          byId("keys-error").textContent = t(wrong, { key });
          return;
        }
        chosen.set(key, type);
      }
      this.keepKeys(chosen);
    };
    dialog.showModal();
  }

  async keepKeys(chosen) {
    try {
      await post("/api/keys", { batch: newBatch(), keys: Object.fromEntries(chosen) });
      this.keys = chosen;
      this.showTypes();
      this.count();
    } catch (error) {
      showError(error.message);
    }
  }
}

let sound = null;

function bell() {
  try {
    sound ??= new AudioContext();
    const tone = sound.createOscillator();
    const loud = sound.createGain();
    tone.frequency.value = 880;
    loud.gain.setValueAtTime(0.25, sound.currentTime);
    loud.gain.exponentialRampToValueAtTime(0.001, sound.currentTime + 0.8);
    tone.connect(loud).connect(sound.destination);
    tone.start();
    tone.stop(sound.currentTime + 0.8);
  } catch {
    // without sound the words are there
  }
  document.body.dataset.bell = String(Number(document.body.dataset.bell ?? 0) + 1);
}

// Whether a key is for a control that has the focus, or for a dialog, and not for the cells.
export function isForControl(event) {
  const { target } = event;
  if (document.querySelector("dialog[open]")) return true;
  if (target.closest("input:not([type=checkbox]):not([type=range]), textarea, select")) return true;
  return Boolean(target.closest("button, a, summary")) && (event.key === "Enter" || event.key === " ");
}

