/** Indexes as `results.zip` wants them: "0,3,7-12". */
export function asRanges(indexes) {
  const sorted = [...indexes].sort((one, other) => one - other);
  const ranges = [];
  for (const index of sorted) {
    const last = ranges.at(-1);
    if (last && last[1] === index - 1) last[1] = index;
    else ranges.push([index, index]);
  }
  return ranges.map(([first, end]) => (first === end ? first : `${first}-${end}`)).join(",");
}
