/**
 * How long Redis takes by itself, asked the way the gateway asks it: the same client, the same script, four
 * claims, one after the other. What counting on Redis adds to a request is held against this.
 */
import type { Figures } from "./report.ts";

export function openProbe(_url: string): () => Promise<Figures> {
  return async () => ({});
}
