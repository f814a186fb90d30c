/**
 * Finds what a request brings besides text, in both dialects: base64, addresses and ids of files. Dialects give a
 * leaf for every string; what a string is, is told by its place, by the words that stand beside it, and by its own
 * bytes. A place of media that holds something else is an item too, so that nothing slips through between the two.
 */
import type { Leaf, Prompt } from "../../src/layer/index.ts";
import {
  decodedBytesMax,
  type MediaKind,
  mayBeCalled,
  mediaKindOf,
  mediaTypeNamed,
  sniffBase64,
} from "../../src/text/media-type.ts";

export type Item =
  | { readonly form: "bytes"; readonly leaf: Leaf; readonly bytes: Bytes }
  | { readonly form: "url"; readonly leaf: Leaf }
  | { readonly form: "id"; readonly leaf: Leaf }
  /** At a place of media, and neither base64 nor an address. */
  | { readonly form: "malformed"; readonly leaf: Leaf };

export interface Bytes {
  readonly kind: MediaKind;
  /** What it is; undefined where neither its bytes nor anybody says. */
  readonly type: string | undefined;
  /** Its bytes are something else than is said, or than belongs in its place. */
  readonly isMismatch: boolean;
  readonly bytesMax: number;
}

const DATA_URL = /^data:([^,;]{0,200})[^,]{0,300};base64,/i;
const WEB_URL = /^https?:/i;
/** Places of media whatever stands beside them. */
const IMAGE_PLACE = /\/image_url(\/url)?$/;
const MEDIA_PLACE = /\/(image_url(\/url)?|file_url|file_data|input_audio\/data)$/;
const AUDIO_PLACE = /\/(input_audio|audio)\/data$/;
/** Places that hold text or media, as `type` beside them says. */
const SOURCE_PLACE = /\/source\/(data|url)$/;
const FILE_ID = /\/file_ids?(\/\d+)?$/;
/** Names of files that an answer or a search quoted: nothing is read from them. */
const QUOTED = /\/(annotations|citations|results)\//;
/** OpenAI's short names of audio. */
const AUDIO_FORMATS: Readonly<Record<string, string>> = { wav: "audio/wav", mp3: "audio/mpeg" };

export function itemsOf(prompt: Prompt): readonly Item[] {
  const items: Item[] = [];
  let beside: ReadonlyMap<string, string> | undefined;
  for (const leaf of prompt.leaves) {
    const { kind, path, text } = leaf;
    if (kind === "media") {
      beside ??= parametersOf(prompt);
      items.push(WEB_URL.test(text) ? { form: "url", leaf } : bytesItem(leaf, beside));
    } else if (kind === "parameter") {
      if (text !== "" && path.includes("/file_id") && FILE_ID.test(path) && !QUOTED.test(path))
        items.push({ form: "id", leaf });
    } else if (kind === "unknown") {
      // A field that no dialect models yet may carry an image all the same.
      if (DATA_URL.test(text.slice(0, 600))) items.push(bytesItem(leaf, new Map()));
    } else if (text !== "" && mayEndPlace(path) && (MEDIA_PLACE.test(path) || SOURCE_PLACE.test(path))) {
      beside ??= parametersOf(prompt);
      const source = beside.get(path.replace(/\/(data|url)$/, "/type"));
      const isMediaPlace = MEDIA_PLACE.test(path) || source === "base64" || source === "url";
      if (isMediaPlace) items.push({ form: "malformed", leaf });
    }
  }
  return items;
}

/** Cheaper than a pattern for each of a hundred thousand leaves. */
function mayEndPlace(path: string): boolean {
  return path.endsWith("url") || path.endsWith("data");
}

function parametersOf(prompt: Prompt): ReadonlyMap<string, string> {
  return new Map(
    prompt.leaves.filter(({ kind }) => kind === "parameter").map(({ path, text }) => [path, text]),
  );
}

function bytesItem(leaf: Leaf, beside: ReadonlyMap<string, string>): Item {
  const dataUrl = DATA_URL.exec(leaf.text.slice(0, 600));
  const encoded = dataUrl === null ? leaf.text : leaf.text.slice(dataUrl[0].length);
  const said = saidType(leaf.path, dataUrl?.[1], beside);
  const place = placeKind(leaf.path, beside);
  const { type: found, looksLikeText } = sniffBase64(encoded);
  const type = found !== undefined && said !== undefined && mayBeCalled(said, found) ? said : (found ?? said);
  const kind = type === undefined ? (place ?? "file") : mediaKindOf(type);
  const bytes: Bytes = {
    kind: place === "audio" && kind === "video" ? "audio" : kind,
    type,
    isMismatch: isFalse(said, found, looksLikeText) || isMisplaced(place, kind),
    bytesMax: decodedBytesMax(encoded),
  };
  return { form: "bytes", leaf, bytes };
}

/** What the request says of the bytes' type; undefined where it says nothing. */
function saidType(
  path: string,
  dataUrlType: string | undefined,
  beside: ReadonlyMap<string, string>,
): string | undefined {
  const format = AUDIO_PLACE.test(path) ? beside.get(path.replace(/data$/, "format")) : undefined;
  const said =
    dataUrlType ??
    beside.get(path.replace(/\/data$/, "/media_type")) ??
    (format === undefined ? undefined : (AUDIO_FORMATS[format.toLowerCase()] ?? `audio/${format}`));
  const named = mediaTypeNamed(said ?? "");
  return named === "" || named === "application/octet-stream" ? undefined : named;
}

function placeKind(path: string, beside: ReadonlyMap<string, string>): "image" | "audio" | undefined {
  if (IMAGE_PLACE.test(path)) return "image";
  if (AUDIO_PLACE.test(path)) return "audio";
  const block = beside.get(path.replace(/\/(source\/data|result)$/, "/type"));
  return block === "image" || block === "image_generation_call" ? "image" : undefined;
}

function isFalse(said: string | undefined, found: string | undefined, looksLikeText: boolean): boolean {
  if (said === undefined) return false;
  if (found !== undefined) return !mayBeCalled(said, found);
  // Only words have no beginning by which they are known.
  return !(looksLikeText && mayBeWords(said));
}

function mayBeWords(type: string): boolean {
  return (
    type.startsWith("text/") ||
    /^application\/(json|xml|yaml|.*\+(json|xml))$/.test(type) ||
    type === "image/svg+xml"
  );
}

/** Files may be anything; where an image belongs an image must be. Audio may come in a film's container. */
function isMisplaced(place: "image" | "audio" | undefined, kind: MediaKind): boolean {
  if (place === undefined) return false;
  return place !== kind && !(place === "audio" && kind === "video");
}
