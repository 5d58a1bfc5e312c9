/** An X/Y grid: the values of two parameters, written in a line each, and the inputs that they make. */
import { typed } from "./values.js";

/** Words of the prompt, the first of which is replaced by the others. */
export const REPLACE = "prompt, search and replace";
/** Values of an axis at most. */
const MOST = 200;

/**
 * The values in `text`, as A1111 writes them: "1, 2, 5", "1-5", "1-10 (+3)", "0-1 [5]", texts with commas in quotes.
 */
export function valuesOf(text, parameter) {
  const parts = split(text);
  if (!["integer", "number"].includes(parameter?.type)) {
    return parameter?.type === "boolean" ? parts.map((each) => /^(true|yes|on|1)$/i.test(each)) : parts;
  }
  return parts.flatMap((part) => range(part, parameter)).slice(0, MOST);
}

function split(text) {
  const found = text.match(/\s*("(?:[^"]|"")*"|[^,\n]*)(?:,|\n|$)/g) ?? [];
  return found
    .map((each) => each.trim().replace(/,$/, "").trim())
    .filter((each) => each !== "")
    .map((each) => (/^".*"$/s.test(each) ? each.slice(1, -1).replaceAll('""', '"') : each));
}

const NUMBER = "([+-]?\\d+(?:\\.\\d+)?)";
const STEPS = new RegExp(`^${NUMBER}\\s*-\\s*${NUMBER}(?:\\s*\\(\\s*([+-]\\d+(?:\\.\\d+)?)\\s*\\))?$`);
const COUNT = new RegExp(`^${NUMBER}\\s*-\\s*${NUMBER}\\s*\\[\\s*(\\d+)\\s*\\]$`);

function range(part, parameter) {
  const tidy = (value) => (parameter.type === "integer" ? Math.round(value) : Number(value.toFixed(6)));
  const counted = COUNT.exec(part);
  if (counted) {
    const [first, last, count] = counted.slice(1).map(Number);
    const n = Math.min(count, MOST);
    return Array.from({ length: n }, (_, at) => tidy(n === 1 ? first : first + ((last - first) * at) / (n - 1)));
  }
  const stepped = STEPS.exec(part);
  if (!stepped) return [typed(parameter, part)];
  const [first, last] = [Number(stepped[1]), Number(stepped[2])];
  const step = Number(stepped[3] ?? Math.sign(last - first) * 1) || 1;
  const n = Math.floor((last - first) / step + 1e-9) + 1;
  return n > 0 ? Array.from({ length: Math.min(n, MOST) }, (_, at) => tidy(first + step * at)) : [typed(parameter, part)];
}

/** Whether an axis is chosen. */
export const isGrid = ({ x, y }) => Boolean(x.name || y.name);

/** {x, y}: the values of both axes; a grid without one has a single value there. */
export function axes(grid, known) {
  const of = ({ name, text }) => (name ? valuesOf(text, known.get(name)) : []);
  return { x: of(grid.x), y: of(grid.y) };
}

/** The parameters of each cell's own, row by row. They share their seed, so that only the axes differ. */
export function cells(grid, params, known) {
  const { x, y } = axes(grid, known);
  const or = (values) => (values.length ? values : [undefined]);
  const shared = [grid.x.name, grid.y.name].includes("seed") ? {} : { seed: params.seed };
  return or(y).flatMap((below) =>
    or(x).map((beside) => {
      const first = changed(params, grid.x.name, beside, x);
      return { ...shared, ...first, ...changed({ ...params, ...first }, grid.y.name, below, y) };
    }),
  );
}

function changed(params, name, value, values) {
  if (value === undefined || !name) return {};
  if (name === REPLACE) return { prompt: (params.prompt ?? "").replaceAll(values[0], value) };
  // half of a size says nothing about the other half
  if (name === "width" || name === "height") return { width: params.width, height: params.height, [name]: value };
  return { [name]: value };
}
