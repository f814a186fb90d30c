/**
 * Ids and names of calls and audio. APIs send them whole, but some clients join what comes at one place in several
 * events. So each place has a channel beside the one on which a piece is told by itself; it stays open while one event
 * after the other of its choice brings a piece, and then the value counts as whole and may leave:
 *
 *   id "AKIA" · id "Q7XJ.."   one channel: what is held of the first waits for the second
 *   id "AKIA" · text · id ".."  the front has left: a new channel tells all that was said there, and the piece goes
 *                               where anything is found in it
 */
import type { Channel } from "../../layer/index.ts";
import type { Edits, Holder, PlacedSegment } from "./reading.ts";
import { Lane } from "./reading.ts";

/** Places of one stream; where there are more, it cannot be judged any longer. */
const PLACES_MAX = 1_024;
/** Units kept of what was said at a place, for pieces that come after it counted as whole. */
const SAID_UNITS_MAX = 1_024;
/** Least of it that a value said again is told with: some upstreams say the whole of it with every event. */
const REPEAT_UNITS_MIN = 64;

interface Place {
  readonly lane: Lane;
  said: string;
  /** What its pieces are together since the place last counted as whole. */
  value: string;
}

/** Where a piece is told. */
interface PieceReading {
  readonly ordinal: number;
  readonly segments: PlacedSegment[];
  closes: readonly Channel[];
  unjudgeable: boolean;
}

interface Piece {
  readonly choice: number;
  /** What clients tell the values of a choice apart by. */
  readonly place: string;
  readonly holder: Holder;
  readonly key: string;
}

export class Pieces {
  private readonly places = new Map<string, Place>();
  private open: Lane[] = [];
  /** Of the event at hand. They stand behind the pieces by themselves, which are written back first. */
  private spots: PieceSpot[] = [];

  add(reading: PieceReading, { choice, place: name, holder, key }: Piece): void {
    const text = holder[key];
    if (typeof text !== "string" || text === "") return;
    const place = this.placeOf(`${choice}:${name}`, choice);
    if (place === undefined) {
      reading.unjudgeable = true;
      return;
    }
    const { lane, said } = place;
    const isRepeat = text === place.value;
    // Twice in one event: a channel occurs there once.
    if (lane.open && (isRepeat || lane.event === reading.ordinal)) this.close(reading, lane);
    const known = isRepeat ? said.slice(-Math.max(text.length, REPEAT_UNITS_MIN)) : said;
    const before = lane.open ? "" : known;
    place.value = lane.open ? (place.value + text).slice(-SAID_UNITS_MAX) : text.slice(-SAID_UNITS_MAX);
    place.said = (said + text).slice(-SAID_UNITS_MAX);
    this.spots.push(new PieceSpot(lane, before, holder, key, text));
    if (!lane.open) this.open.push(lane);
    lane.open = true;
    lane.event = reading.ordinal;
    if (isRepeat) this.close(reading, lane);
  }

  /** An event of this choice is read: what it said no more of is whole, and so is all once the choice is finished. */
  passed(reading: PieceReading, choice: number, finished: boolean): void {
    for (const lane of this.open) {
      if (lane.choice === choice && (finished || lane.event !== reading.ordinal)) this.close(reading, lane);
    }
  }

  /** The event is read: its pieces become segments. */
  finish(reading: PieceReading): void {
    if (this.spots.length === 0) return;
    reading.segments.push(...this.spots);
    this.spots = [];
  }

  private placeOf(name: string, choice: number): Place | undefined {
    let place = this.places.get(name);
    if (place === undefined && this.places.size < PLACES_MAX) {
      place = { lane: new Lane(`other:piece:${name}`, "other", choice), said: "", value: "" };
      this.places.set(name, place);
    }
    return place;
  }

  private close(reading: PieceReading, lane: Lane): void {
    this.open = this.open.filter((each) => each !== lane);
    reading.closes = [...reading.closes, lane.close()];
  }
}

/** A piece as clients join it. */
class PieceSpot implements PlacedSegment {
  readonly channel: Channel;
  readonly kind = "other";
  readonly choice: number;
  readonly text: string;
  private readonly holder: Holder;
  private readonly key: string;
  private readonly piece: string;

  constructor(lane: Lane, before: string, holder: Holder, key: string, piece: string) {
    this.channel = lane.channel;
    this.choice = lane.choice;
    this.text = before + piece;
    this.holder = holder;
    this.key = key;
    this.piece = piece;
  }

  /** A piece that was changed by itself and otherwise here goes, and so does one behind text that has left. */
  put(text: string, edits: Edits): void {
    const now = this.holder[this.key];
    if (this.text !== this.piece) edits.set(this.holder, this.key, "");
    else if (now !== text) edits.set(this.holder, this.key, now === this.piece ? text : "");
  }
}
