/**
 * One policy's pass, in a thread of its own: reads the records, puts them in the order in which they came, and posts
 * outcomes in batches, a bounded number ahead of whoever reads them.
 */
import { join } from "node:path";
import { parentPort, workerData } from "node:worker_threads";
import { layerKinds } from "../../layers/index.ts";
import { CONTENT_KEY_VARIABLE, openContentKey } from "../ledger/content-format.ts";
import { ContentReader } from "../ledger/content-reader.ts";
import type { Decision } from "../ledger/decision.ts";
import { sequencesOf } from "../ledger/segments.ts";
import { readSpool } from "../ledger/spool.ts";
import { compilePolicy } from "../policy/compile.ts";
import { openReading, POLICY_FILE } from "../policy/policy-folder.ts";
import type { Against, FromPass, Outcome, PassOptions } from "./outcome.ts";
import { Pass, type Started } from "./pass.ts";
import { openWorld } from "./worlds.ts";

const BATCH = 128;
const BATCHES_AHEAD = 8;
/** The spool is in the order of ends: so many records are looked at to find which came first. */
const REORDER = 2_048;
/** Requests under way at once; past it the next to end does so early. */
const RUNNING_MAX = 10_000;

const port = parentPort!;
const post = (message: FromPass) => port.postMessage(message);
let acknowledged = 0;
let wake: (() => void) | undefined;

async function run(options: PassOptions): Promise<void> {
  const { policy, dataDir } = options;
  const world = await openWorld(dataDir, options);
  try {
    const reading = await openReading(policy.dir);
    const fallback = policy.fallbackDir === undefined ? undefined : await openReading(policy.fallbackDir);
    const artifact = async (path: string) =>
      reading.file(path).catch((error: unknown) => {
        if (fallback === undefined) throw error;
        return fallback.file(path);
      });
    const compiled = await compilePolicy({
      file: {
        path: join(policy.dir, POLICY_FILE),
        content: policy.text ?? (await reading.file(POLICY_FILE)),
      },
      artifact,
      kinds: layerKinds,
      portsFor: (seat) => world.portsFor(seat),
    });
    if (!compiled.ok) return post({ kind: "problems", problems: compiled.problems });
    const { snapshot } = compiled;
    const fingerprints = Object.fromEntries(snapshot.seats.map(({ id, fingerprint }) => [id, fingerprint]));
    const heard = new Promise<Against>((resolve) => {
      port.on("message", (message: Against | "next") => {
        if (message !== "next") return resolve(message);
        acknowledged += 1;
        wake?.();
      });
    });
    post({ kind: "ready", against: { revision: snapshot.revision, fingerprints } });
    const pass = new Pass(snapshot, world, await heard);
    await replayAll(pass, options);
  } finally {
    await world.close();
  }
}

async function replayAll(pass: Pass, options: PassOptions): Promise<void> {
  const contentDir = join(options.dataDir, "content");
  const env = { [CONTENT_KEY_VARIABLE]: options.contentKey };
  const content =
    sequencesOf(contentDir, "content").length === 0
      ? undefined
      : new ContentReader(contentDir, openContentKey(options.dataDir, env, { make: false }), {
          recordsMax: options.requestsMax,
        });
  const running: Started[] = [];
  let batch: Outcome[] = [];
  let posted = 0;
  const endNext = async () => {
    batch.push(await running.shift()!.finish());
    if (batch.length < BATCH) return;
    post({ kind: "batch", outcomes: batch });
    batch = [];
    posted += 1;
    while (posted - acknowledged >= BATCHES_AHEAD)
      await new Promise<void>((resolve) => {
        wake = resolve;
      });
  };
  const source = inOrder(options);
  for await (const decision of source.decisions) {
    const atMs = Date.parse(decision.at);
    while (running.length > 0 && (running[0]!.endMs <= atMs || running.length >= RUNNING_MAX))
      await endNext();
    insert(running, await pass.start(decision, content?.get(decision.id)), ({ endMs }) => endMs);
  }
  while (running.length > 0) await endNext();
  post({ kind: "batch", outcomes: batch });
  post({ kind: "done", skipped: source.skipped() });
}

function inOrder({ dataDir, fromMs, toMs, requestsMax }: PassOptions) {
  const reading = readSpool(join(dataDir, "spool"));
  async function* decisions(): AsyncGenerator<Decision> {
    const waiting: Decision[] = [];
    let taken = 0;
    for await (const { decision } of reading) {
      const atMs = Date.parse(decision.at);
      // What matched no route met no seat, under any policy.
      if (!(atMs >= fromMs && atMs < toMs) || decision.route === "none") continue;
      if (++taken > requestsMax) break;
      insert(waiting, decision, ({ at }) => Date.parse(at));
      if (waiting.length > REORDER) yield waiting.shift()!;
    }
    yield* waiting;
  }
  return { decisions: decisions(), skipped: () => reading.skipped };
}

/** Into a sorted list, after its equals; most come nearly in order, so the end is looked at first. */
function insert<T>(list: T[], one: T, keyOf: (one: T) => number): void {
  const key = keyOf(one);
  let at = list.length;
  while (at > 0 && keyOf(list[at - 1]!) > key) at -= 1;
  list.splice(at, 0, one);
}

await run(workerData as PassOptions);
port.close();
