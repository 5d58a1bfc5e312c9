/** Where a picture lies on a surface, and how large: moved, zoomed, and never out of sight. */

/** How far it goes beyond the picture's own pixels: by zooming, and to fill a surface. */
const CLOSEST = 16;
const FILLING = 4;
/** Pixels of the picture that stay to be seen. */
const SEEN = 24;

export class MaskView {
  constructor(picture) {
    this._picture = picture;
    this.width = this.height = 1;
    this.left = this.top = 0;
    this.scale = 1;
  }

  /** On a surface of that size, show the whole picture. */
  fit(width, height) {
    Object.assign(this, { width, height, scale: this._fitting(width, height) });
    this.left = (width - this._picture.width * this.scale) / 2;
    this.top = (height - this._picture.height * this.scale) / 2;
  }

  /** So that the point (x, y) of the surface stays where it is. */
  zoom(factor, { x, y }) {
    const least = Math.min(1, this._fitting(this.width, this.height)) / 2;
    const scale = Math.min(CLOSEST, Math.max(least, this.scale * factor));
    this.move(
      x - ((x - this.left) * scale) / this.scale - this.left,
      y - ((y - this.top) * scale) / this.scale - this.top,
      scale,
    );
  }

  move(x, y, scale = this.scale) {
    const within = (start, length, most) => Math.min(most - SEEN, Math.max(SEEN - length, start));
    this.scale = scale;
    this.left = within(this.left + x, this._picture.width * scale, this.width);
    this.top = within(this.top + y, this._picture.height * scale, this.height);
  }

  get middle() {
    return { x: this.width / 2, y: this.height / 2 };
  }

  toPicture({ x, y }) {
    return { x: (x - this.left) / this.scale, y: (y - this.top) / this.scale };
  }

  toSurface({ x, y }) {
    return { x: x * this.scale + this.left, y: y * this.scale + this.top };
  }

  _fitting(width, height) {
    return Math.min(FILLING, width / this._picture.width, height / this._picture.height) || 1;
  }
}
