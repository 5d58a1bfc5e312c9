/** What the form asks for, as a job takes it: parameters, inputs, pictures. */
import { cells, isGrid } from "./grid.js";
import { typed } from "./values.js";

/**
 * The job that a form asks for: {model, params, shared, inputs}.
 *
 * `shared` are pictures by their roles, for all inputs; each of `inputs` is {pictures, params}. A picture is
 * {file, path}. `known` and `unitFields` are parameters, and fields of control units, by name;
 * `drawn` is the seed that a grid's cells share where none is given, so that they differ by their axes alone.
 */
export function jobOf(form, known, unitFields, drawn) {
  const params = typedAll(form.values, known);
  if (params.fit === undefined || params.fit === null) {
    delete params.fit;
    params.width ??= known.get("width").default;
    params.height ??= known.get("height").default;
  }
  if (isGrid(form.grid) && (params.seed ?? -1) === -1) params.seed = drawn;
  if (form.units.length) params.control = form.units.map(({ picture, ...unit }) => typedAll(unit, unitFields));
  const shared = Object.fromEntries(
    form.units.flatMap(({ picture }, number) => (picture ? [[`control/${number}`, picture]] : [])),
  );
  if (form.mask && form.pictures.length) shared.mask = form.mask;
  const pictures = params.txt2img && !form.pictures.length ? [{}] : form.pictures;
  const own = isGrid(form.grid) ? cells(form.grid, params, known) : [{}];
  const inputs = pictures.flatMap((picture) => own.map((values) => ({ pictures: rolesOf(picture), params: { ...picture.params, ...values } })));
  return { model: form.model || undefined, name: form.name || undefined, params, shared, inputs };
}

const typedAll = (values, known) =>
  Object.fromEntries(Object.entries(values).map(([name, value]) => [name, known.has(name) ? typed(known.get(name), value) : value]));

function rolesOf({ image, mask }) {
  return Object.fromEntries(Object.entries({ image, mask }).filter(([, each]) => each));
}
