/** The studio: pictures, a prompt, every parameter; and the results as they come in. */
import { get } from "../api.js";
import { Button } from "../components/button.js";
import { orSay, toast } from "../components/toast.js";
import { html, useEffect, useMemo, useRef, useState } from "../html.js";
import { studio as text } from "../strings.js";
import { Heading } from "../view.js";
import { Axes } from "./axes.js";
import { Code } from "./code.js";
import { ControlUnits } from "./control_units.js";
import { hasInfotext, inputOf, maskPath, pictureOf } from "./files.js";
import { FillDialog, readImage, readInfotext, readJob } from "./fill.js";
import { changedOf, useForm, withMask } from "./form.js";
import { REPLACE, axes, isGrid } from "./grid.js";
import { Groups } from "./groups.js";
import { Insertions, styled } from "./insertions.js";
import { MaskDialog } from "./mask_dialog.js";
import { Pictures } from "./pictures.js";
import { Presets } from "./presets.js";
import { Prompts, SendBar } from "./prompts.js";
import { jobOf } from "./request.js";
import { Results } from "./results.js";
import { errorsOf, send } from "./send.js";

export default function Studio({ query }) {
  const [made, setMade] = useState(null);
  const [failed, setFailed] = useState(null);
  useEffect(() => {
    Promise.all([get("/v1/parameters"), get("/v1/models")]).then(
      ([parameters, models]) => setMade({ ...parameters, models: models.map(({ name }) => name) }),
      setFailed,
    );
  }, []);
  return html`<${Heading} title=${text.title} />
    ${failed && html`<p class="warning" role="alert">${failed.message}</p>`}
    ${made ? html`<${Form} made=${made} query=${query} />` : !failed && html`<p class="loading" role="status">${text.loading}</p>`}`;
}

