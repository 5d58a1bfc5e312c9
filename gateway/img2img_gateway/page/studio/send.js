/** Sends a job: its pictures first, each once, then itself. */
import { call } from "../api.js";
import { toJson } from "./values.js";

/** Uploads under way at once. */
const AT_ONCE = 4;

/** Whether it is the picture's own fault that it is refused: it is empty, or too large. */
const isItsFault = (error) => error.field === "body";

/**
 * {found, leftOut}: the job as the gateway has it; and, by pictures, why they were refused. Their inputs are left out.
 *
 * `onProgress` is told how many pictures of how many are there. Throws if nothing is left, or if all inputs need a picture
 * that was refused.
 */
export async function send(job, onProgress) {
  const all = [...Object.values(job.shared), ...job.inputs.flatMap(({ pictures }) => Object.values(pictures))];
  const ofAll = new Set(Object.values(job.shared));
  const leftOut = new Map();
  const left = [...new Set(all)].filter((picture) => !picture.key);
  const n = left.length;
  let done = 0;
  onProgress(done, n);
  const upload = async () => {
    for (let picture = left.pop(); picture; picture = left.pop()) {
      try {
        ({ key: picture.key } = await call("POST", "/v1/inputs", { data: picture.file })); // not sent again with the next job
      } catch (error) {
        error.message = `${picture.path}: ${error.message}`; // one of thousands, maybe
        if (ofAll.has(picture) || !isItsFault(error)) throw error;
        leftOut.set(picture, error);
      }
      done += 1;
      onProgress(done, n);
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, upload));
  const keys = (pictures) => Object.fromEntries(Object.entries(pictures).map(([role, { key }]) => [role, key]));
  const { model, name, params, shared } = job;
  const inputs = job.inputs.filter(({ pictures }) => !Object.values(pictures).some((each) => leftOut.has(each)));
  if (!inputs.length && leftOut.size) throw [...leftOut.values()][0];
  const body = {
    model,
    name,
    params,
    pictures: keys(shared),
    inputs: inputs.map(({ pictures, params: own }) => ({ pictures: keys(pictures), params: own, name: nameOf(pictures.image) })),
  };
  return { found: await call("POST", "/v1/jobs", { data: new Blob([toJson(body)], { type: "application/json" }) }), leftOut };
}

const sentence = (words) => `${words[0].toUpperCase()}${words.slice(1)}.`;

/** A file's name without its ending. */
const nameOf = (picture) => picture?.path.split("/").at(-1).replace(/(?<=.)\.[^.]*$/, "").slice(0, 255);

/**
 * What a refusal says, by the names of the form's fields; "" has what belongs to none.
 *
 * `names`: of the parameters.
 */
export function errorsOf(error, names) {
  const found = {};
  const told = error.errors ?? [{ field: error.field, allowed: error.allowed }];
  for (const { field = "", allowed } of told) {
    for (const each of field.split(", ")) {
      const name = each.replace(/^(inputs[.[]\d+\]?\.)?(params\.)?/, "").replace(/^control\.(\d+)/, "control/$1");
      const isKnown = names.has(name.replace(/\..*/, "")) || /^(control|model$|name$|image$)/.test(name);
      const key = isKnown ? name : "";
      found[key] ??= key && allowed ? sentence(allowed) : error.message;
    }
  }
  return found;
}
