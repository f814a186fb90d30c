/** Every place of a JSON value where a text could stand, and copies of the value with a text put there. */

export interface Plant {
  /** JSON Pointer of the place; one that ends in "#name" is the member's name. */
  readonly place: string;
  put(text: string): unknown;
}

/** One plant for each string, each member's name, and a member that nobody knows in each object. */
export function plants(value: unknown): Plant[] {
  const found: Plant[] = [];
  walk(value, "", (next) => next, found);
  return found;
}

type Rebuild = (next: unknown) => unknown;

function walk(value: unknown, place: string, rebuild: Rebuild, found: Plant[]): void {
  if (typeof value === "string") {
    found.push({ place, put: (text) => rebuild(text) });
  } else if (Array.isArray(value)) {
    for (const [i, item] of value.entries())
      walk(item, `${place}/${i}`, (next) => rebuild(value.toSpliced(i, 1, next)), found);
  } else if (typeof value === "object" && value !== null) {
    const members = Object.entries(value);
    for (const [i, [name, member]] of members.entries()) {
      const replaced = (entry: [string, unknown]) =>
        rebuild(Object.fromEntries(members.toSpliced(i, 1, entry)));
      found.push({ place: `${place}/${name}#name`, put: (text) => replaced([text, member]) });
      walk(member, `${place}/${name}`, (next) => replaced([name, next]), found);
    }
    found.push({ place: `${place}/novel`, put: (text) => rebuild({ ...value, novel: text }) });
    found.push({
      place: `${place}/novel/0/deep`,
      put: (text) => rebuild({ ...value, novel: [{ deep: text }] }),
    });
  }
}
