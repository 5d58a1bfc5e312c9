/** Values between what people type, the browser's numbers and JSON. */

/** A value of `parameter` that was typed; what is no number stays a text, for the gateway to refuse. */
export function typed(parameter, text) {
  if (typeof text !== "string" || !["integer", "number"].includes(parameter.type)) return text;
  const plain = text.trim();
  if (plain === "" && parameter.nullable) return null;
  if (/^[+-]?\d+$/.test(plain)) {
    const whole = Number(plain);
    return Number.isSafeInteger(whole) ? whole : BigInt(plain); // seeds have 64 bits
  }
  return plain !== "" && Number.isFinite(Number(plain)) ? Number(plain) : text;
}

/** JSON, with whole numbers of any size. */
export function toJson(value) {
  if (typeof value === "bigint") return String(value);
  if (Array.isArray(value)) return `[${value.map(toJson).join(", ")}]`;
  if (value === null || typeof value !== "object") return JSON.stringify(value);
  const fields = Object.entries(value).filter(([, each]) => each !== undefined);
  return `{${fields.map(([name, each]) => `${JSON.stringify(name)}: ${toJson(each)}`).join(", ")}}`;
}

/** JSON back; whole numbers that a double cannot hold are BigInts, where the browser tells how they were written. */
export const fromJson = (text) =>
  JSON.parse(text, (_, value, context) =>
    typeof value === "number" && Number.isInteger(value) && !Number.isSafeInteger(value) && context?.source
      ? BigInt(context.source)
      : value,
  );
