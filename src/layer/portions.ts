/**
 * A layer that judges by sentences says so here, and its `onChunk` is given whole ones: the runner gathers the text of
 * an answer and holds back what it has not told yet. A sentence ends where src/text/sentences.ts says so: it has 12
 * units at least (6 of a script that is written without blanks) and 321 at most. One that does not end is told when it
 * reaches `unitsMax`, so that what waits has a bound whatever the model writes. Shorter ones are told as they stand
 * where the channel ends, or rests while others speak.
 */
import { z } from "zod";
import type { ChannelKind } from "./text.ts";

export interface Portions {
  /** `sentence`: to the end of a sentence or line. `units`: as much as may be held, to the end of a word. */
  readonly by: "sentence" | "units";
  /** Longest portion, UTF-16 units; less than that of a channel waits. */
  readonly unitsMax: number;
  /** Kinds of channel that are told by portions; text of others is told as it comes. Absent: all. */
  readonly kinds?: readonly ChannelKind[];
  /** False: nothing waits, and a portion is judged when it is whole, whatever of it has left. Absent: true. */
  readonly holds?: boolean;
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
    .describe(
      "Most text that waits, UTF-16 units: a longer sentence is judged in parts. None has more than 321.",
    ),
});
