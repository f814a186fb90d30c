/** The thread of a worker of encoder-pool.ts. It catches nothing: what is thrown ends it, and the pool sees that. */
import { parentPort } from "node:worker_threads";
import { openEncoder } from "./encoder.ts";
import type { FromWorker, ToWorker } from "./encoder-pool.ts";

const port = parentPort;
if (port === null) throw new Error("encoder-worker.ts runs as a worker only");
const encoder = openEncoder();
port.on("message", async ({ texts }: ToWorker) => {
  const embeddings = await encoder.encode(texts);
  port.postMessage(
    { kind: "embeddings", embeddings } satisfies FromWorker,
    embeddings.map(({ buffer }) => buffer as ArrayBuffer),
  );
});
port.postMessage({ kind: "ready" } satisfies FromWorker);
