/**
 * Reading of a request body that may hold anything: each reader gives the value when it has the expected
 * shape and nothing otherwise. `BadCall` is how an endpoint says that a body will not do; the server
 * answers it in the vendor's own error shape.
 */
export type JsonObject = Readonly<Record<string, unknown>>;

export class BadCall extends Error {
  readonly status: number;
  readonly param: string | null;
  constructor(message: string, param: string | null = null, status = 400) {
    super(message);
    this.name = "BadCall";
    this.param = param;
    this.status = status;
  }
}

export function asObject(value: unknown): JsonObject | undefined {
  return typeof value === "object" && value !== null && !Array.isArray(value)
    ? (value as JsonObject)
    : undefined;
}

export function asList(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : [];
}

export function asText(value: unknown): string | undefined {
  return typeof value === "string" ? value : undefined;
}

export function asCount(value: unknown): number | undefined {
  return typeof value === "number" && Number.isInteger(value) && value >= 0 ? value : undefined;
}

export function needText(body: JsonObject, name: string): string {
  const value = body[name];
  if (value === undefined || value === null || value === "") {
    throw new BadCall(`Missing required parameter: '${name}'.`, name);
  }
  if (typeof value !== "string") throw new BadCall(`Invalid type for '${name}': expected a string.`, name);
  return value;
}

export function needList(body: JsonObject, name: string): readonly unknown[] {
  const value = body[name];
  if (value === undefined) throw new BadCall(`Missing required parameter: '${name}'.`, name);
  if (!Array.isArray(value) || value.length === 0) {
    throw new BadCall(`Invalid '${name}': expected an array with at least one element.`, name);
  }
  return value;
}

/** An estimate that depends on the text alone: about four characters a token, as vendors say of English. */
export function tokensOf(...parts: readonly unknown[]): number {
  let characters = 0;
  for (const part of parts)
    if (part !== undefined && part !== null) characters += JSON.stringify(part).length;
  return Math.ceil(characters / 4);
}