/** `made`: what the form is made from: groups, control_unit, models. */
function Form({ made, query }) {
  const known = useMemo(() => byName(made.groups.flatMap((group) => group.parameters)), [made]);
  const unitFields = useMemo(() => byName(made.control_unit), [made]);
  const { form, change, setValue, fill, reset } = useForm();
  const [errors, setErrors] = useState({});
  const [open, setOpen] = useState(null);
  const [offered, setOffered] = useState(null);
  const [progress, setProgress] = useState(null);
  const [sent, setSent] = useState(null);
  const prompt = useRef("prompt");
  const [drawn, setDrawn] = useState(drawnSeed);
  const job = useMemo(() => jobOf(form, known, unitFields, drawn), [form, known, drawn]);

  const take = (found) => {
    const { entries, message, kind } = asForm(found, made.models, known, unitFields);
    fill(entries);
    setErrors({});
    setOpen(null);
    setOffered(null);
    toast(message, kind);
  };
  const fillBy = async (reading) => {
    try {
      take(await reading);
    } catch (error) {
      toast(error.message, "error");
    }
  };
  const fillFrom = (source) => fillBy(readInfotext(source));
  useEffect(() => {
    const from = query.get("job");
    const index = query.get("image");
    if (from) fillBy(index === null ? readJob(from) : readImage(from, index));
  }, []);
  useEffect(ignoreStrayDrops, []);
  const offer = async (file) => setOffered(file && (await hasInfotext(file)) ? file : null);

  const set = (parameter, value) => {
    setErrors(({ [parameter.name]: _, ...others }) => others);
    setValue(parameter, value);
  };
  const insert = (word) => {
    const field = document.getElementById(prompt.current);
    field.setRangeText(word, field.selectionStart, field.selectionEnd, "end");
    set(known.get(prompt.current), field.value);
  };
  const style = ({ prompt: words, negative_prompt: negative }) => {
    set(known.get("prompt"), styled(words, form.values.prompt ?? ""));
    set(known.get("negative_prompt"), styled(negative, form.values.negative_prompt ?? ""));
  };
  const setMask = (blob, forAll) => {
    const { image } = form.pictures[open.mask];
    const mask = blob && { ...pictureOf({ file: blob, path: maskPath(image.path) }), isPainted: true };
    change(withMask(form, open.mask, mask, forAll));
    setOpen(null);
  };
  const render = async () => {
    setErrors({});
    setProgress([0, 1]);
    try {
      const { found, leftOut } = await send(job, (done, n) => setProgress([done, n]));
      const withoutRefused = ({ pictures }) => ({ pictures: pictures.filter(({ image, mask }) => !leftOut.has(image) && !leftOut.has(mask)) });
      const grid = isGrid(form.grid) ? labelled({ ...form, ...withoutRefused(form) }, known, job) : null;
      if (leftOut.size) {
        change(withoutRefused);
        toast(text.sentWithout([...leftOut.values()].map(({ message }) => message)), "error");
      }
      setSent({ job: found, axes: grid });
      setDrawn(drawnSeed());
      setTimeout(() => document.getElementById("results")?.scrollIntoView({ block: "nearest" }));
    } catch (error) {
      setErrors(errorsOf(error, new Set(known.keys())));
      setTimeout(() => document.querySelector(".studio [aria-invalid=true], .studio .warning")?.focus());
    } finally {
      setProgress(null);
    }
  };
  const pressed = (event) => {
    if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey) || event.repeat || open) return;
    event.preventDefault();
    if (imagesOf(job) && progress === null) render();
  };
  const useResult = (address, index) => orSay(async () => {
    const blob = await get(address);
    const path = `result-${index + 1}.${blob.type.split("/")[1]}`;
    change({ pictures: [...form.pictures, inputOf(pictureOf({ file: blob, path }))] });
    toast(text.taken(path));
  });
  const blur = { x: Number(form.values.mask_blur_x ?? 4) || 0, y: Number(form.values.mask_blur_y ?? 4) || 0 };

  return html`<div class="studio" onKeyDown=${pressed}>
    <${Prompts} known=${known} values=${form.values} errors=${errors} onChange=${set} onFocus=${(name) => (prompt.current = name)}
      onFill=${fillFrom} onOpen=${(name) => setOpen({ [name]: true })} onReset=${() => { reset(); setErrors({}); }}>
      <${SendBar} form=${form} models=${made.models} errors=${errors} n=${imagesOf(job)} progress=${progress} onChange=${change} onSend=${render} />
    <//>
    <div class="outputs">${sent ? html`<${Results} key=${sent.job.id} sent=${sent} onUse=${useResult} />`
      : html`<section class="empty"><h2>${text.results}</h2><p>${text.noResults}</p></section>`}</div>
    <div class="inputs">
      <${Pictures} pictures=${form.pictures} mask=${form.mask} error=${errors.image} onChange=${(pictures) => change({ pictures })}
        onMask=${(index) => setOpen({ mask: index })} onInfotext=${offer} />
      ${offered && html`<div class="card row offer" role="status"><p>${text.offer(offered.name)}</p>
        <${Button} onClick=${() => fillFrom({ file: offered })}>${text.useParameters}<//></div>`}
      <${Groups} groups=${made.groups} values=${form.values} errors=${errors} onChange=${set} units=${form.units.length}
        control=${html`<${ControlUnits} fields=${made.control_unit} most=${known.get("control").max_length} units=${form.units}
          errors=${errors} onChange=${(units) => { setErrors({}); change({ units }); }} />`} />
      <${Axes} grid=${form.grid} known=${known} error=${gridError(errors, form.grid)} onChange=${(grid) => change({ grid })} />
      ${job.inputs.length > 0 && html`<${Code} job=${job} />`}
    </div>
    ${open?.insert && html`<${Insertions} onInsert=${insert} onStyle=${style} onClose=${() => setOpen(null)} />`}
    ${open?.presets && html`<${Presets} form=${form} onUse=${take} onClose=${() => setOpen(null)} />`}
    ${open?.fill && html`<${FillDialog} onFill=${fillFrom} onClose=${() => setOpen(null)} />`}
    ${open?.mask !== undefined && html`<${MaskDialog} picture=${form.pictures[open.mask].image}
      mask=${form.pictures[open.mask].mask ?? form.mask} blur=${blur} canBeForAll=${form.pictures.length > 1}
      isForAll=${form.mask !== null && !form.pictures[open.mask].mask} onDone=${setMask} onClose=${() => setOpen(null)} />`}
  </div>`;
}

const byName = (parameters) => new Map(parameters.map((each) => [each.name, each]));
const imagesOf = ({ inputs, params }) => inputs.length * (Number(params.images_per_input) || 1);
/** What is wrong with the values of an axis is shown there, too. */
const gridError = (errors, grid) => errors[grid.x.name] ?? errors[grid.y.name];

/**
 * What was found (see `readInfotext`) as entries of the form, and what to say of it: {entries, message, kind}.
 *
 * Values that are defaults are left out, and so is a model that is not among `models`.
 */
function asForm({ notes = [], model, ...found }, models, known, unitFields) {
  const isHere = models.includes(model);
  const values = changedOf(found.values, known);
  const units = found.units.map(({ picture, ...unit }) => ({ ...changedOf(unit, unitFields), picture }));
  const missing = model && !isHere ? [text.noModel(model)] : [];
  return {
    entries: { ...found, values, units, ...(isHere ? { model } : {}) },
    message: [text.filled(Object.keys(found.values).length), ...missing, ...notes].join(" "),
    kind: notes.length ? "error" : "info",
  };
}

/** Keeps a picture that is dropped beside everything from replacing the page; gives what ends that. */
function ignoreStrayDrops() {
  const ignore = (event) => event.preventDefault();
  const names = ["dragover", "drop"];
  names.forEach((name) => document.addEventListener(name, ignore));
  return () => names.forEach((name) => document.removeEventListener(name, ignore));
}

const drawnSeed = () => crypto.getRandomValues(new Uint32Array(1))[0];

/** The axes of a grid as its results are labelled. */
function labelled(form, known, job) {
  const values = axes(form.grid, known);
  const title = (name) => (name === REPLACE ? text.prompt : (known.get(name)?.title ?? ""));
  const axis = (which) => ({ title: title(form.grid[which].name), values: values[which] });
  const pictures = form.pictures.length ? form.pictures.map(({ image }) => image.path) : [job.params.prompt ?? text.result];
  return { x: axis("x"), y: axis("y"), pictures };
}
