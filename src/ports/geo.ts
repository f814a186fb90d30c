/**
 * Country and network operator of an address, from databases in MaxMind's format that the operator brings; without
 * them every answer is "" and nothing is spent. A database is read whole into memory and read again when its file
 * is replaced; one that cannot be read leaves the last good one in place, since knowing last week's networks is
 * better than knowing none.
 */
import { readFile, stat } from "node:fs/promises";
import { Reader, type Response } from "maxmind";
import { parseAddress } from "../text/network.ts";
import { RecentAnswers } from "./geo-recent.ts";

/** Addresses whose answer is kept, of all databases together; beyond it the ones not asked for lately are read anew. */
const ANSWERS_MAX = 65_536;
const FILE_BYTES_MAX = 1024 * 1024 * 1024;
const POLL_MS = 5_000;
/** More digits than any AS number has (RFC 6793: 32 bits). */
const ASN_MAX = 4_294_967_295;

export interface GeoOptions {
  /** Path of a database with countries, such as GeoLite2-Country.mmdb. */
  readonly country?: string | undefined;
  /** Path of a database with autonomous systems, such as GeoLite2-ASN.mmdb. */
  readonly asn?: string | undefined;
  /** Told once when a database cannot be read, and with undefined when all can be again. */
  readonly onProblem?: ((problem: string | undefined) => void) | undefined;
  readonly answersMax?: number;
  readonly pollMs?: number;
}

export interface GeoAnswer {
  /** ISO 3166-1 alpha-2, or "". */
  readonly country: string;
  /** Such as "AS64500", or "". */
  readonly asn: string;
}

export interface Geo {
  /** From memory; never throws. */
  look(address: string): GeoAnswer;
  /** Grows when an answer may have changed. */
  readonly revision: number;
  readonly problem: string | undefined;
  close(): void;
}

const NOWHERE: GeoAnswer = Object.freeze({ country: "", asn: "" });

/** What is served where no database is configured. */
export const NO_GEO: Geo = Object.freeze({
  look: () => NOWHERE,
  revision: 0,
  problem: undefined,
  close: () => {},
});

/** A file that cannot be read is a problem, not an error: the gateway serves without it and reads it once it can. */
export async function openGeo(options: GeoOptions): Promise<Geo> {
  if (options.country === undefined && options.asn === undefined) return NO_GEO;
  const geo = new FileGeo(options);
  await geo.refresh();
  geo.follow(options.pollMs ?? POLL_MS);
  return geo;
}

interface Source {
  readonly name: "country" | "asn";
  readonly path: string;
  version: string;
  reader: Reader<Response> | undefined;
  problem: string | undefined;
}

class FileGeo implements Geo {
  revision = 0;
  problem: string | undefined = undefined;
  readonly #sources: readonly Source[];
  readonly #answers: RecentAnswers<GeoAnswer>;
  readonly #onProblem: ((problem: string | undefined) => void) | undefined;
  #timer: NodeJS.Timeout | undefined;
  #isClosed = false;

  constructor({ country, asn, onProblem, answersMax = ANSWERS_MAX }: GeoOptions) {
    const source = (name: Source["name"], path: string | undefined): Source[] =>
      path === undefined ? [] : [{ name, path, version: "", reader: undefined, problem: undefined }];
    this.#sources = [...source("country", country), ...source("asn", asn)];
    this.#onProblem = onProblem;
    this.#answers = new RecentAnswers(answersMax, (address) => this.#read(address));
  }

  look(address: string): GeoAnswer {
    return this.#answers.get(address);
  }

