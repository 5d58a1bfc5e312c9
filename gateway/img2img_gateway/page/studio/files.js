/** Files as people bring them to a page: dropped with their folders, pasted, chosen. */

const PICTURES = /\.(png|jpe?g|jfif|webp|tiff?|bmp|avif|gif|heic|heif|jxl)$/i;
let nextId = 0;

/** {file, path} of what a drop or a paste holds, those in folders included. */
export async function filesOf(transfer) {
  // asked for at once: once this function waits, the browser takes them away
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.length) return [...transfer.files].map((file) => ({ file, path: file.name }));
  return (await Promise.all(entries.map(filesBelow))).flat();
}

async function filesBelow(entry) {
  if (entry.isFile) {
    const file = await new Promise((done, failed) => entry.file(done, failed));
    return [{ file, path: entry.fullPath.replace(/^\//, "") }];
  }
  const reader = entry.createReader();
  const found = [];
  for (;;) {
    // a hundred at a time
    const some = await new Promise((done, failed) => reader.readEntries(done, failed));
    if (!some.length) return found;
    found.push(...(await Promise.all(some.map(filesBelow))).flat());
  }
}

/** Those of `files` that are pictures, by their names' numbers ("2.png" before "10.png"). */
export function picturesIn(files) {
  return files
    .filter(({ file, path }) => file.type.startsWith("image/") || PICTURES.test(path))
    .sort((one, other) => one.path.localeCompare(other.path, undefined, { numeric: true }));
}

/** A picture of the form, from a file: {file, path, url}. */
export const pictureOf = ({ file, path }) => ({ file, path, url: URL.createObjectURL(file) });
/** An input of the form: a picture with a mask and parameters of its own. */
export const inputOf = (image, mask = null, params = {}) => ({ id: nextId++, image, mask, params });

/** The paths of those of `files` that hold several pictures, of which the farm renders the first. */
export async function movingIn(files) {
  const found = [];
  for (const { file, path } of files) {
    const isGif = file.type === "image/gif";
    const bytes = new Uint8Array(await file.slice(0, isGif ? file.size : 16 * 1024).arrayBuffer());
    const moves = isGif ? gifPictures(bytes) > 1 : MOVING.test(new TextDecoder("latin1").decode(bytes));
    if (moves) found.push(path);
  }
  return found;
}

/** How files of several pictures begin: PNG, WebP, AVIF. */
const MOVING = /^(?:[^]PNG(?:(?!IDAT)[^])*?acTL|RIFF[^]{4}WEBPVP8X[^]*?ANIM[^]{4}|[^]{4}ftypavis)/;

/** How many pictures a GIF has, by its blocks; what is broken ends it. */
function gifPictures(bytes) {
  const [PICTURE, EXTENSION] = [0x2c, 0x21];
  const colours = (flags) => (flags & 0x80 ? 3 << ((flags & 7) + 1) : 0);
  let found = 0;
  let at = 13 + colours(bytes[10]);
  while (bytes[at] === PICTURE || bytes[at] === EXTENSION) {
    found += bytes[at] === PICTURE;
    at += bytes[at] === PICTURE ? 11 + colours(bytes[at + 9]) : 2;
    while (bytes[at]) at += 1 + bytes[at];
    at += 1;
  }
  return found;
}

/** Whether a picture's file says how it was made: looked for where the formats have it, at both ends. */
export async function hasInfotext(file) {
  const ends = [file.slice(0, 512 * 1024), file.slice(-256 * 1024)];
  const texts = await Promise.all(ends.map((part) => part.arrayBuffer()));
  return texts.some((bytes) => {
    const text = new TextDecoder("latin1").decode(bytes).replaceAll("\0", "");
    return /Steps: \d+, /.test(text);
  });
}

/** A file as base64. */
export const base64 = (file) =>
  new Promise((done, failed) => {
    const reader = new FileReader();
    reader.onload = () => done(reader.result);
    reader.onerror = () => failed(reader.error);
    reader.readAsDataURL(file);
  });

/** The path of a mask beside its picture: "a/photo-mask.png". */
export const maskPath = (path) => `${path.replace(/\.[^./]*$/, "")}-mask.png`;
