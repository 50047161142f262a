// The cells of a slide in the browser, and the queue of corrections on their way to the server.
//
// A correction shows at once. It is sent with an id of its own, so that sending it again after a
// failure does it once, and with the version of each cell that the person saw: where somebody else
// was faster, the server refuses it, and both are asked about.

import { get, newBatch, post, t } from "./page.js";

export const C = {
  image: 0, id: 1, number: 2, x0: 3, y0: 4, x1: 5, y1: 6, label: 7, type: 8, model: 9, prob: 10,
  second: 11, secondProb: 12, marks: 13, reviewer: 14, comment: 15, version: 16,
};
export const DOUBTFUL = 1, NOT_A_CELL = 2, DELETED = 4, MOVED = 8, ADDED = 16, REVIEWED = 32;
const POLL_MS = 3000;

export const isOut = (row) => (row[C.marks] & (NOT_A_CELL | DELETED)) !== 0;

export class SlideCells extends EventTarget {
  constructor(number, run) {
    super();
    this.number = number;
    this.run = run;
    this.rows = [];
    this.places = new Map();
    this.queue = [];
    this.conflicts = [];
    this.depth = [0, 0];
    this.sequence = 0;
    this.sending = false;
    this.failed = false;
    this.typeIndex = new Map(run.types.map((type, index) => [type.id, index]));
  }

  key(image, id) {
    return `${image}/${id}`;
  }

  async load() {
    const found = await get(`/api/slides/${this.number}/cells`);
    found.columns.forEach((name, place) => {
      const known = { second_prob: "secondProb" }[name] ?? name;
      if (C[known] !== place) throw new Error(`column ${name} is not where it was`);
    });
    this.rows = found.rows;
    this.places = new Map(this.rows.map((row, i) => [this.key(row[C.image], row[C.id]), i]));
    this.sequence = found.sequence;
    this.depth = found.undo;
    setInterval(() => this.poll(), POLL_MS);
  }

  cropOf(row) {
    const box = (row[C.marks] & (MOVED | ADDED)) ? `-${row[C.version]}` : "";
    return `/crops/${row[C.image]}/${row[C.id]}?k=${this.run.pictures}${box}`;
  }

  tell(kind, places) {
    this.dispatchEvent(new CustomEvent(kind, { detail: places }));
  }

  // Make a correction of some cells: edit is {kind, type, box, comment}.
  correct(places, edit) {
    const rows = places.map((place) => this.rows[place]).filter((row) => row && row.length);
    if (!rows.length || this.run.read_only) return;
    const edits = rows.map((row) => ({ ...edit, image: row[C.image], cell: row[C.id], version: row[C.version] }));
    this.put({ batch: newBatch(), edits });
    for (const row of rows) this.show(row, edit);
    this.tell("change", places);
  }

  addCell(image, box, label, type = "") {
    if (this.run.read_only) return;
    this.put({ batch: newBatch(), edits: [{ kind: "add", image, box, label, type }] });
  }

  show(row, edit) {
    if (edit.kind === "retype") {
      row[C.type] = this.typeIndex.get(edit.type) ?? row[C.type];
      row[C.marks] = (row[C.marks] & ~(NOT_A_CELL | DELETED)) | REVIEWED;
      row[C.reviewer] = this.run.person;
    } else if (edit.kind === "not_a_cell" || edit.kind === "delete") {
      row[C.marks] |= edit.kind === "delete" ? DELETED : NOT_A_CELL;
      row[C.reviewer] = this.run.person;
    } else if (edit.kind === "move") {
      [row[C.x0], row[C.y0], row[C.x1], row[C.y1]] = edit.box;
      if (!(row[C.marks] & ADDED)) row[C.marks] |= MOVED;
    }
    if (edit.comment) row[C.comment] = edit.comment;
  }

  put(action) {
    this.queue.push(action);
    this.tell("state");
    this.send();
  }

  get unsaved() {
    return this.queue.length;
  }

