/** One job and the states of its images, kept up to date by the job's stream of events. */
import { follow, get } from "../api.js";
import { useEffect, useReducer, useRef } from "../html.js";
import { ENDED, IMAGE_STATES } from "../states.js";

/** Images of which the names are asked for at a time, and known at most. */
const PAGE = 100;
const KNOWN = 20_000;
/** Milliseconds in which several changes of the job are one, and between two looks at how fast it goes. */
const SOON = 300;
const LOOK = 5000;

const countsOf = ({ done, failed, running, state }) => ({ done, failed, running, state });

/** Tells what it has by `changed`; ends with `close`. */
class JobImages {
  constructor(id, changed) {
    this.address = `/v1/jobs/${id}`;
    this.changed = changed;
    this.closed = new AbortController();
    this.job = null;
    this.params = null;
    this.error = null;
    this.states = new Uint8Array(0);
    this.known = new Map();
    this.asked = new Set();
    this.byState = null;
    this.news = 0;
    this.since = null;
    this.isStale = false;
    this.looking = null;
    this.look();
    const told = (update) => this.tell(update);
    // a stream that goes on after a break has what happened meanwhile only as far as the farm remembers it
    const again = () => !this.job?.finished && this.look();
    this.stop = follow(() => `${this.address}/events`, { news: told, end: told }, { onAgain: again });
    this.timer = setInterval(() => !this.job?.finished && !document.hidden && this.lookAtJob(), LOOK);
  }

  close() {
    this.closed.abort();
    this.stop();
    clearTimeout(this.soon);
    clearInterval(this.timer);
  }

  get(path) {
    return get(`${this.address}${path}`, { signal: this.closed.signal });
  }

  async guarded(action) {
    try {
      await action();
      this.error = null;
    } catch (error) {
      if (error.name === "AbortError") return;
      this.error = error;
    }
    this.changed();
  }

  lookAtJob() {
    return this.guarded(async () => {
      const before = this.news;
      const job = await this.get("");
      // what was told meanwhile is newer than the answer
      this.job = this.news === before ? job : { ...job, ...countsOf(this.job) };
    });
  }

  /** The job, and the states of all its images; once more after a look that is under way. */
  look() {
    this.isStale = true;
    this.looking ??= this.guarded(async () => {
      while (this.isStale) {
        this.isStale = false;
        await this.lookAtAll();
      }
    }).finally(() => (this.looking = null));
    return this.looking;
  }

  async lookAtAll() {
    const told = (this.since = []);
    this.params ??= await this.get("/params");
    const job = await this.get("");
    const states = new Uint8Array(job.n);
    let at = 0;
    for (let start = 0; start !== null; ) {
      const { runs, next } = await this.get(`/states?start=${start}`);
      for (const [state, count] of runs) {
        states.fill(IMAGE_STATES.indexOf(state), at, at + count);
        at += count;
      }
      start = next;
    }
    Object.assign(this, { job, states, since: null, byState: null });
    told.forEach((update) => this.take(update));
  }

  tell(update) {
    this.news += 1;
    // the answers that are under way may be older
    this.since?.push(update);
    if (!this.job) return;
    this.take(update);
    // what happens to the job itself may have changed many images
    if (ENDED.includes(update.state) || update.events.some(({ index }) => index === null)) {
      clearTimeout(this.soon);
      this.soon = setTimeout(() => this.look(), SOON);
    }
    this.changed();
  }

  take(update) {
    this.job = { ...this.job, ...countsOf(update) };
    for (const { index, state: of, reason } of update.events) {
      if (index === null) continue;
      this.states[index] = IMAGE_STATES.indexOf(of);
      if (of === "failed") this.known.set(index, { ...this.known.get(index), index, reason });
    }
    this.byState = null;
  }

  /** Indexes of the images in a state. */
  of(state) {
    if (this.byState === null) {
      this.byState = IMAGE_STATES.map(() => []);
      this.states.forEach((at, index) => this.byState[at].push(index));
    }
    return this.byState[IMAGE_STATES.indexOf(state)];
  }

  /** Have the names of those of `indexes` known that are not; of one state alone where `state` is given. */
  name(indexes, state) {
    const missing = indexes.find((index) => !this.known.has(index));
    const key = `${state}:${missing}`;
    if (missing === undefined || this.asked.has(key)) return;
    this.asked.add(key);
    const start = state ? missing : missing - (missing % PAGE);
    this.guarded(async () => {
      const found = await this.get(`/images?limit=${PAGE}&start=${start}${state ? `&state=${state}` : ""}`);
      if (this.known.size > KNOWN) this.known.clear();
      found.images.forEach((image) => this.known.set(image.index, image));
      this.asked.delete(key);
      if (found.images.length) this.name(indexes, state);
    });
  }
}

/** {images, version}: null until something is known; `version` changes with what is in `images`. */
export function useImages(id) {
  const [version, changed] = useReducer((count) => count + 1, 0);
  const images = useRef(null);
  useEffect(() => {
    images.current = new JobImages(id, changed);
    changed();
    return () => images.current.close();
  }, [id]);
  return { images: images.current, version };
}
