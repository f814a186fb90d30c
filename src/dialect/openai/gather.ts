/**
 * Walks the parts of an answer that are not on the hot path (items, echoed settings, annotations, anything
 * unmodelled) by the tables of fields.ts. Strings with a channel of their own go to `place`; the rest goes
 * into the answer's bundle, with the names of members that no table lists.
 */
import type { Json, JsonObject } from "../dialect.ts";
import { indexOf, spelledBy } from "../unmodelled.ts";
import type { Bundle, Holder, Member } from "./reading.ts";
import { ANY_NAME, isObject, membersOf, type Placement, type Rule } from "./shape.ts";

/** A string that a table places. True when it was taken; otherwise it joins the bundle. `at` is its list indices, such as ":0:1". */
export type Place = (
  place: Placement,
  holder: Holder,
  key: string,
  text: string,
  at: string,
  free: boolean,
) => boolean;

export class Gather {
  private readonly bundle: () => Bundle;
  private readonly place: Place;
  /** True once something was met that no table names. */
  foreign = false;
  /** What no table names in the event at hand; the reader takes it from here. */
  strangers: Member[] = [];
  /** Front of their places: what clients tell the runs of the event by. */
  at = "";

  /** `bundle` is asked for when the first string needs it. */
  constructor(bundle: () => Bundle, place: Place = () => false) {
    this.bundle = bundle;
    this.place = place;
  }

  /** The value of a known member. */
  value(rule: Rule, holder: Holder, key: string, at: string): void {
    const value = holder[key];
    if (typeof value === "string") {
      if (rule.place === "unknown") this.foreign = true;
      this.string(rule.place, holder, key, value, at, false);
    } else if (Array.isArray(value)) {
      const list = value as unknown as Holder;
      for (let i = 0; i < value.length; i++) {
        if (typeof value[i] !== "number") this.value(rule, list, String(i), `${at}:${i}`);
      }
    } else if (isObject(value)) {
      if (rule.free) this.free(rule.place, value, at);
      else if (!this.object(rule, value, at)) this.stranger(holder, key);
    }
  }

  /** A member that no table names: its name and everything below. */
  unmodelled(holder: Holder, key: string): void {
    this.foreign = true;
    this.bundle().add(holder, key, key, true);
    this.stranger(holder, key);
    this.below("unknown", holder, key, "");
  }

  /** A value whose strings may go on from one event to the next. */
  stranger(holder: Holder, key: string): void {
    const value = holder[key];
    if (value !== undefined && value !== null && typeof value !== "number" && typeof value !== "boolean")
      this.strangers.push({ place: `${this.at}/${indexOf(value) ?? key}`, value, holder, key });
  }

  /** Hands over the strangers of the event that was read. */
  takeStrangers(): readonly Member[] {
    const { strangers } = this;
    if (strangers.length > 0) this.strangers = [];
    return strangers;
  }

  /** False when no table names its kind. */
  private object(rule: Rule, value: JsonObject, at: string): boolean {
    const members = membersOf(rule, value);
    if (members === undefined) {
      this.foreign = true;
      this.free("unknown", value, at);
      return false;
    }
    const any = members.get(ANY_NAME);
    for (const name of Object.keys(value)) {
      const member = name === ANY_NAME ? undefined : members.get(name);
      if (member !== undefined) this.value(member, value, name, at);
      else if (any === undefined) this.unmodelled(value, name);
      else {
        this.bundle().add(value, name, name, true);
        this.value(any, value, name, at);
      }
    }
    return true;
  }

  private free(place: Placement, value: JsonObject, at: string): void {
    for (const name of Object.keys(value)) {
      this.bundle().add(value, name, name, true);
      this.below(place, value, name, at);
    }
  }

  private below(place: Placement, holder: Holder, key: string, at: string): void {
    const value: Json | undefined = holder[key];
    if (typeof value === "string") this.string(place, holder, key, value, at, true);
    else if (Array.isArray(value)) {
      const spelled = spelledBy(value);
      if (spelled !== undefined) this.bundle().add(holder, key, spelled, true);
      const list = value as unknown as Holder;
      for (let i = 0; i < value.length; i++) {
        if (typeof value[i] !== "number") this.below(place, list, String(i), at);
      }
    } else if (isObject(value)) this.free(place, value, at);
  }

  private string(
    place: Placement,
    holder: Holder,
    key: string,
    text: string,
    at: string,
    free: boolean,
  ): void {
    if (text === "" || this.place(place, holder, key, text, at, free)) return;
    this.bundle().add(holder, key, text, false);
  }
}