  async send() {
    if (this.sending) return;
    this.sending = true;
    while (this.queue.length) {
      const action = this.queue[0];
      try {
        const path = action.undo ? "undo" : "edits";
        const said = action.undo ? { batch: action.batch, redo: action.redo } : { batch: action.batch, edits: action.edits };
        const found = await post(`/api/slides/${this.number}/${path}`, said);
        this.queue.shift();
        this.failed = false;
        this.depth = found.undo;
        this.take(found, { own: true });
        this.tell("saved", found);
      } catch (error) {
        if (error.status === undefined || error.status >= 500) {
          this.failed = true;
          this.tell("state");
          await new Promise((done) => setTimeout(done, 1000));
          continue;
        }
        this.queue.shift();
        await this.refused(action, error);
      }
      this.tell("state");
    }
    this.sending = false;
  }

  async refused(action, error) {
    if (error.status === 403 && !error.facts.rows) {
      this.queue.unshift(action);
      this.gone = true;
      this.tell("state");
      await new Promise(() => {}); // the server is another one: nothing more can be sent
    }
    if (error.status === 409 && error.facts.rows) {
      this.take(error.facts);
      const seen = new Map((action.edits ?? []).map((edit) => [this.key(edit.image, edit.cell), edit]));
      const clear = [];
      for (const [key, edit] of seen) {
        const row = this.rows[this.places.get(key)];
        if (!row || !row.length) continue;
        if (row[C.version] === edit.version) clear.push(edit);
        else this.conflicts.push({ key, edit });
      }
      if (clear.length) {
        for (const edit of clear) this.show(this.rows[this.places.get(this.key(edit.image, edit.cell))], edit);
        this.queue.unshift({ batch: newBatch(), edits: clear });
      }
      if (action.undo) this.tell("refused", error.message);
      this.tell("conflict");
      return;
    }
    this.tell("refused", error.message);
    await this.reload();
  }

  async reload() {
    const found = await get(`/api/slides/${this.number}/cells`);
    this.take({ rows: found.rows, gone: [] });
  }

  // A person decides on a conflict: their own correction is made on what is there now, or dropped.
  settle(conflict, mine) {
    this.conflicts = this.conflicts.filter((one) => one !== conflict);
    if (mine) {
      const { kind, type, box, comment } = conflict.edit;
      this.correct([this.places.get(conflict.key)], { kind, type, box, comment });
    }
    this.tell("conflict");
  }

  takeBack(redo) {
    if (this.run.read_only) return;
    this.put({ batch: newBatch(), undo: true, redo });
  }

  // Rows as the server has them; what waits in the queue is shown on top of them.
  take(found, { own = false } = {}) {
    const touched = [];
    for (const row of found.rows) {
      const key = this.key(row[C.image], row[C.id]);
      let place = this.places.get(key);
      if (place === undefined) {
        place = this.rows.length;
        this.places.set(key, place);
      }
      if (row[C.version] < (this.rows[place]?.[C.version] ?? 0)) continue; // an answer from before
      this.rows[place] = row;
      touched.push(place);
      for (const action of this.queue) {
        for (const edit of action.edits ?? []) {
          if (this.key(edit.image, edit.cell) !== key) continue;
          if (own) edit.version = row[C.version];
          this.show(row, edit);
        }
      }
    }
    for (const [image, id] of found.gone) {
      const place = this.places.get(this.key(image, id));
      if (place === undefined) continue;
      this.rows[place] = [];
      this.places.delete(this.key(image, id));
      touched.push(place);
    }
    if (touched.length) this.tell("change", touched);
  }

  async poll() {
    if (document.hidden || this.sending) return;
    try {
      const found = await get(`/api/slides/${this.number}/changes?since=${this.sequence}`);
      this.sequence = found.sequence;
      this.take(found);
      if (found.rows.length || found.gone.length) this.tell("saved", found);
    } catch (error) {
      this.gone = error.status === 403;
      this.failed = !this.gone;
      this.tell("state");
      return;
    }
    if (this.failed) {
      this.failed = false;
      this.tell("state");
    }
  }

  typeName(index) {
    if (index < 0) return t("untyped");
    const type = this.run.types[index];
    return type.id === "unclassified" ? t("unclassified") : type.name;
  }

  shortName(row) {
    if (row[C.marks] & NOT_A_CELL) return t("not_a_cell");
    if (row[C.marks] & DELETED) return t("taken_out");
    if (row[C.type] < 0) return this.run.classes[row[C.label]]?.name ?? "";
    const type = this.run.types[row[C.type]];
    return type.abbreviation || type.name;
  }
}
