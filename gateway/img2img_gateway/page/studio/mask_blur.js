/** How a mask's edges will act: blurred as A1111 and the farm's workers do it. */

import { alphaOf, setAlpha } from "./mask.js";

/** Standard deviation, in pixels of what is computed, up to which detail is kept; a wider blur is computed smaller. */
const WIDEST = 8;
/** Pixels that are computed at most. */
const MOST = 1_000_000;

/**
 * `mask` (a Mask) after blurs of `sigmaX` and `sigmaY` of its pixels, as a canvas.
 *
 * The canvas is smaller than the mask where that shows no less: by `largest` at least.
 */
export function blurred(mask, sigmaX, sigmaY, largest = 1) {
  const sharpest = WIDEST / Math.max(sigmaX, sigmaY, WIDEST);
  const scale = Math.min(1, largest, sharpest, Math.sqrt(MOST / (mask.width * mask.height)));
  const width = Math.max(1, Math.round(mask.width * scale));
  const height = Math.max(1, Math.round(mask.height * scale));
  const canvas = new OffscreenCanvas(width, height);
  const to = canvas.getContext("2d", { willReadFrequently: true });
  to.drawImage(mask.canvas, 0, 0, width, height);
  const image = to.getImageData(0, 0, width, height);
  let alpha = Float32Array.from(alphaOf(image.data));
  alpha = convolved(alpha, width, height, 1, kernel(sigmaX * scale));
  alpha = convolved(alpha, width, height, width, kernel(sigmaY * scale));
  setAlpha(image.data, alpha.map(Math.round));
  to.putImageData(image, 0, 0);
  return canvas;
}

/** Weights from the middle outwards, which end where A1111's do. */
function kernel(sigma) {
  const radius = sigma > 0 ? Math.floor(2.5 * sigma + 0.5) : 0;
  const weights = Array.from({ length: radius + 1 }, (_, at) => Math.exp(-(at ** 2) / (2 * sigma ** 2 || 1)));
  const sum = weights.reduce((all, each) => all + 2 * each, -weights[0]);
  return weights.map((each) => each / sum);
}

/** Along rows (`step` 1) or columns (`step` `width`); beyond its border a picture is mirrored. */
function convolved(from, width, height, step, weights) {
  if (weights.length === 1) return from;
  const to = new Float32Array(from.length);
  const along = step === 1 ? width : height;
  const lines = step === 1 ? height : width;
  const next = step === 1 ? width : 1;
  const far = weights.length - 1;
  const line = new Float32Array(along + 2 * far);
  for (let which = 0; which < lines; which += 1) {
    const start = which * next;
    for (let at = -far; at < along + far; at += 1) line[at + far] = from[start + mirrored(at, along) * step];
    for (let at = 0; at < along; at += 1) {
      let sum = weights[0] * line[at + far];
      for (let away = 1; away <= far; away += 1) sum += weights[away] * (line[at + far - away] + line[at + far + away]);
      to[start + at * step] = sum;
    }
  }
  return to;
}

/** The place within `length` that one beyond its ends is a mirror image of; the border itself is not repeated. */
function mirrored(at, length) {
  if (length === 1) return 0;
  const period = 2 * (length - 1);
  const within = ((at % period) + period) % period;
  return within < length ? within : period - within;
}
