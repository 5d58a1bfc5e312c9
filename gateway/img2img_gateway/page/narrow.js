/** Whether the window is narrow, for what a stylesheet alone cannot lay out. */
import { useEffect, useState } from "./html.js";

const query = matchMedia("(max-width: 760px)");

export function useNarrow() {
  const [narrow, setNarrow] = useState(query.matches);
  useEffect(() => {
    const changed = () => setNarrow(query.matches);
    query.addEventListener("change", changed);
    return () => query.removeEventListener("change", changed);
  }, []);
  return narrow;
}
