/**
 * Judges what the model answers with a trained model, sentence by sentence while it streams, and as an exchange: the
 * prompt and what the seats before found of it say how far back each sentence is judged and how strictly. A cheap
 * linear stage reads everything; the sentence encoder is asked only about exchanges that either side finds doubtful.
 *
 *   prompt -> its subject, findings so far -> calm | doubtful
 *   sentence -> stage one over the last few, with the prompt -> cold: leaves
 *                                                            -> hot: waits; hot again: the answer ends
 *                                                            -> doubtful: encoder, stage two -> hot or cold
 */
import { SignedModels } from "../../src/guard/signed-model.ts";
import { ALLOW, defineLayer, type Prompt, type RequestContext, type Watch } from "../../src/layer/index.ts";
import { ResponseModel } from "../../src/text/model/response-model.ts";
import { SENTENCE_UNITS_MAX } from "../../src/text/sentences.ts";
import { type Bench, ChannelReading, type Thresholds } from "./channel.ts";
import { config, type OutputClassifierConfig } from "./config.ts";
import { Exchange, reasonsIn } from "./exchange.ts";

/** Longest sentence; one unit more where a pair of units must stay together. */
const PORTION_UNITS_MAX = SENTENCE_UNITS_MAX + 1;

const models = new SignedModels({
  name: "a response model",
  trainedBy: "npm run train -- --responses",
  parse: (bytes) => new ResponseModel(bytes),
});

export const outputClassifier = defineLayer<OutputClassifierConfig>({
  kind: "output-classifier",
  summary:
    "Harm in answers, by a trained classifier in two stages that knows what was asked; also while they stream.",
  config,
  phases: ["onPrompt", "onChunk"],
  // The sentence under way and the suspicious one before it.
  holdMax: ({ hold }) => (hold === "none" ? 0 : 2 * PORTION_UNITS_MAX),
  portions: ({ hold }) => ({ by: "sentence", unitsMax: PORTION_UNITS_MAX, holds: hold !== "none" }),
  needs: models.refs,
  compile(given, { artifacts, encoder }) {
    const model = models.open(given, artifacts);
    const { flagAt, blockAt } = given;
    const bench: Bench = {
      config: given,
      model,
      encoder,
      whole: ordered(flagAt ?? model.threshold("flagAt"), blockAt ?? model.threshold("blockAt"), given),
      sentence: ordered(
        flagAt ?? model.threshold("sentenceFlagAt"),
        blockAt ?? model.threshold("sentenceBlockAt"),
        given,
      ),
    };
    const isDoubtful = reasonsIn(given.doubtfulReasons);
    return {
      open(request: RequestContext): Watch {
        const exchange = new Exchange(model, isDoubtful);
        const channels = new Map<string, ChannelReading>();
        return {
          onPrompt(prompt: Prompt) {
            exchange.ask(prompt, request.soFar());
            return ALLOW;
          },
          onChunk(delta) {
            let channel = channels.get(delta.channel);
            if (channel === undefined) {
              channel = new ChannelReading(bench, exchange, () => request.signal);
              channels.set(delta.channel, channel);
            }
            if (delta.final) channels.delete(delta.channel);
            return channel.read(delta);
          },
        };
      },
    };
  },
});

/** Where one of the two is set by the operator, the model's other gives way. */
function ordered(flagAt: number, blockAt: number, given: OutputClassifierConfig): Thresholds {
  if (given.blockAt !== undefined && given.flagAt === undefined) {
    return { flagAt: Math.min(flagAt, blockAt), blockAt };
  }
  return { flagAt, blockAt: Math.max(flagAt, blockAt) };
}
