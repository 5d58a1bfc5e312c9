/** The pixels of a mask: painted, erased, inverted, taken back and done again. Nothing here is shown. */

/** Side of the squares that the history keeps, in pixels. */
const TILE = 256;
/** Bytes of all that can be taken back; beyond it, the oldest is forgotten. */
const KEPT = 256 * 1024 * 1024;

const white = "#fff";

/** A mask of `width` × `height` pixels, in the alpha of `canvas`: 255 is repainted. */
export class Mask {
  constructor(width, height) {
    this.width = width;
    this.height = height;
    this.canvas = new OffscreenCanvas(width, height);
    this._context = this.canvas.getContext("2d", { willReadFrequently: true });
    this._columns = Math.ceil(width / TILE);
    this._done = [];
    this._undone = [];
    this._stroke = null;
  }

  get canUndo() {
    return this._done.length > 0;
  }

  get canRedo() {
    return this._undone.length > 0;
  }

  /** Whether no pixel is masked. */
  get isEmpty() {
    for (let tile = 0; tile < this._columns * Math.ceil(this.height / TILE); tile += 1) {
      if (this._alpha(tile).some((value) => value > 0)) return false;
    }
    return true;
  }

  /** Begin a stroke of a round brush, `size` pixels across; gives the rectangle that has changed. */
  begin(x, y, size, { erase = false } = {}) {
    this._stroke = { x, y, size, erase, tiles: new Map() };
    return this.extend(x, y);
  }

  /** Go on with the stroke. */
  extend(x, y) {
    const { x: fromX, y: fromY, size, erase, tiles } = this._stroke;
    const area = this._within(Math.min(x, fromX), Math.min(y, fromY), Math.max(x, fromX), Math.max(y, fromY), size / 2 + 1);
    this._keep(area, tiles);
    const to = this._context;
    to.globalCompositeOperation = erase ? "destination-out" : "source-over";
    to.strokeStyle = to.fillStyle = white;
    to.lineCap = "round";
    to.lineWidth = size;
    to.beginPath();
    if (x === fromX && y === fromY) {
      to.arc(x, y, size / 2, 0, 2 * Math.PI);
      to.fill();
    } else {
      to.moveTo(fromX, fromY);
      to.lineTo(x, y);
      to.stroke();
    }
    Object.assign(this._stroke, { x, y });
    return area;
  }

  end() {
    if (this._stroke?.tiles.size) this._remember({ tiles: this._stroke.tiles });
    this._stroke = null;
  }

  /** Leave the stroke that was begun, as if it had never been. */
  cancel() {
    if (this._stroke) this._swap(this._stroke.tiles);
    this._stroke = null;
  }

  invert() {
    this._xor();
    this._remember({ inverted: true });
  }

  clear() {
    this._replace(() => this._context.clearRect(0, 0, this.width, this.height));
  }

  /** Take what is bright in `picture` (white on black, of any size) for the mask. */
  load(picture) {
    this._replace(() => {
      const to = this._context;
      to.globalCompositeOperation = "copy";
      to.drawImage(picture, 0, 0, this.width, this.height);
      for (let top = 0; top < this.height; top += TILE) {
        const rows = to.getImageData(0, top, this.width, Math.min(TILE, this.height - top));
        const { data } = rows;
        const bright = new Uint8Array(data.length / 4);
        for (let at = 0; at < data.length; at += 4) {
          const grey = 0.299 * data[at] + 0.587 * data[at + 1] + 0.114 * data[at + 2];
          bright[at / 4] = Math.round((grey * data[at + 3]) / 255);
        }
        setAlpha(data, bright);
        to.putImageData(rows, 0, top);
      }
    });
  }

  undo() {
    this._step(this._done, this._undone);
  }

  redo() {
    this._step(this._undone, this._done);
  }

  /** A PNG as the farm takes it: white on black. */
  png() {
    const whole = new OffscreenCanvas(this.width, this.height);
    const to = whole.getContext("2d");
    to.fillStyle = "#000";
    to.fillRect(0, 0, this.width, this.height);
    to.drawImage(this.canvas, 0, 0);
    return whole.convertToBlob({ type: "image/png" });
  }

  _xor() {
    this._context.globalCompositeOperation = "xor";
    this._context.fillStyle = white;
    this._context.fillRect(0, 0, this.width, this.height);
  }

  _replace(change) {
    const tiles = new Map();
    this._keep(this._within(0, 0, this.width, this.height, 0), tiles);
    change();
    this._remember({ tiles });
  }

  _remember(step) {
    this._done.push(step);
    this._undone = [];
    let bytes = 0;
    const first = this._done.findLastIndex((each) => (bytes += bytesOf(each)) > KEPT);
    this._done.splice(0, first + 1);
  }

  _step(from, to) {
    const step = from.pop();
    if (!step) return;
    if (step.inverted) this._xor();
    else this._swap(step.tiles);
    to.push(step);
  }

  /** Keep the squares that `area` touches as they are now. */
  _keep({ x, y, width, height }, tiles) {
    if (!width || !height) return;
    for (let row = Math.floor(y / TILE); row * TILE < y + height; row += 1) {
      for (let column = Math.floor(x / TILE); column * TILE < x + width; column += 1) {
        const tile = row * this._columns + column;
        if (!tiles.has(tile)) tiles.set(tile, packed(this._alpha(tile)));
      }
    }
  }

  /** Put the squares of `tiles` in place, and keep there what was. */
  _swap(tiles) {
    for (const [tile, before] of tiles) {
      const now = this._alpha(tile);
      const { x, y, width, height } = this._tile(tile);
      const image = new ImageData(width, height);
      if (before) setAlpha(image.data, before);
      this._context.putImageData(image, x, y);
      tiles.set(tile, packed(now));
    }
  }

  _alpha(tile) {
    const { x, y, width, height } = this._tile(tile);
    const { data } = this._context.getImageData(x, y, width, height);
    return alphaOf(data);
  }

  _tile(tile) {
    const x = (tile % this._columns) * TILE;
    const y = Math.floor(tile / this._columns) * TILE;
    return { x, y, width: Math.min(TILE, this.width - x), height: Math.min(TILE, this.height - y) };
  }

  /** The whole pixels of a rectangle and `margin` around it, as far as they are in the mask. */
  _within(left, top, right, bottom, margin) {
    const x = clamp(Math.floor(left - margin), 0, this.width);
    const y = clamp(Math.floor(top - margin), 0, this.height);
    return {
      x,
      y,
      width: clamp(Math.ceil(right + margin), 0, this.width) - x,
      height: clamp(Math.ceil(bottom + margin), 0, this.height) - y,
    };
  }
}

/** The alpha of an image's pixels. */
export function alphaOf(data) {
  const alpha = new Uint8Array(data.length / 4);
  for (let at = 0; at < alpha.length; at += 1) alpha[at] = data[4 * at + 3];
  return alpha;
}

/** Make an image's pixels white, of that alpha. */
export function setAlpha(data, alpha) {
  data.fill(255);
  for (let at = 0; at < alpha.length; at += 1) data[4 * at + 3] = alpha[at];
}

const clamp = (value, least, most) => Math.min(most, Math.max(least, value));
/** A square without anything in it takes no memory. */
const packed = (alpha) => (alpha.some((value) => value > 0) ? alpha : null);
const bytesOf = ({ tiles }) => (tiles ? [...tiles.values()].reduce((sum, each) => sum + (each?.length ?? 0), 0) : 0);
