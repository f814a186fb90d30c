/**
 * What a chunk carries beside its text: values that are said again in each (told when they change), ids and
 * members that no table names (bundled). Their channels close with the stream.
 */
import type { ChunkReading } from "./chunk-reading.ts";
import { CHAT_EXTRAS } from "./fields.ts";
import { Gather } from "./gather.ts";
import { Bundle, HeadSpot, type Holder, Memory } from "./reading.ts";
import type { Rule } from "./shape.ts";

const UNLISTED: Rule = { place: "unknown", free: false, members: undefined, union: undefined };
const PARAM: Rule = { place: "param", free: false, members: undefined, union: undefined };

export class Strays {
  readonly memory = new Memory();
  readonly gather: Gather;
  /** Channels in use, by what they carry. */
  private readonly told = new Map<string, string>();
  private current: ChunkReading | undefined;
  /** Tells the channels after an end from those before it: some upstreams speak on. */
  private suffix = "";
  private ends = 1;

  constructor() {
    this.gather = new Gather(() => this.bundle());
  }

  begin(reading: ChunkReading): void {
    this.current = reading;
  }

  /** A value that every chunk says again, when it is not what it was. */
  tell(reading: ChunkReading, value: string, holder: Holder | undefined, name: string): void {
    let channel = this.told.get(name);
    if (channel === undefined) {
      channel = `other:${name}${this.suffix}`;
      this.told.set(name, channel);
    }
    reading.segments.push(new HeadSpot(channel, value, holder, name));
  }

  bundle(): Bundle {
    const fresh = this.current?.bundle ?? new Bundle(`other:rest${this.suffix}`, "other", 0);
    if (this.current !== undefined) this.current.bundle = fresh;
    return fresh;
  }

  /** The event is read: its bundle, if anything went there, becomes a segment. */
  finish(reading: ChunkReading): void {
    const { bundle } = reading;
    if (bundle === undefined || bundle.entries.length === 0) return;
    this.told.set("rest", bundle.channel);
    reading.segments.push(bundle);
  }

  end(): string[] {
    const closes = [...this.told.values()];
    this.told.clear();
    this.ends += 1;
    this.suffix = `~${this.ends}`;
    return closes;
  }

  /** A string that belongs there but has no channel of its own. */
  known(holder: Holder, name: string): void {
    this.gather.value(PARAM, holder, name, "");
  }

  /** A value of a shape or wording that does not belong there. */
  unlisted(holder: Holder, name: string): void {
    const { strangers } = this.gather;
    const known = strangers.length;
    this.gather.value(UNLISTED, holder, name, "");
    // The value as a whole, in place of the parts of it.
    strangers.length = known;
    this.gather.stranger(holder, name);
  }

  /** A member that the hot path does not place: by its table, or as unmodelled. Said again unchanged, a string is told once. */
  extra(holder: Holder, name: string, level = ""): void {
    const rule = CHAT_EXTRAS.get(name);
    if (rule !== undefined) {
      this.gather.value(rule, holder, name, "");
      return;
    }
    this.gather.foreign = true;
    const value = holder[name];
    const isText = typeof value === "string";
    if (!isText && typeof value === "object" && value !== null) {
      this.gather.unmodelled(holder, name);
      return;
    }
    if (isText) this.gather.stranger(holder, name);
    const told = isText ? value : "";
    const key = `${level}/${name}`;
    const named = !this.memory.knows(key);
    if (!this.memory.differs(key, told)) return;
    if (named) this.bundle().add(holder, name, name, true);
    if (told !== "") this.bundle().add(holder, name, told, false);
  }
}
