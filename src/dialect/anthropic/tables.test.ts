/** Holds the tables against the official SDK's own type declarations, so that an upgrade shows what is missing. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { DONE_TO_INPUT, MESSAGE_FIELDS, STOP, USAGE } from "./answer.ts";
import { BLOCK, CITATION, TOOL } from "./blocks.ts";
import { MESSAGE, REQUEST } from "./request.ts";
import type { Shape } from "./shape.ts";

const sdk = dirname(createRequire(import.meta.url).resolve("@anthropic-ai/sdk"));
const SOURCES = ["resources/messages/messages.d.ts", "resources/beta/messages/messages.d.ts"] as const;

interface Declarations {
  readonly unions: ReadonlyMap<string, readonly string[]>;
  readonly interfaces: ReadonlyMap<string, ReadonlyMap<string, string>>;
}

/** Enough of a reader for these generated files: interfaces with their members, and unions of names. */
function declarationsOf(file: string): Declarations {
  const source = readFileSync(join(sdk, file), "utf8").replace(/\/\*[\s\S]*?\*\//g, "");
  const interfaces = new Map<string, Map<string, string>>();
  const unions = new Map<string, string[]>();
  for (const [, indent, name, body] of source.matchAll(
    /^( *)(?:export )?interface (\w+)(?: extends \w+)? \{\n([\s\S]*?)^\1\}/gm,
  )) {
    const members = new RegExp(`^ {${indent!.length + 4}}'?(\\w+)'?\\??: ([^\\n]*)`, "gm");
    interfaces.set(name!, new Map([...body!.matchAll(members)].map(([, field, type]) => [field!, type!])));
  }
  for (const [, name, body] of source.matchAll(/^export type (\w+) = ([\w |]+);/gm)) {
    unions.set(
      name!,
      body!.split("|").map((part) => part.trim()),
    );
  }
  return { unions, interfaces };
}

/** Interfaces that a union or name comes down to. */
function members(declared: Declarations, name: string): string[] {
  const union = declared.unions.get(name);
  return union === undefined ? [name] : union.flatMap((part) => members(declared, part));
}

function assertFields(
  declared: Declarations,
  name: string,
  shape: Shape | undefined,
  except: string[] = [],
): void {
  const fields = declared.interfaces.get(name);
  assert.ok(fields !== undefined && fields.size > 0, `${name} is not declared`);
  for (const field of fields.keys()) {
    if (!except.includes(field)) assert.ok(shape?.fields?.has(field), `${name}.${field} is not modelled`);
  }
}

function assertVariants(declared: Declarations, union: string, shape: Shape): number {
  const names = members(declared, union);
  for (const name of names) {
    const declaredType = declared.interfaces.get(name)?.get("type") ?? "";
    const types = [...declaredType.matchAll(/'(\w+)'/g)].map(([, type]) => type!);
    assert.ok(types.length > 0, `${name} has no literal type`);
    for (const type of types) {
      assert.ok(shape.variants?.has(type), `${name}: type ${type} is not modelled`);
      assertFields(declared, name, shape.variants?.get(type));
    }
  }
  return names.length;
}

for (const [file, beta] of [
  [SOURCES[0], ""],
  [SOURCES[1], "Beta"],
] as const) {
  test(`every block, tool and field that ${file} declares is modelled`, () => {
    const declared = declarationsOf(file);
    let count = 0;
    for (const union of ["ContentBlockParam", "ContentBlock"]) {
      count += assertVariants(declared, `${beta}${union}`, BLOCK);
    }
    count += assertVariants(declared, `${beta}ToolUnion`, TOOL);
    count += assertVariants(declared, `${beta}TextCitation`, CITATION);
    count += assertVariants(declared, `${beta}TextCitationParam`, CITATION);
    assert.ok(count > 50, `only ${count} declarations were found`);
    // What stands inside results and has no union of its own.
    for (const [name, fields] of declared.interfaces) {
      const type = /'(\w+)'/.exec(fields.get("type") ?? "")?.[1];
      if (
        type !== undefined &&
        /(?:Result|Error|Output|Reference|State)(?:Block|Object)?(?:Param)?$/.test(name)
      ) {
        if (/SourceToolReference$/.test(name)) continue;
        assert.ok(BLOCK.variants!.has(type), `${name}: type ${type} is not modelled`);
        assertFields(declared, name, BLOCK.variants!.get(type));
      }
    }
    // `betas` becomes a header.
    assertFields(declared, "MessageCreateParamsBase", REQUEST, ["betas"]);
    assertFields(declared, "MessageCountTokensParams", REQUEST, ["betas"]);
    for (const name of members(declared, `${beta}MessageParam`)) assertFields(declared, name, MESSAGE);
    const answer: Shape = { fields: new Map(Object.entries({ type: {}, ...MESSAGE_FIELDS })) };
    assertFields(declared, `${beta}Message`, answer);
    assertFields(declared, `${beta}Usage`, USAGE);
    assertFields(declared, `${beta}MessageDeltaUsage`, USAGE);
    assertFields(declared, "Delta", { fields: new Map(Object.entries({ ...STOP, ...DONE_TO_INPUT })) });
  });
}
