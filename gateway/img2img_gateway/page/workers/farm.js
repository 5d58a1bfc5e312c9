/** The workers, and what there is to do for them, looked at every few seconds while the tab is seen. */
import { get } from "../api.js";
import { useCallback, useEffect, useState } from "../html.js";

const EVERY = 3000;

/** {workers, demand, error, look}; null until they are known. `look()` looks at once. */
export function useFarm() {
  const [found, setFound] = useState({ workers: null, demand: null, error: null });
  const look = useCallback(async () => {
    if (document.hidden) return;
    try {
      const [workers, demand] = await Promise.all([get("/v1/workers"), get("/v1/demand")]);
      workers.sort((one, other) => (one.model + one.id < other.model + other.id ? -1 : 1));
      setFound({ workers, demand, error: null });
    } catch (error) {
      setFound((before) => ({ ...before, error }));
    }
  }, []);
  useEffect(() => {
    look();
    const timer = setInterval(look, EVERY);
    document.addEventListener("visibilitychange", look);
    return () => {
      clearInterval(timer);
      document.removeEventListener("visibilitychange", look);
    };
  }, []);
  return { ...found, look };
}
