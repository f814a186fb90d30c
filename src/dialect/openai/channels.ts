/**
 * The channels of one streamed Response: lanes on which deltas run until their item or part is done, and
 * names for repetitions, each of which is a channel of its own.
 */
import type { Channel, ChannelKind } from "../../layer/index.ts";
import { Lane } from "./reading.ts";

/** Lanes of one answer; past them, deltas are bundled. */
const LANES_MAX = 4_096;
/** Names of repetitions kept to tell a second one apart; past them, every name carries its event's number. */
const NAMES_MAX = 4_096;

export class Channels {
  private readonly lanes = new Map<string, Lane>();
  private readonly names = new Set<Channel>();
  /** Channels of values that are said again, by member: they close with the stream. */
  private readonly heads = new Map<string, Channel>();
  /** Tells the channels after an end from those before it: some upstreams speak on. */
  private suffix = "";

  lane(name: string, kind: ChannelKind, item: number): Lane | undefined {
    let lane = this.lanes.get(name);
    if (lane === undefined && this.lanes.size < LANES_MAX) {
      lane = new Lane(name, kind, item);
      this.lanes.set(name, lane);
    }
    return lane;
  }

  close(name: string, closed: Channel[]): void {
    const lane = this.lanes.get(name);
    if (lane?.open === true) closed.push(lane.close());
  }

  closeItem(item: number, closed: Channel[]): void {
    for (const lane of this.lanes.values()) if (lane.open && lane.choice === item) closed.push(lane.close());
  }

  /** Channel of the member `name`, whose value is told when it changes. */
  told(name: string): Channel {
    let channel = this.heads.get(name);
    if (channel === undefined) {
      channel = `other:${name}${this.suffix}`;
      this.heads.set(name, channel);
    }
    return channel;
  }

  end(ordinal: number, closed: Channel[]): void {
    for (const lane of this.lanes.values()) if (lane.open) closed.push(lane.close());
    closed.push(...this.heads.values());
    this.heads.clear();
    this.suffix = `~${ordinal}`;
  }

  /** `name`, or one that no channel of this stream had. */
  once(name: Channel, ordinal: number, place: number): Channel {
    if (this.names.size >= NAMES_MAX || this.names.has(name)) return `${name}~${ordinal}.${place}`;
    this.names.add(name);
    return name;
  }
}
