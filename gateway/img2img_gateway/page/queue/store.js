/** The jobs as they are now: listed page by page, kept up to date by the stream of what happens to them. */
import { follow, get } from "../api.js";
import { useEffect, useReducer, useRef } from "../html.js";
import { ACTIVE, ENDED } from "../states.js";

/** Milliseconds that a stream may take to begin before jobs are listed without it. */
const LATE = 2000;
/** Jobs that a request gives, and those under way that are listed at most. */
const PAGE = 200;
const MOST_ACTIVE = 20_000;
const isActive = (job) => ACTIVE.includes(job.state);
const byPriority = (one, other) => other.priority - one.priority || (one.created < other.created ? -1 : 1);
const byEnd = (one, other) => (one.created < other.created ? 1 : -1);

/** Tells what it has by `changed`; ends with `close`. `filter`: {search, states, model, owner, tags}. */
class Jobs {
  constructor(filter, changed) {
    this.filter = filter;
    this.changed = changed;
    this.open();
  }

  open() {
    this.byId = new Map();
    this.toldAt = new Map();
    this.next = "";
    this.loads = 0;
    this.error = null;
    this.pages = Promise.resolve();
    this.closed = new AbortController();
    this.isBegun = false;
    this.last ??= null;
    this.stop = follow(
      () => (this.last ? `/v1/events?after=${this.last}` : "/v1/events"),
      {
        jobs: (update, id) => {
          // what was listed while no stream had begun may have changed before it did
          if (this.isBegun && this.last === null) return this.restart(id);
          this.last = id;
          update.jobs.forEach((job) => this.take(job));
          update.gone.forEach((gone) => this.drop(gone));
          if (update.jobs.length || update.gone.length) this.changed();
          return this.begin();
        },
        lost: (_, id) => this.restart(id),
      },
      { onError: () => this.begin() },
    );
    this.late = setTimeout(() => this.begin(), LATE);
  }

  get isLoading() {
    return !this.isBegun || this.loads > 0;
  }

  /** Asks for the pages once the stream has begun: what happens between the two is told by the one or the other. */
  begin() {
    if (this.isBegun) return;
    this.isBegun = true;
    this.loadActive();
    this.loadMore();
  }

  restart(last) {
    this.last = last;
    this.reload();
  }

  close() {
    this.closed.abort();
    this.stop();
    clearTimeout(this.late);
  }

  reload() {
    this.close();
    this.open();
  }

  /** Jobs under way, by priority and age; those that have ended, newest first. */
  list() {
    const all = [...this.byId.values()];
    const active = all.filter(isActive).sort(byPriority);
    return [...active, ...all.filter((job) => !isActive(job)).sort(byEnd)];
  }

  /** What the stream tells of a job. */
  take(job) {
    this.toldAt.set(job.id, performance.now());
    if (this.byId.has(job.id) || this.fits(job)) this.byId.set(job.id, job);
  }

  /** It was removed. */
  drop(id) {
    this.toldAt.set(id, performance.now());
    this.byId.delete(id);
  }

  /** What was answered to a request of the moment `asked`, unless the stream has told since: that is newer. */
  answer(job, asked) {
    if (!(this.toldAt.get(job.id) >= asked)) this.byId.set(job.id, job);
  }

  /** Looks at a job that somebody has changed, before the stream tells of it. */
  async look(id) {
    const asked = performance.now();
    this.answer(await get(`/v1/jobs/${id}`, { signal: this.closed.signal }), asked);
    this.changed();
  }

  fits(job) {
    const { search, states, model, owner, tags } = this.filter;
    const wanted = search.toLowerCase();
    return (
      (!states.length || states.includes(job.state)) &&
      (!model || job.model === model) &&
      (!owner || job.owner === owner) &&
      tags.every((tag) => job.tags.includes(tag)) &&
      ((job.name ?? "").toLowerCase().includes(wanted) || job.id.includes(wanted))
    );
  }

  wanted(states) {
    return this.filter.states.length ? states.filter((each) => this.filter.states.includes(each)) : states;
  }

  async page(states, start, limit) {
    const query = new URLSearchParams({ limit, start });
    states.forEach((each) => query.append("state", each));
    if (this.filter.search) query.set("search", this.filter.search);
    if (this.filter.model) query.set("model", this.filter.model);
    if (this.filter.owner) query.set("owner", this.filter.owner);
    this.filter.tags.forEach((tag) => query.append("tag", tag));
    const { signal } = this.closed;
    const asked = performance.now();
    const found = await get(`/v1/jobs?${query}`, { signal });
    if (signal.aborted) return null;
    found.jobs.forEach((job) => this.answer(job, asked));
    return found.next;
  }

  /** All that is under way: its order is by priority, which no page knows. */
  async loadActive() {
    const states = this.wanted(ACTIVE);
    if (!states.length) return;
    await this.guarded(async () => {
      let start = "";
      while (start !== null && this.byId.size < MOST_ACTIVE) {
        start = await this.page(states, start, 1000);
        this.changed();
      }
    });
  }

  /** The next page of those that have ended; again while pages come back empty. */
  loadMore() {
    const states = this.wanted(ENDED);
    if (!states.length) this.next = null;
    const load = () => this.guarded(async () => {
      const before = this.byId.size;
      while (this.next !== null && this.byId.size === before) this.next = await this.page(states, this.next, PAGE);
    });
    this.pages = this.pages.then(load);
  }

  async guarded(action) {
    const { signal } = this.closed;
    this.loads += 1;
    try {
      await action();
    } catch (error) {
      if (signal.aborted) return;
      this.error = error;
    }
    if (signal.aborted) return;
    this.loads -= 1;
    this.changed();
  }
}

/** {jobs, isLoading, error, hasMore, more, look, drop, reload}; `look(id)` and `drop(id)` show what an action has changed before the stream tells it. */
export function useJobs(filter) {
  const [, changed] = useReducer((count) => count + 1, 0);
  const store = useRef(null);
  const key = JSON.stringify(filter);
  useEffect(() => {
    store.current = new Jobs(filter, changed);
    changed();
    return () => store.current.close();
  }, [key]);
  const now = store.current;
  return {
    jobs: now ? now.list() : [],
    isLoading: !now || now.isLoading,
    error: now?.error ?? null,
    hasMore: now ? now.next !== null : false,
    more: () => now?.loadMore(),
    look: (id) => now?.look(id),
    drop: (id) => {
      now?.drop(id);
      changed();
    },
    reload: () => now?.reload(),
  };
}
