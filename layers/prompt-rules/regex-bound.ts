/**
 * Bounds what a rule's regex can cost, from its source alone. A backtracking engine visits at most as many
 * paths from one start as the pattern has ways to match there, so a pattern whose ways and length are
 * bounded by constants is linear in the text. A search for attack strings (as recheck does) takes seconds
 * for patterns with counted gaps and may end undecided; this takes milliseconds and always decides.
 *
 * Ways are counted from the right. Two branches add up only where one text can begin both ("all" and
 * "al"); otherwise the dearer one counts, and a gap counts the places where what follows can begin:
 * `.{0,39}rules` has 8 ways, for "rules" fits 8 times at most into 40 places; `(?: all)?(?: of)? the` has one.
 */

/** Most ways to match from one start: three gaps of 50 units before words of four. */
const WAYS_MAX = 2048;
/** Longest possible match, UTF-16 units. */
const MATCH_CHARS_MAX = 400;

/** Units by which branches are told apart, and how many beginnings are kept before giving up on telling. */
const LEAD_CHARS = 12;
const LEADS_MAX = 2000;

type Node =
  | { readonly is: "edge" }
  | { readonly is: "any" }
  | { readonly is: "unit"; readonly unit: string }
  | { readonly is: "sequence"; readonly parts: readonly Node[] }
  | { readonly is: "either"; readonly branches: readonly Node[] }
  | { readonly is: "repeat"; readonly part: Node; readonly least: number; readonly most: number };

interface RegexBound {
  readonly ways: number;
  /** Longest match in units. */
  readonly length: number;
}

/** Patterns remembered, so that a reload measures only those that are new. */
const MEASURED_MAX = 10_000;
const measured = new Map<string, RegexBound>();

/** Throws an Error that says what to change when the pattern is outside the bounded subset. */
export function boundRegex(source: string): RegexBound {
  const known = measured.get(source);
  if (known !== undefined) return known;
  const bound = boundPattern(source);
  if (measured.size >= MEASURED_MAX) measured.clear();
  measured.set(source, bound);
  return bound;
}

function boundPattern(source: string): RegexBound {
  const pattern = new Parser(source).parse();
  const { least, most } = lengths(pattern);
  if (least === 0) throw new Error("it matches the empty text; make a part of it mandatory");
  if (most > MATCH_CHARS_MAX) {
    throw new Error(`its longest match has ${most} units, more than ${MATCH_CHARS_MAX}; shorten a gap`);
  }
  const { ways } = measure(pattern, { ways: 1, leads: ANYTHING });
  if (ways > WAYS_MAX) {
    throw new Error(
      `it can match in ${ways} ways from one place, more than ${WAYS_MAX}; shorten a gap or drop an optional part`,
    );
  }
  return { ways, length: most };
}

class Parser {
  #at = 0;
  readonly #source: string;
  constructor(source: string) {
    this.#source = source;
  }

