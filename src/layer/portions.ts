/**
 * A layer that judges by sentences says so here, and its `onChunk` is given whole ones: the runner gathers the text of
 * an answer and holds back what it has not told yet. A sentence that does not end is told when it reaches `unitsMax`,
 * so that what waits has a bound whatever the model writes.
 */
import { z } from "zod";
import type { ChannelKind } from "./text.ts";

export interface Portions {
  /** `sentence`: to the end of a sentence or line. `units`: as much as may be held, to the end of a word. */
  readonly by: "sentence" | "units";
  /** Longest portion, UTF-16 units; so much of a channel is held at most. */
  readonly unitsMax: number;
  /** Kinds of channel that are told by portions; text of others is told as it comes. */
  readonly kinds: readonly ChannelKind[];
}

/** For the configuration of a layer that tells its users the choice. */
export const PORTIONS = z.strictObject({
  by: z
    .enum(["sentence", "units"])
    .default("sentence")
    .describe("Text is judged, and until then held, by whole sentences, or by runs of `unitsMax`."),
  unitsMax: z
    .int()
    .min(16)
    .max(4_096)
    .default(480)
    .describe("Most text that waits, UTF-16 units: a longer sentence is judged in parts."),
});
