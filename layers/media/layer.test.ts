/** What the layer makes of media in both dialects, read by the dialects themselves. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { anthropic } from "../../src/dialect/anthropic/index.ts";
import type { JsonObject } from "../../src/dialect/dialect.ts";
import { openai } from "../../src/dialect/openai/index.ts";
import {
  ALLOW,
  findingsOf,
  IDLE_PORTS,
  type Operation,
  type Prompt,
  type RequestContext,
  reasonEntry,
  type Verdict,
} from "../../src/layer/index.ts";
import { mayBeCalled, sniffBase64 } from "../../src/text/media-type.ts";
import verdicts from "./cases/verdicts.json" with { type: "json" };
import { config } from "./config.ts";
import { media } from "./layer.ts";

const BYTES: Readonly<Record<string, string>> = {
  PNG: "\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR",
  JPG: "\xff\xd8\xff\xe0\x00\x10JFIF",
  WAV: "RIFF\x24\x00\x00\x00WAVEfmt ",
  PDF: "%PDF-1.7\n1 0 obj",
  TXT: "some words of text",
  ZIP: "PK\x03\x04\x14\x00\x06\x00",
  ELF: "\x7fELF\x02\x01\x01\x00",
  BIN: "\x00\x01\x02\x03nothing known\x00",
  SVG: '<svg xmlns="http://www.w3.org/2000/svg"/>',
};
const base64 = (name: string) => Buffer.from(BYTES[name]!, "latin1").toString("base64");

function promptOf(dialect: string, operation: string, parts: readonly unknown[]): Prompt {
  const filled = JSON.parse(
    JSON.stringify(parts).replace(/\$([A-Z]{3})/g, (_, name: string) => base64(name)),
  );
  const turns = [{ role: "user", content: filled }];
  const body = { model: "m", [operation === "responses" ? "input" : "messages"]: turns } as JsonObject;
  const { readPrompt } = dialect === "openai" ? openai : anthropic;
  return readPrompt({ operation: operation as Operation, body, parameters: [] });
}

function judge(prompt: Prompt, settings: object = {}): Verdict {
  const layer = media.compile(config.parse(settings), {
    ...IDLE_PORTS,
    seat: "media",
    artifacts: { text: () => "", bytes: () => new Uint8Array() },
  });
  const verdict = layer.open({} as RequestContext).onPrompt?.(prompt) ?? ALLOW;
  assert.ok(!(verdict instanceof Promise));
  return verdict;
}

const reasons = (verdict: Verdict) =>
  findingsOf(verdict)
    .map(({ reason }) => reason)
    .toSorted();
const chatImage = (url: string) => promptOf("openai", "chat", [{ type: "image_url", image_url: { url } }]);

describe("media by default", () => {
  for (const { why, dialect, operation, part, act, reasons: expected } of verdicts) {
    it(`${why}: ${act}`, () => {
      const verdict = judge(promptOf(dialect, operation, [part]));
      assert.deepEqual([verdict.act, reasons(verdict)], [act, expected]);
      for (const { reason } of findingsOf(verdict)) assert.ok(reasonEntry(reason), reason);
    });
  }

  it("what is allowed is recorded all the same, with its place and a score of 0", () => {
    const prompt = chatImage("data:image/png;base64,$PNG");
    const at = prompt.leaves.findIndex(({ kind }) => kind === "media");
    const end = prompt.leaves[at]!.text.length;
    assert.deepEqual(judge(prompt), {
      act: "flag",
      findings: [{ reason: "media.image", score: 0, where: { channel: `prompt:${at}`, start: 0, end } }],
    });
  });
});

describe("media by policy", () => {
  it("each kind has its act; block refuses; judge names what a judge is to see", () => {
    const prompt = chatImage("data:image/png;base64,$PNG");
    assert.equal(judge(prompt, { acts: { image: "block" } }).act, "block");
    assert.equal(judge(prompt, { acts: { audio: "block" } }).act, "flag");
    const judged = judge(prompt, { acts: { image: "judge" } });
    assert.deepEqual([judged.act, reasons(judged)], ["flag", ["media.image", "media.judge"]]);
    assert.equal(findingsOf(judge(prompt, { acts: { image: "flag" } }))[0]?.score, 0.5);
    const unknown = promptOf("openai", "responses", [{ type: "input_file", file_data: "$BIN" }]);
    assert.equal(judge(unknown, { untyped: "block" }).act, "block");
  });

  it("counts, sizes and types; a breach may be flagged instead", () => {
    const part = { type: "image_url", image_url: { url: "data:image/png;base64,$PNG" } };
    const three = promptOf("openai", "chat", [part, part, part]);
    assert.equal(judge(three, { countMax: 3 }).act, "flag");
    const many = judge(three, { countMax: 2 });
    assert.deepEqual([many.act, reasons(many)[0]], ["block", "media.count"]);
    assert.equal(judge(three, { countMax: 2, breach: "flag" }).act, "flag");
    assert.ok(reasons(judge(three, { bytesMax: { image: 10 } })).includes("media.size"));
    assert.ok(!reasons(judge(three, { bytesMax: { image: 24 } })).includes("media.size"));
    assert.ok(reasons(judge(three, { types: { image: ["image/jpeg"] } })).includes("media.type"));
    assert.ok(!reasons(judge(three, { types: { image: ["image/*"] } })).includes("media.type"));
  });

  it("a crowd of media is judged whole, and named in part", () => {
    const parts = Array.from({ length: 2_000 }, () => ({
      type: "image_url",
      image_url: { url: "https://a.example/b" },
    }));
    const last = { type: "image_url", image_url: { url: "https://10.0.0.1/b" } };
    const verdict = judge(promptOf("openai", "chat", [...parts, last]), { countMax: 10_000 });
    assert.equal(verdict.act, "block");
    assert.ok(reasons(verdict).includes("media.private-address"));
    assert.ok(findingsOf(verdict).length <= 130);
  });

  it("hosts: exact, below, and nobody else", () => {
    const rules = { hosts: ["images.example.com", "*.cdn.example"] };
    for (const host of ["images.example.com", "a.cdn.example", "a.b.cdn.example", "IMAGES.example.com."])
      assert.equal(judge(chatImage(`https://${host}/a`), rules).act, "flag", host);
    for (const host of [
      "example.com",
      "cdn.example",
      "xcdn.example",
      "images.example.com.evil.example",
      "8.8.8.8",
    ])
      assert.equal(judge(chatImage(`https://${host}/a`), rules).act, "block", host);
    assert.equal(judge(chatImage("http://images.example.com/a"), { plainHttp: true }).act, "flag");
    assert.equal(judge(chatImage("http://10.0.0.1/a"), { plainHttp: true }).act, "block");
  });
});

describe("types by their bytes", () => {
  const table: readonly (readonly [bytes: string, type: string | undefined])[] = [
    ["RIFF....WEBPVP8 ", "image/webp"],
    ["GIF89a", "image/gif"],
    ["ID3\x04", "audio/mpeg"],
    ["\xff\xfb\x90\x00", "audio/mpeg"],
    ["fLaC", "audio/flac"],
    ["OggS", "audio/ogg"],
    ["\x00\x00\x00\x20ftypM4A ", "audio/mp4"],
    ["\x00\x00\x00\x20ftypisom", "video/mp4"],
    ["\x00\x00\x00\x20ftypheic", "image/heic"],
    ["\x1a\x45\xdf\xa3", "video/webm"],
    ["words", undefined],
    ["", undefined],
  ];
  it("known beginnings, line breaks in between or not", () => {
    for (const [bytes, type] of table) {
      const text = Buffer.from(bytes, "latin1").toString("base64");
      assert.equal(sniffBase64(text).type, type, bytes);
      assert.equal(sniffBase64(text.replace(/.{4}/g, "$&\r\n")).type, type, bytes);
    }
    assert.equal(sniffBase64(base64("TXT")).looksLikeText, true);
    assert.equal(sniffBase64(base64("BIN")).looksLikeText, false);
  });
  it("names that one type may have", () => {
    assert.ok(mayBeCalled("audio/mp4", "video/mp4"));
    assert.ok(mayBeCalled("application/msword", "application/x-ole"));
    assert.ok(!mayBeCalled("image/png", "image/jpeg"));
  });
});
