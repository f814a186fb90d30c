/**
 * What differs between two texts, as a unified diff: Myers' greedy algorithm over lines (E. Myers, "An O(ND) Difference
 * Algorithm and Its Variations", 1986). Bounded: texts that differ in more than DIFFERENCES_MAX lines are shown as one
 * replacement, as nobody reads more.
 */

const DIFFERENCES_MAX = 1_000;
const CONTEXT = 3;

interface Step {
  readonly mark: " " | "-" | "+";
  readonly line: string;
}

/** "" where both are the same. */
export function unifiedDiff(
  before: string,
  after: string,
  names: { readonly before: string; readonly after: string },
): string {
  if (before === after) return "";
  const steps = stepsOf(linesOf(before), linesOf(after));
  const hunks = hunksOf(steps);
  return `--- ${names.before}\n+++ ${names.after}\n${hunks.join("")}`;
}

/** A last line without an end is told from one that has one. */
function linesOf(text: string): readonly string[] {
  if (text === "") return [];
  const lines = text.split("\n");
  if (lines.at(-1) === "") lines.pop();
  else lines[lines.length - 1] += "\n\\ No newline at end of file";
  return lines;
}

function stepsOf(before: readonly string[], after: readonly string[]): readonly Step[] {
  let front = 0;
  while (front < before.length && front < after.length && before[front] === after[front]) front += 1;
  let back = 0;
  while (
    back < before.length - front &&
    back < after.length - front &&
    before[before.length - 1 - back] === after[after.length - 1 - back]
  )
    back += 1;
  const same = (line: string): Step => ({ mark: " ", line });
  return [
    ...before.slice(0, front).map(same),
    ...middle(before.slice(front, before.length - back), after.slice(front, after.length - back)),
    ...before.slice(before.length - back).map(same),
  ];
}

function middle(before: readonly string[], after: readonly string[]): readonly Step[] {
  const max = Math.min(before.length + after.length, DIFFERENCES_MAX);
  // reach[k + max]: how far the furthest path on diagonal k has come in `before`; one copy for each d to walk back.
  const reach = new Int32Array(2 * max + 3);
  const trail: Int32Array[] = [];
  for (let d = 0; d <= max; d++) {
    trail.push(reach.slice(max - d, max + d + 3));
    for (let k = -d; k <= d; k += 2) {
      const at = k + max + 1;
      const down = k === -d || (k !== d && reach[at - 1]! < reach[at + 1]!);
      let x = down ? reach[at + 1]! : reach[at - 1]! + 1;
      while (x < before.length && x - k < after.length && before[x] === after[x - k]) x += 1;
      reach[at] = x;
      if (x >= before.length && x - k >= after.length) return walkBack(before, after, trail);
    }
  }
  return [
    ...before.map((line): Step => ({ mark: "-", line })),
    ...after.map((line): Step => ({ mark: "+", line })),
  ];
}

function walkBack(
  before: readonly string[],
  after: readonly string[],
  trail: readonly Int32Array[],
): readonly Step[] {
  const steps: Step[] = [];
  let x = before.length;
  let y = after.length;
  for (let d = trail.length - 1; d >= 0; d--) {
    const reach = trail[d]!;
    const k = x - y;
    // `trail[d]` starts at diagonal -d - 1.
    const of = (diagonal: number) => reach[diagonal + d + 1]!;
    const down = k === -d || (k !== d && of(k - 1) < of(k + 1));
    const from = down ? of(k + 1) : of(k - 1);
    const startX = down ? from : from + 1;
    while (x > startX) {
      x -= 1;
      y -= 1;
      steps.push({ mark: " ", line: before[x]! });
    }
    if (d === 0) break;
    if (down) steps.push({ mark: "+", line: after[--y]! });
    else steps.push({ mark: "-", line: before[--x]! });
  }
  return steps.reverse();
}

function hunksOf(steps: readonly Step[]): readonly string[] {
  const hunks: string[] = [];
  let [oldLine, newLine] = [1, 1];
  for (let i = 0; i < steps.length; ) {
    const first = steps.findIndex(({ mark }, at) => at >= i && mark !== " ");
    if (first < 0) break;
    const start = Math.max(i, first - CONTEXT);
    oldLine += start - i;
    newLine += start - i;
    let end = first;
    for (let quiet = 0, at = first; at < steps.length && quiet <= 2 * CONTEXT; at++) {
      if (steps[at]!.mark === " ") quiet += 1;
      else {
        quiet = 0;
        end = at + 1;
      }
    }
    end = Math.min(steps.length, end + CONTEXT);
    const shown = steps.slice(start, end);
    const olds = shown.filter(({ mark }) => mark !== "+").length;
    const news = shown.filter(({ mark }) => mark !== "-").length;
    const spot = (line: number, count: number) => `${count === 0 ? line - 1 : line},${count}`;
    hunks.push(
      `@@ -${spot(oldLine, olds)} +${spot(newLine, news)} @@\n${shown.map(({ mark, line }) => `${mark}${line}\n`).join("")}`,
    );
    oldLine += olds;
    newLine += news;
    i = end;
  }
  return hunks;
}
