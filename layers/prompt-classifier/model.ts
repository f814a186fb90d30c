/**
 * The model of a seat: its signature is checked, then it is parsed, and both only once for the same bytes, so that a
 * reload of another setting costs nothing.
 */
import { hash } from "node:crypto";
import { type ArtifactRef, type Artifacts, ConfigProblem } from "../../src/layer/index.ts";
import { PromptModel } from "../../src/text/model/prompt-model.ts";
import { verifyModel } from "../../src/text/model/signer.ts";
import type { PromptClassifierConfig } from "./config.ts";

/** Parsed models kept, some 3 MB each: one that is served, one that is tried, and the ones before them. */
const MODELS_MAX = 4;

const parsed = new Map<string, PromptModel>();

export function modelRefs(config: PromptClassifierConfig): readonly ArtifactRef[] {
  const { model, sha256, unsigned } = config;
  const ref: ArtifactRef = {
    path: model,
    isBinary: true,
    hint: "`npm run train` writes it, and releases bring one along",
    ...(sha256 !== undefined && { sha256 }),
  };
  return unsigned ? [ref] : [ref, signatureOf(config)];
}

/** Throws a ConfigProblem that names the file and the fix. */
export function openModel(config: PromptClassifierConfig, artifacts: Artifacts): PromptModel {
  const [ref] = modelRefs(config);
  const bytes = artifacts.bytes(ref!);
  if (!config.unsigned) {
    const signature = signatureOf(config);
    const problem = verifyModel(bytes, artifacts.text(signature), config.signers);
    if (problem !== undefined) {
      const fix = "sign it anew, or name its signer in `signers`";
      throw new ConfigProblem(
        `the signature of ${config.model} is not valid: ${problem}; ${fix}`,
        ["model"],
        signature.path,
      );
    }
  }
  const digest = hash("sha256", bytes, "hex");
  const known = parsed.get(digest);
  if (known !== undefined) return known;
  let model: PromptModel;
  try {
    model = new PromptModel(bytes);
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new ConfigProblem(
      `${config.model} cannot be used as a prompt model: ${why}`,
      ["model"],
      config.model,
    );
  }
  parsed.set(digest, model);
  if (parsed.size > MODELS_MAX) {
    for (const oldest of parsed.keys()) {
      parsed.delete(oldest);
      break;
    }
  }
  return model;
}

function signatureOf({ model }: PromptClassifierConfig): ArtifactRef {
  return {
    path: `${model}.sig`,
    hint: "sign the model, or set `unsigned: true` to try one that is not",
  };
}
