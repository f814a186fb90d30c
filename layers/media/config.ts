/** The layer's settings, each with its default and what it means. */
import { z } from "zod";

export const KINDS = ["image", "audio", "video", "file", "file-id", "remote-url"] as const;
export type Kind = (typeof KINDS)[number];
export const ACTS = ["allow", "flag", "block", "judge"] as const;
export type MediaAct = (typeof ACTS)[number];

const MIB = 1_048_576;

const act = (fallback: MediaAct, what: string) => z.enum(ACTS).default(fallback).describe(what);
const bytes = (fallback: number) => z.int().min(0).max(1_073_741_824).default(fallback);
const types = (fallback: string[], what: string) =>
  z
    .array(
      z
        .string()
        .max(100)
        .regex(/^[a-z]+\/[a-z0-9.+-]*\*?$/, 'must be such as "image/png" or "text/*"'),
    )
    .max(100)
    .default(fallback)
    .describe(what);

export const config = z
  .strictObject({
    acts: z
      .strictObject({
        image: act("allow", "Images in the request."),
        audio: act("allow", "Audio in the request."),
        video: act("flag", "Video in the request."),
        file: act("allow", "Documents and other files in the request."),
        "file-id": act("flag", "Files that were uploaded before: nobody here has seen them."),
        "remote-url": act("flag", "Addresses that the model API fetches."),
      })
      .prefault({})
      .describe(
        "allow: recorded, score 0. flag: recorded, score 0.5. block: refused. judge: recorded, and a prompt-judge seat behind this one is to judge it.",
      ),
    countMax: z.int().min(0).max(10_000).default(100).describe("Most media of all kinds in one request."),
    bytesMax: z
      .strictObject({
        image: bytes(20 * MIB).describe("Of one image."),
        audio: bytes(25 * MIB).describe("Of one piece of audio."),
        video: bytes(50 * MIB).describe("Of one video."),
        file: bytes(32 * MIB).describe("Of one file."),
      })
      .prefault({})
      .describe("Most bytes, decoded."),
    types: z
      .strictObject({
        image: types(
          ["image/png", "image/jpeg", "image/gif", "image/webp"],
          "Types of images that are taken.",
        ),
        audio: types(["audio/wav", "audio/mpeg", "audio/flac", "audio/ogg", "audio/mp4"], "Types of audio."),
        video: types(["video/mp4", "video/webm"], "Types of video."),
        file: types(
          [
            "application/pdf",
            "text/*",
            "application/json",
            "application/vnd.openxmlformats-officedocument.*",
            "application/msword",
            "application/vnd.ms-*",
          ],
          "Types of files.",
        ),
      })
      .prefault({})
      .describe("Types that are taken, by what the bytes are. Names as IANA has them; each may end in *."),
    untyped: z
      .enum(ACTS)
      .default("flag")
      .describe("Media whose bytes begin like nothing known and whose type nobody says."),
    hosts: z
      .array(
        z
          .string()
          .max(253)
          .regex(/^(\*\.)?[a-z0-9-]+(\.[a-z0-9-]+)*$/, 'must be a lower-case host, or "*.example.com"'),
      )
      .max(1_000)
      .default([])
      .describe('Hosts that addresses may name; "*.example.com" takes what lies below. []: any public one.'),
    plainHttp: z.boolean().default(false).describe("Takes http addresses besides https."),
    breach: z
      .enum(["block", "flag"])
      .default("block")
      .describe("What a breach of a limit, a false type, a foreign host or a private address leads to."),
  })
  .readonly();

export type MediaConfig = z.infer<typeof config>;
