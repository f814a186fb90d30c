/** Media that a `media` seat wants judged: which of them a question can bring, and which nobody can judge. */
import type { Leaf, Prompt } from "../../src/layer/index.ts";
import { decodedBytesMax, sniffBase64 } from "../../src/text/media-type.ts";

/** Types that vision models take. */
const TAKEN: ReadonlySet<string> = new Set(["image/png", "image/jpeg", "image/gif", "image/webp"]);
const IMAGE_BYTES_MAX = 8 * 1024 * 1024;
/** Where the body says that an address is an image's. */
const IMAGE_ADDRESS = /\/image_url(\/url)?$/;

export interface Pictures {
  readonly urls: readonly string[];
  readonly unjudged: readonly Leaf[];
}

/** The newest turn's first. */
export function picturesOf(prompt: Prompt, max: number): Pictures {
  const urls: string[] = [];
  const unjudged: Leaf[] = [];
  const images = new Set<string>();
  for (const { path, text } of prompt.leaves)
    if (text === "image" && path.endsWith("/type")) images.add(path);
  const media = prompt.leaves.filter(({ kind }) => kind === "media");
  for (const leaf of media.sort((a, b) => b.turn - a.turn)) {
    const url = urls.length < max ? urlOf(leaf, images) : undefined;
    if (url === undefined) unjudged.push(leaf);
    else urls.push(url);
  }
  return { urls, unjudged };
}

function urlOf({ text, path }: Leaf, images: ReadonlySet<string>): string | undefined {
  if (/^https?:/i.test(text)) {
    const isImage = IMAGE_ADDRESS.test(path) || images.has(path.replace(/\/source\/url$/, "/type"));
    return isImage ? text : undefined;
  }
  const encoded = text.slice(0, 5).toLowerCase() === "data:" ? text.slice(text.indexOf(",") + 1) : text;
  if (decodedBytesMax(encoded) > IMAGE_BYTES_MAX) return undefined;
  const { type } = sniffBase64(encoded);
  return type !== undefined && TAKEN.has(type) ? `data:${type};base64,${encoded}` : undefined;
}
