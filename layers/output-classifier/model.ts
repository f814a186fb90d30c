/**
 * The model of a seat: its signature is checked, then it is parsed, and both only once for the same bytes, so that a
 * reload of another setting costs nothing.
 */
import { hash } from "node:crypto";
import { type ArtifactRef, type Artifacts, ConfigProblem } from "../../src/layer/index.ts";
import { ResponseModel } from "../../src/text/model/response-model.ts";
import { verifyModel } from "../../src/text/model/signer.ts";
import type { OutputClassifierConfig } from "./config.ts";

/** Parsed models kept: one that is served, one that is tried, and the ones before them. */
const MODELS_MAX = 4;

const parsed = new Map<string, ResponseModel>();

export function modelRefs(config: OutputClassifierConfig): readonly ArtifactRef[] {
  const { model, sha256, unsigned } = config;
  const ref: ArtifactRef = {
    path: model,
    isBinary: true,
    hint: "`npm run train -- --responses` writes it, and releases bring one along",
    ...(sha256 !== undefined && { sha256 }),
  };
  return unsigned ? [ref] : [ref, signatureOf(config)];
}

/** Throws a ConfigProblem that names the file and the fix. */
export function openModel(config: OutputClassifierConfig, artifacts: Artifacts): ResponseModel {
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
  let model: ResponseModel;
  try {
    model = new ResponseModel(bytes);
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new ConfigProblem(
      `${config.model} cannot be used as a response model: ${why}`,
      ["model"],
      config.model,
    );
  }
  parsed.set(digest, model);
  for (const oldest of parsed.keys()) {
    if (parsed.size <= MODELS_MAX) break;
    parsed.delete(oldest);
  }
  return model;
}

function signatureOf({ model }: OutputClassifierConfig): ArtifactRef {
  return {
    path: `${model}.sig`,
    hint: "sign the model, or set `unsigned: true` to try one that is not",
  };
}
