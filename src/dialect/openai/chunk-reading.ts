/** One chat or completions chunk as read, and how its deltas split. */
import type { Json, JsonObject } from "../dialect.ts";
import { type Bundle, HeadSpot, Reading, Spot } from "./reading.ts";
import { isObject } from "./shape.ts";

/** Where a split event would carry the text. */
export type Part = "text" | "delta" | "call" | "whole";

export class ChunkSpot extends Spot {
  part: Part = "whole";
  /** Index of the tool call for `call`. */
  call = -1;
}

interface Owner {
  /** Told after a rewrite that changed something, with the new data. */
  forget(reading: ChunkReading, printed: string): void;
}

export class ChunkReading extends Reading {
  private readonly owner: Owner;
  bundle: Bundle | undefined;

  constructor(data: string | undefined, root: Json, ordinal: number, owner: Owner) {
    super(data, root, ordinal);
    this.owner = owner;
  }

  /** Only plain deltas split: an event that also introduces ids, a tool call or a finish stays whole. */
  splitBefore(index: number, text: string): string | undefined {
    const spot = this.segments[index];
    if (!(spot instanceof ChunkSpot) || spot.part === "whole" || !isObject(this.root)) return undefined;
    for (const segment of this.segments) {
      if (segment instanceof HeadSpot && segment.key !== "obfuscation") return undefined;
    }
    const { id, object, created, model } = this.root;
    const choice: JsonObject = { index: spot.choice };
    if (spot.part === "text") choice["text"] = text;
    else if (spot.part === "delta") choice["delta"] = { [spot.key]: text };
    else {
      const kind = spot.key === "input" ? "custom" : "function";
      choice["delta"] = { tool_calls: [{ index: spot.call, [kind]: { [spot.key]: text } }] };
    }
    choice["finish_reason"] = null;
    return JSON.stringify({ id, object, created, model, choices: [choice] });
  }

  protected override rewritten(printed: string): void {
    this.owner.forget(this, printed);
  }
}