  parse(): Node {
    const whole = this.#alternatives();
    if (this.#at < this.#source.length) throw new Error(`unmatched ")" at ${this.#at}`);
    return whole;
  }

  #alternatives(): Node {
    const branches = [this.#sequence()];
    while (this.#source[this.#at] === "|") {
      this.#at++;
      branches.push(this.#sequence());
    }
    return branches.length === 1 ? branches[0]! : { is: "either", branches };
  }

  #sequence(): Node {
    const parts: Node[] = [];
    while (this.#at < this.#source.length && !"|)".includes(this.#source[this.#at]!)) {
      parts.push(this.#repeated(this.#atom()));
    }
    return { is: "sequence", parts };
  }

  #atom(): Node {
    const unit = this.#source[this.#at++]!;
    switch (unit) {
      case "(": {
        if (this.#source[this.#at] === "?") {
          if (this.#source[this.#at + 1] !== ":")
            throw new Error("lookaround and named groups are not allowed");
          this.#at += 2;
        }
        const inner = this.#alternatives();
        if (this.#source[this.#at++] !== ")") throw new Error('a "(" is not closed');
        return inner;
      }
      case "[":
        while (this.#at < this.#source.length && this.#source[this.#at] !== "]") {
          this.#at += this.#source[this.#at] === "\\" ? 2 : 1;
        }
        if (this.#source[this.#at++] !== "]") throw new Error('a "[" is not closed');
        return { is: "any" };
      case "\\":
        return this.#escape();
      case ".":
        return { is: "any" };
      case "^":
      case "$":
        throw new Error(`"${unit}" would stand for the edge of a window; write \\n for the edge of the text`);
      case "*":
      case "+":
      case "?":
      case "{":
        throw new Error(`"${unit}" at ${this.#at - 1} repeats nothing`);
      default:
        return { is: "unit", unit: unit.toLowerCase() };
    }
  }

  #escape(): Node {
    const name = this.#source[this.#at++];
    if (name === undefined) throw new Error("it ends in a backslash");
    if (name === "b" || name === "B") return { is: "edge" };
    if (name === "n") return { is: "unit", unit: "\n" };
    if (/[dDwWsS]/.test(name)) return { is: "any" };
    if (/[1-9k]/.test(name)) throw new Error("backreferences are not allowed");
    if (/[a-z0-9]/i.test(name)) throw new Error(`"\\${name}" is not allowed`);
    return { is: "unit", unit: name };
  }

  #repeated(part: Node): Node {
    const rest = this.#source.slice(this.#at, this.#at + 12);
    if (/^[*+]/.test(rest)) throw new Error(`"${rest[0]}" has no bound; write {0,40}, for example`);
    if (!/^[?{]/.test(rest)) return part;
    const found = /^(?:\?|\{(\d{1,3})(?:,(\d{1,3}))?\})\??/.exec(rest);
    if (found === null)
      throw new Error('a "{" begins no bounded repetition; write {0,40}, or "\\{" for the unit');
    this.#at += found[0].length;
    if (/^[*+?{]/.test(this.#source.slice(this.#at))) throw new Error("a repetition is repeated");
    if (lengths(part).most === 0) throw new Error("something without length is repeated");
    const least = Number(found[1] ?? 0);
    const most = Number(found[2] ?? found[1] ?? 1);
    if (most > MATCH_CHARS_MAX) throw new Error(`{${least},${most}} is more than ${MATCH_CHARS_MAX}`);
    return { is: "repeat", part, least, most };
  }
}

function lengths(node: Node): { least: number; most: number } {
  switch (node.is) {
    case "edge":
      return { least: 0, most: 0 };
    case "any":
    case "unit":
      return { least: 1, most: 1 };
    case "sequence": {
      const parts = node.parts.map(lengths);
      return {
        least: parts.reduce((sum, p) => sum + p.least, 0),
        most: parts.reduce((sum, p) => sum + p.most, 0),
      };
    }
    case "either": {
      const branches = node.branches.map(lengths);
      return {
        least: Math.min(...branches.map((b) => b.least)),
        most: Math.max(...branches.map((b) => b.most)),
      };
    }
    case "repeat": {
      const part = lengths(node.part);
      return { least: part.least * node.least, most: part.most * node.most };
    }
    default:
      return node satisfies never;
  }
}

/** A part and all that follows it: in how many ways it can match, and what a text must begin with. */
interface Tail {
  readonly ways: number;
  /** Each at most LEAD_CHARS units; a shorter one is followed by anything. */
  readonly leads: ReadonlySet<string>;
}

const ANYTHING: ReadonlySet<string> = new Set([""]);

function measure(node: Node, after: Tail): Tail {
  switch (node.is) {
    case "edge":
      return after;
    case "any":
      return { ways: after.ways, leads: ANYTHING };
    case "unit":
      return {
        ways: after.ways,
        leads: new Set([...after.leads].map((lead) => (node.unit + lead).slice(0, LEAD_CHARS))),
      };
    case "sequence":
      return node.parts.reduceRight((tail, part) => measure(part, tail), after);
    case "either":
      return join(node.branches.map((branch) => measure(branch, after)));
    case "repeat": {
      if (node.part.is === "any") {
        const places = Math.ceil((node.most - node.least + 1) / spacing(after.leads));
        return { ways: places * after.ways, leads: ANYTHING };
      }
      let tail = after;
      for (let times = node.most; times > 0; times--) {
        const again = measure(node.part, tail);
        tail = times > node.least ? join([again, after]) : again;
      }
      return tail;
    }
    default:
      return node satisfies never;
  }
}

/**
 * All branches that one text can enter have leads of which each is the beginning of another. So the
 * longest of them stands for the text, and the worst text is among the leads.
 */
function join(branches: readonly Tail[]): Tail {
  const owners = new Map<string, number[]>();
  branches.forEach((branch, index) => {
    for (const lead of branch.leads) owners.set(lead, [...(owners.get(lead) ?? []), index]);
  });
  if (owners.size > LEADS_MAX || owners.has("")) {
    return { ways: branches.reduce((sum, branch) => sum + branch.ways, 0), leads: ANYTHING };
  }
  let worst = 0;
  for (const text of owners.keys()) {
    const entered = new Set<number>();
    for (let length = 1; length <= text.length; length++) {
      for (const index of owners.get(text.slice(0, length)) ?? []) entered.add(index);
    }
    let ways = 0;
    for (const index of entered) ways += branches[index]!.ways;
    worst = Math.max(worst, ways);
  }
  return { ways: worst, leads: new Set(owners.keys()) };
}

/** The least distance between two places of one text at which these beginnings can both stand. */
function spacing(leads: ReadonlySet<string>): number {
  const beginnings = new Set<string>();
  let shortest = LEAD_CHARS;
  for (const lead of leads) {
    for (let length = 0; length <= lead.length; length++) beginnings.add(lead.slice(0, length));
    shortest = Math.min(shortest, lead.length);
  }
  for (let distance = 1; distance < shortest; distance++) {
    for (const lead of leads) {
      const rest = lead.slice(distance);
      if (beginnings.has(rest)) return distance;
      for (let length = 1; length < rest.length; length++)
        if (leads.has(rest.slice(0, length))) return distance;
    }
  }
  return Math.max(1, shortest);
}
