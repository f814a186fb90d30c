/**
 * The trained model of a seat: its signature is checked, then it is parsed, and both only once for the same bytes, so
 * that a reload of another setting costs nothing.
 */
import { hash } from "node:crypto";
import { z } from "zod";
import { type ArtifactRef, type Artifacts, ConfigProblem } from "../layer/index.ts";
import { SHIPPED_SIGNERS, signerProblem, verifyModel } from "../text/model/signer.ts";

/** Parsed models kept, up to 10 MB each: one that is served, one that is tried, and the ones before them. */
const MODELS_MAX = 4;

const signer = z.string().superRefine((text, context) => {
  const problem = signerProblem(text);
  if (problem !== undefined) context.addIssue({ code: "custom", message: problem });
});

/** What an operator may set of a seat's model. `unsigned` ends with what a request says of it. */
export function modelFields(path: string, unsigned = "") {
  return {
    model: z
      .string()
      .min(1)
      .default(path)
      .describe(
        "The model, relative to the policy's folder; its signature lies beside it, .sig behind the name.",
      ),
    sha256: z
      .string()
      .regex(/^[0-9a-fA-F]{64}$/, { error: "must be 64 hex digits" })
      .optional()
      .describe("The SHA-256 that the model must have. Absent: any that is signed."),
    signers: z
      .array(signer)
      .min(1)
      .max(16)
      .default([...SHIPPED_SIGNERS])
      .describe(
        "Who may sign the model: Ed25519 public keys, 32 bytes in base64. Default: who signs releases.",
      ),
    unsigned: z
      .boolean()
      .default(false)
      .describe(
        `Take a model without a signature, for experiments: whoever can write the file then decides what passes.${unsigned}`,
      ),
  };
}

export interface ModelSettings {
  readonly model: string;
  readonly sha256?: string | undefined;
  readonly signers: readonly string[];
  readonly unsigned: boolean;
}

interface ModelKind<Model> {
  /** "a prompt model", as an error names it. */
  readonly name: string;
  /** The command that writes one. */
  readonly trainedBy: string;
  /** Throws an Error that says why the bytes cannot be used. */
  readonly parse: (bytes: Uint8Array) => Model;
}

export class SignedModels<Model> {
  readonly #kind: ModelKind<Model>;
  /** By the digest of its bytes, oldest first. */
  readonly #parsed = new Map<string, Model>();

  constructor(kind: ModelKind<Model>) {
    this.#kind = kind;
  }

  readonly refs = (settings: ModelSettings): readonly ArtifactRef[] => {
    const { model, sha256, unsigned } = settings;
    const ref: ArtifactRef = {
      path: model,
      isBinary: true,
      hint: `\`${this.#kind.trainedBy}\` writes it, and releases bring one along`,
      ...(sha256 !== undefined && { sha256 }),
    };
    return unsigned ? [ref] : [ref, signatureOf(settings)];
  };

  /** Throws a ConfigProblem that names the file and the fix. */
  open(settings: ModelSettings, artifacts: Artifacts): Model {
    const [ref] = this.refs(settings);
    const bytes = artifacts.bytes(ref!);
    if (!settings.unsigned) {
      const signature = signatureOf(settings);
      const problem = verifyModel(bytes, artifacts.text(signature), settings.signers);
      if (problem !== undefined) {
        const fix = "sign it anew, or name its signer in `signers`";
        throw new ConfigProblem(
          `the signature of ${settings.model} is not valid: ${problem}; ${fix}`,
          ["model"],
          signature.path,
        );
      }
    }
    const digest = hash("sha256", bytes, "hex");
    const known = this.#parsed.get(digest);
    if (known !== undefined) return known;
    const model = this.#parse(bytes, settings.model);
    this.#parsed.set(digest, model);
    for (const oldest of this.#parsed.keys()) {
      if (this.#parsed.size <= MODELS_MAX) break;
      this.#parsed.delete(oldest);
    }
    return model;
  }

  #parse(bytes: Uint8Array, path: string): Model {
    try {
      return this.#kind.parse(bytes);
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error);
      throw new ConfigProblem(`${path} cannot be used as ${this.#kind.name}: ${why}`, ["model"], path);
    }
  }
}

function signatureOf({ model }: ModelSettings): ArtifactRef {
  return {
    path: `${model}.sig`,
    hint: "sign the model, or set `unsigned: true` to try one that is not",
  };
}
