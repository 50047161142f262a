// Tiles of an image: loaded when they come in sight, the nearest coarser one shown meanwhile.

const TILE = 512;
const MOST_TILES = 400;
const AGAIN_MS = 800;

export class FieldTiles {
  constructor(image, size, pictures, redraw, missing) {
    Object.assign(this, { image, size, pictures, redraw, missing });
    this.kept = new Map();
    this.coarsest = Math.max(0, Math.ceil(Math.log2(Math.max(size.width, size.height) / TILE)));
  }

  draw(context, view, width, height) {
    const wanted = Math.min(this.coarsest, Math.max(0, Math.floor(Math.log2(1 / view.scale) + 0.3)));
    for (const level of new Set([this.coarsest, Math.min(this.coarsest, wanted + 2), wanted])) {
      this.drawLevel(context, view, width, height, level);
    }
  }

  drawLevel(context, view, width, height, level) {
    const side = TILE * 2 ** level;
    const left = Math.max(0, Math.floor(view.x / side));
    const top = Math.max(0, Math.floor(view.y / side));
    const right = Math.min(Math.ceil(this.size.width / side), Math.ceil((view.x + width / view.scale) / side));
    const bottom = Math.min(Math.ceil(this.size.height / side), Math.ceil((view.y + height / view.scale) / side));
    for (let row = top; row < bottom; row += 1) {
      for (let column = left; column < right; column += 1) {
        const tile = this.tile(level, column, row);
        if (!tile.ready) continue;
        const spanX = Math.min(side, this.size.width - column * side);
        const spanY = Math.min(side, this.size.height - row * side);
        context.drawImage(
          tile.picture,
          (column * side - view.x) * view.scale,
          (row * side - view.y) * view.scale,
          spanX * view.scale + 0.5,
          spanY * view.scale + 0.5,
        );
      }
    }
  }

  tile(level, column, row) {
    const key = `${level}/${column}/${row}`;
    const known = this.kept.get(key);
    if (known) {
      this.kept.delete(key);
      this.kept.set(key, known);
      return known;
    }
    const tile = { ready: false, picture: new Image(), tries: 0 };
    this.kept.set(key, tile);
    this.load(tile, key);
    if (this.kept.size > MOST_TILES) this.kept.delete(this.kept.keys().next().value);
    return tile;
  }

  async load(tile, key) {
    const address = `/tiles/${this.image}/${key}?k=${this.pictures}`;
    try {
      const response = await fetch(address);
      if (response.status === 503) {
        this.missing("making_overview");
        setTimeout(() => this.load(tile, key), AGAIN_MS);
        return;
      }
      if (!response.ok) {
        this.missing("no_picture");
        return;
      }
      tile.picture = await createImageBitmap(await response.blob());
      tile.ready = true;
      this.missing("");
      this.redraw();
    } catch {
      if (tile.tries++ < 20) setTimeout(() => this.load(tile, key), AGAIN_MS);
    }
  }
}
