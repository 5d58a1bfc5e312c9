/** The same job in other words: for curl, for Python and for a shell. What they say is what is submitted. */
import { toJson } from "./values.js";

/** `text` as one word of a POSIX shell. */
export const shellWord = (text) => (/^[\w@%+:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`);

/** Lines that a shell writes into `file`, whatever is in them. */
function written(file, lines) {
  let end = "END";
  while (lines.includes(end)) end += "_";
  return `cat > ${file} <<'${end}'\n${lines.join("\n")}\n${end}\n`;
}

const continued = (words) => words.join(" \\\n  ");
const pathsOf = (pictures) => Object.fromEntries(Object.entries(pictures).map(([role, each]) => [role, each.path]));

/** For curl. `origin`: the gateway's; `withKey`: it asks for one. */
export function asCurl(job, { origin, withKey }) {
  const key = withKey ? ['-H "Authorization: Bearer $IMG2IMG_KEY"'] : [];
  const submit = job.inputs.every(({ pictures }) => pictures.image) ? form(job) : body(job);
  const words = ["curl -sS --fail-with-body", ...key, `${origin}/v1/jobs${submit.path}`, ...submit.words];
  const ask = ["curl -sS", ...key].join(" ");
  return [
    `job=$(${continued(words)} |`,
    `  python3 -c 'import json, sys; print(json.load(sys.stdin)["id"])')`,
    `${ask} -N ${origin}/v1/jobs/$job/events`,
    `${ask} -o results.zip ${origin}/v1/jobs/$job/results.zip`,
    "",
  ].join("\n");
}

/** As a form: fields first, then the pictures, each with what is its own. */
function form(job) {
  const text = (name, value) => `--form-string ${shellWord(`${name}=${value}`)}`;
  const file = (role, { path }) => `-F ${shellWord(`${role}=@"${path.replace(/[\\"]/g, "\\$&")}"`)}`;
  const ownWords = ({ pictures, params }) => {
    const { image, ...others } = pictures;
    const roles = Object.entries(others).map(([role, each]) => file(role, each));
    return [file("image", image), ...roles, ...(Object.keys(params).length ? [text("params", toJson(params))] : [])];
  };
  return {
    path: "/upload",
    words: [
      ...["model", "name"].filter((name) => job[name]).map((name) => text(name, job[name])),
      text("params", toJson(job.params)),
      ...Object.entries(job.shared).map(([role, each]) => file(role, each)),
      ...job.inputs.flatMap(ownWords),
    ],
  };
}

/** As JSON, for what has no pictures. */
function body({ model, name, params, inputs }) {
  const whole = { model, name, params, inputs: inputs.map((each) => each.params) };
  return { path: "", words: ["-H 'Content-Type: application/json'", `-d ${shellWord(toJson(whole))}`] };
}

/** For Python. */
export function asPython(job, { origin, withKey }) {
  const own = job.inputs.some(({ pictures, params }) => pictures.mask || Object.keys(params).length || !pictures.image);
  const inputs = job.inputs.map(({ pictures, params }) =>
    own ? `Picture(${named({ ...pathsOf(pictures), ...(Object.keys(params).length ? { params } : {}) })})` : literal(pictures.image.path),
  );
  const { mask, ...controls } = pathsOf(job.shared);
  const shared = { mask, pictures: Object.keys(controls).length ? controls : undefined };
  const given = Object.entries({ model: job.model, name: job.name, ...shared, ...job.params });
  return [
    `from img2img_producer import Farm${own ? ", Picture" : ""}`,
    "",
    `with Farm(${literal(origin)}) as farm:${withKey ? "  # the key is in IMG2IMG_KEY" : ""}`,
    "    job = farm.submit(",
    inputs.length === 1 ? `        [${inputs[0]}],` : `        [\n${inputs.map((each) => `            ${each},\n`).join("")}        ],`,
    ...given.filter(([, value]) => value !== undefined).map(([name, value]) => `        ${name}=${literal(value)},`),
    "    )",
    "    for result in farm.results(job):",
    "        if result.reason is None:",
    '            result.save("out")',
    "        else:",
    '            print(result.name, "failed:", result.reason)',
    "",
  ].join("\n");
}

const named = (fields) =>
  Object.entries(fields)
    .map(([name, value]) => `${name}=${literal(value)}`)
    .join(", ");

/** A value as Python writes it; its texts are JSON's, but for what JSON need not escape. */
function literal(value) {
  if (value === null) return "None";
  if (value === true || value === false) return value ? "True" : "False";
  if (typeof value === "string") return toJson(value).replace(/[\u007f-\u009f\u2028\u2029]/g, (each) => `\\u${each.charCodeAt(0).toString(16).padStart(4, "0")}`);
  if (Array.isArray(value)) return `[${value.map(literal).join(", ")}]`;
  if (typeof value === "object") return `{${Object.entries(value).map(([name, each]) => `${literal(name)}: ${literal(each)}`).join(", ")}}`;
  return String(value);
}

/** For a shell, which has the key in IMG2IMG_KEY. What an option cannot say is in files that it writes before. */
export function asShell(job, { origin }) {
  const words = [`img2img --farm-url ${origin} render`];
  let files = "";
  const { mask, ...controls } = job.shared;
  const isListed =
    Object.keys(controls).length > 0 ||
    job.inputs.some(({ pictures, params }) => pictures.mask || !pictures.image || Object.keys(params).length);
  if (isListed) {
    const lines = job.inputs.map(({ pictures, params }) => toJson({ ...pathsOf(controls), ...pathsOf(pictures), ...params }));
    files += written("inputs.jsonl", lines);
    words.push("--manifest inputs.jsonl");
  } else {
    words.push(...job.inputs.map(({ pictures }) => shellWord(pictures.image.path.replace(/^-/, "./-"))));
  }
  const { control, ...options } = job.params;
  if (control) {
    files += written("params.json", [toJson({ control })]);
    words.push("--params params.json");
  }
  if (mask) words.push(`--mask ${shellWord(mask.path)}`);
  words.push("--out out");
  if (job.model) words.push(`--model ${shellWord(job.model)}`);
  if (job.name) words.push(`--name=${shellWord(job.name)}`);
  words.push(...Object.entries(options).flatMap(([name, value]) => option(name, value)));
  return `${files}${continued(words)}\n`;
}

function option(name, value) {
  if (value === null) return [];
  const word = name.replaceAll("_", "-");
  if (typeof value === "boolean") return [value ? `--${word}` : `--no-${word}`];
  return [`--${word}=${shellWord(String(value))}`];
}
