/** What the form holds, and how one entry changes others. */
import { useCallback, useState } from "../html.js";
import { keptName, useSession } from "../view.js";
import { fromJson, toJson } from "./values.js";

const EMPTY_GRID = { x: { name: "", text: "" }, y: { name: "", text: "" } };
/** A newcomer's: results have the shape of their pictures. Pictures, masks and units' pictures are kept no longer than the tab. */
export const FIRST = { model: "", name: "", values: { fit: "0" }, units: [], grid: EMPTY_GRID };
/** What `fit` stands in place of. */
export const SIZES = ["width", "height"];
const ITS_PICTURES = { pictures: [], mask: null };

/** The form as it was when the studio was left, and whose it is. */
let left = { name: null, form: null };

function kept(name) {
  if (left.name === name) return left.form;
  try {
    return { ...FIRST, ...fromJson(localStorage.getItem(name) ?? "{}"), ...ITS_PICTURES };
  } catch {
    return { ...FIRST, ...ITS_PICTURES };
  }
}

/** A form as presets and the browser keep it: without pictures. */
export const plain = ({ model, values, units }) => ({ model, values, units: units.map(({ picture, ...unit }) => unit) });

/** {form, change, setValue, reset, fill}: the form, and what changes it. */
export function useForm() {
  const name = keptName("studio.form", useSession());
  const [form, setForm] = useState(() => kept(name));
  const change = useCallback((patch) => {
    setForm((old) => {
      const next = { ...old, ...(typeof patch === "function" ? patch(old) : patch) };
      left = { name, form: next };
      try {
        localStorage.setItem(name, toJson({ ...plain(next), name: next.name, grid: next.grid }));
      } catch {
        // the browser keeps nothing: the form is there until the tab is closed
      }
      return next;
    });
  }, []);
  const setValue = useCallback((parameter, value) => {
    change(({ values: { fit, ...others } }) => {
      // a size that is typed counts, be it the usual one
      const before = fit === undefined || SIZES.includes(parameter.name) ? others : { ...others, fit };
      return { values: withValue(before, parameter, value) };
    });
  }, []);
  /** In place of all parameters. */
  const fill = useCallback(({ values, units = [], ...more }) => change({ values, units, ...more }), []);
  const reset = useCallback(() => change({ ...FIRST }), []);
  return { form, change, setValue, fill, reset };
}

/** Those of `values` that are not the defaults of `known`, parameters by name; others are left out. */
export function changedOf(values, known) {
  const named = Object.entries(values).filter(([name]) => known.has(name));
  return named.reduce((all, [name, value]) => withValue(all, known.get(name), value), {});
}

/** The changes to `form` by which its picture at `index`, or each (`forAll`), has `mask`; null: none. */
export function withMask(form, index, mask, forAll) {
  if (forAll) return { mask, pictures: form.pictures.map((picture) => ({ ...picture, mask: null })) };
  return { pictures: form.pictures.map((picture, at) => (at === index ? { ...picture, mask } : picture)) };
}

/** `values` with one more; of a size that is said in two ways, the newer counts. */
export function withValue(values, { name, default: usual }, value) {
  const next = { ...values };
  if (String(value ?? "") === String(usual ?? "")) delete next[name];
  else next[name] = value;
  if (SIZES.includes(name) && name in next) delete next.fit;
  if (name === "fit" && name in next) {
    delete next.width;
    delete next.height;
  }
  if (name === "txt2img" && value) delete next.fit;
  return next;
}