  close(): void {
    this.#isClosed = true;
    clearTimeout(this.#timer);
  }

  /** A poll, not a watch: databases are replaced weekly, by rename, often on a mounted volume that tells nobody. */
  follow(pollMs: number): void {
    if (this.#isClosed) return;
    this.#timer = setTimeout(() => void this.refresh().then(() => this.follow(pollMs)), pollMs).unref();
  }

  async refresh(): Promise<void> {
    let isNew = false;
    for (const source of this.#sources) isNew = (await refreshSource(source)) || isNew;
    if (isNew) {
      this.#answers.clear();
      this.revision += 1;
    }
    this.#report();
  }

  #read(address: string): GeoAnswer {
    const parsed = parseAddress(address);
    if (parsed === undefined) return NOWHERE;
    const isIpv4 = parsed.length === 2;
    const [high = 0, low = 0] = parsed;
    const text = isIpv4
      ? `${high >> 8}.${high & 255}.${low >> 8}.${low & 255}`
      : parsed.map((group) => group.toString(16)).join(":");
    let country = "";
    let asn = "";
    for (const source of this.#sources) {
      // In a tree of IPv4 alone, the first bits of an IPv6 address would find somebody else.
      if (source.reader === undefined || (!isIpv4 && source.reader.metadata.ipVersion === 4)) continue;
      try {
        const row: unknown = source.reader.get(text);
        country ||= countryOf(row);
        asn ||= asnOf(row);
      } catch (error) {
        source.problem = `the ${source.name} database ${source.path} is damaged: ${messageOf(error)}`;
        this.#report();
      }
    }
    return country === "" && asn === "" ? NOWHERE : Object.freeze({ country, asn });
  }

  #report(): void {
    const problems = this.#sources.flatMap(({ problem }) => problem ?? []);
    const problem = problems.length === 0 ? undefined : problems.join("; ");
    if (problem === this.problem) return;
    this.problem = problem;
    this.#onProblem?.(problem);
  }
}

/** True where a new content was taken over. */
async function refreshSource(source: Source): Promise<boolean> {
  const { name, path } = source;
  try {
    const { ino, mtimeMs, size } = await stat(path);
    // First the version: a change during the read is then seen by the next poll.
    const version = `${ino}:${mtimeMs}:${size}`;
    if (version === source.version) return false;
    source.version = version;
    if (size > FILE_BYTES_MAX) throw new Error(`it has ${size} bytes; at most ${FILE_BYTES_MAX} are read`);
    source.reader = readerOf(await readFile(path));
    source.problem = undefined;
    return true;
  } catch (error) {
    const kept = source.reader === undefined ? "nothing is known from it" : "the last good one is kept";
    source.problem = `the ${name} database ${path} cannot be read (${messageOf(error)}); ${kept}`;
    return false;
  }
}

function readerOf(bytes: Buffer): Reader<Response> {
  if (bytes[0] === 0x1f && bytes[1] === 0x8b) throw new Error("it is packed by gzip: unpack it first");
  const reader = new Reader<Response>(bytes);
  // A file that was cut is found out now rather than by a request.
  if (reader.metadata.searchTreeSize > bytes.length) throw new Error("it ends too early");
  reader.get("192.0.2.1");
  return reader;
}

/** `country` of MaxMind and DB-IP, `country_code` or a bare code of IPinfo and others; registered where nobody lives. */
export function countryOf(row: unknown): string {
  for (const value of [
    fieldOf(fieldOf(row, "country"), "iso_code"),
    fieldOf(row, "country_code"),
    fieldOf(row, "country"),
    fieldOf(fieldOf(row, "registered_country"), "iso_code"),
  ]) {
    if (typeof value === "string" && /^[A-Za-z]{2}$/.test(value)) return value.toUpperCase();
  }
  return "";
}

/** `autonomous_system_number` of MaxMind and DB-IP, `asn` of IPinfo ("AS64500" or a number). */
export function asnOf(row: unknown): string {
  for (const value of [fieldOf(row, "autonomous_system_number"), fieldOf(row, "asn")]) {
    const digits = typeof value === "string" ? value.replace(/^AS/i, "") : value;
    if (typeof digits !== "number" && !(typeof digits === "string" && /^\d{1,10}$/.test(digits))) continue;
    const number = Number(digits);
    if (Number.isInteger(number) && number > 0 && number <= ASN_MAX) return `AS${number}`;
  }
  return "";
}

function fieldOf(row: unknown, name: string): unknown {
  if (typeof row !== "object" || row === null || !Object.hasOwn(row, name)) return undefined;
  return (row as Readonly<Record<string, unknown>>)[name];
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
