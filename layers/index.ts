/** Every layer that ships, in alphabetical order. The only registry: a layer that is not listed here does not exist. */
import type { LayerKind } from "../src/layer/index.ts";
import { auth } from "./auth/layer.ts";
import { media } from "./media/layer.ts";
import { outputClassifier } from "./output-classifier/layer.ts";
import { outputJudge } from "./output-judge/layer.ts";
import { outputLeak } from "./output-leak/layer.ts";
import { outputPii } from "./output-pii/layer.ts";
import { outputSecrets } from "./output-secrets/layer.ts";
import { promptClassifier } from "./prompt-classifier/layer.ts";
import { promptJudge } from "./prompt-judge/layer.ts";
import { promptRules } from "./prompt-rules/layer.ts";
import { rateLimit } from "./rate-limit/layer.ts";
import { reputation } from "./reputation/layer.ts";

export const layerKinds: readonly LayerKind[] = [
  auth,
  media,
  outputClassifier,
  outputJudge,
  outputLeak,
  outputPii,
  outputSecrets,
  promptClassifier,
  promptJudge,
  promptRules,
  rateLimit,
  reputation,
];
