/**
 * One channel of an answer, judged sentence by sentence as the runner tells them and once more as a whole. A sentence
 * that reads like harm ends nothing by itself: the next one must say so too. Meanwhile both wait.
 *
 *   s1 cold  s2 cold  s3 hot   s4 ...            released up to s3, which waits for s4
 *   s1 cold  s2 cold  s3 hot   s4 hot  -> block  neither has left
 *   s1 cold  s2 cold  s3 hot   s4 cold           released up to s5
 *
 * What is said follows from the text and from where its channel stood still, never from where its events were cut; only
 * whether the encoder answered in time is in neither, and that is a finding of its own.
 */
import {
  ALLOW,
  type Await,
  type Delta,
  type Encoder,
  type Finding,
  type Held,
  join,
  type Verdict,
} from "../../src/layer/index.ts";
import { AnswerReading, WINDOW_UNITS } from "../../src/text/model/answer-reading.ts";
import { type Evidence, type ResponseModel, SIDES_COUNT } from "../../src/text/model/response-model.ts";
import { isEncoded, secondEvidence } from "../../src/text/model/response-scoring.ts";
import type { OutputClassifierConfig } from "./config.ts";
import type { Exchange } from "./exchange.ts";

/** Text from which the encoder is asked while more is to come; below it a sentence says too little. */
const ASKED_UNITS_MIN = 120;

export interface Thresholds {
  readonly flagAt: number;
  readonly blockAt: number;
}

/** A seat's settings, ready to judge by; shared by its watches. */
export interface Bench {
  readonly config: OutputClassifierConfig;
  readonly model: ResponseModel;
  readonly encoder: Encoder;
  /** Of a whole answer, and of two sentences in a row. */
  readonly whole: Thresholds;
  readonly sentence: Thresholds;
}

/** The encoder did not answer. */
class NotEncoded extends Error {}

export class ChannelReading {
  readonly #bench: Bench;
  readonly #exchange: Exchange;
  readonly #signal: () => AbortSignal;
  readonly #reading: AnswerReading;
  readonly #recent = new Float32Array(SIDES_COUNT);
  readonly #window = new Float32Array(SIDES_COUNT);
  /** The last WINDOW_UNITS, for the encoder. */
  #tail = "";
  #units = 0;
  /** Where a sentence that could end the answer began, while the next one is not judged; -1: there is none. */
  #hotFrom = -1;
  #warmFrom = -1;
  #isFlagged = false;
  #isUnsure = false;
  /** What the network last said, and of how much text. */
  #second: Evidence | undefined;
  #askedUnits = 0;
  #questions = 0;

  constructor(bench: Bench, exchange: Exchange, signal: () => AbortSignal) {
    this.#bench = bench;
    this.#exchange = exchange;
    this.#signal = signal;
    this.#reading = new AnswerReading(bench.model);
  }

  /** A whole sentence, or what there is of one where the channel stands still or ends. */
  read(portion: Delta): Await<Held> {
    if (portion.final) return this.#finish(portion);
    const judged = this.#judge(portion);
    return judged instanceof Promise ? judged.then((late) => this.#held(late)) : this.#held(judged);
  }

  #held(verdict: Verdict): Held {
    const waits = this.#hotFrom >= 0 && this.#bench.config.hold !== "none" && verdict.act !== "block";
    return waits ? { ...verdict, holdFrom: this.#hotFrom } : verdict;
  }

  #judge({ text, start, channel }: Delta): Await<Verdict> {
    const isFull = this.#take(text);
    const end = start + text.length;
    const score = this.#score();
    const note = (now: number) => {
      const verdict = this.#noteSentence(now, channel, start, end);
      return isFull ? join(verdict, this.#noteWhole(channel, end)) : verdict;
    };
    // Nothing is ended on stage one's word alone while the encoder can still be asked.
    const unitsMin = this.#second === undefined && this.#ends(score) ? 1 : this.#unitsToAsk;
    if (!this.#mayAsk(score, unitsMin)) return note(score);
    return this.#ask(channel, start, end).then((unsure) => join(unsure, note(this.#score())));
  }

  #take(sentence: string): boolean {
    this.#units += sentence.length;
    if (this.#bench.config.stageTwo.enabled) this.#tail = (this.#tail + sentence).slice(-WINDOW_UNITS);
    return this.#reading.add(sentence);
  }

  /** Of the last sentences; of the window, once the encoder was asked. */
  #score(): number {
    if (this.#second !== undefined) return this.#scoreWhole();
    const { config, model } = this.#bench;
    this.#reading.last(config[this.#exchange.level].sentences, this.#recent);
    return model.judgeSentences({ answer: this.#recent, prompt: this.#exchange.evidence?.logits });
  }

  #scoreWhole(): number {
    const { model } = this.#bench;
    const first = this.#first();
    return this.#second === undefined ? model.judge(first) : model.judgeBoth(first, this.#second);
  }

  #first(): Evidence {
    this.#reading.window(this.#window);
    return { answer: this.#window, prompt: this.#exchange.evidence?.logits };
  }

  #isHot(score: number): boolean {
    const { blockAt } = this.#bench.sentence;
    return blockAt < 1 && score >= blockAt * this.#bench.config[this.#exchange.level].scale;
  }

  /** It is the second suspicious one in a row. */
  #ends(score: number): boolean {
    return this.#hotFrom >= 0 && this.#isHot(score);
  }

  #noteSentence(score: number, channel: string, start: number, end: number): Verdict {
    if (this.#ends(score)) return harmful("block", score, channel, this.#hotFrom, end);
    this.#hotFrom = this.#isHot(score) ? start : -1;
    if (this.#isFlagged) return ALLOW;
    const isWarm = score >= this.#bench.sentence.flagAt * this.#bench.config[this.#exchange.level].scale;
    if (!isWarm || this.#warmFrom < 0) {
      this.#warmFrom = isWarm ? start : -1;
      return ALLOW;
    }
    this.#isFlagged = true;
    return harmful("flag", score, channel, this.#warmFrom, end);
  }

  /** The window says more than its sentences, and needs no second word. */
  #noteWhole(channel: string, end: number): Verdict {
    const { flagAt, blockAt } = this.#bench.whole;
    const { scale } = this.#bench.config[this.#exchange.level];
    const score = this.#scoreWhole();
    const start = Math.max(0, end - WINDOW_UNITS);
    if (blockAt < 1 && score >= blockAt * scale) return harmful("block", score, channel, start, end);
    if (this.#isFlagged || score < flagAt * scale) return ALLOW;
    this.#isFlagged = true;
    return harmful("flag", score, channel, start, end);
  }

  #finish({ channel, start, text }: Delta): Await<Verdict> {
    const end = start + text.length;
    if (text !== "") this.#take(text);
    if (this.#reading.sentences === 0) return ALLOW;
    const conclude = (unsure: Verdict): Verdict => {
      const last = text === "" ? ALLOW : this.#noteSentence(this.#score(), channel, start, end);
      return join(unsure, join(last, this.#noteWhole(channel, end)));
    };
    if (!this.#mayAsk(this.#scoreWhole(), 1)) return conclude(ALLOW);
    return this.#ask(channel, Math.max(0, end - WINDOW_UNITS), end).then(conclude);
  }

  /** The encoder is asked about what either side finds doubtful, each time after twice as much text. */
  #mayAsk(score: number, unitsMin: number): boolean {
    const { config, model } = this.#bench;
    if (!config.stageTwo.enabled || this.#isUnsure || this.#units - this.#askedUnits < unitsMin) return false;
    if (this.#exchange.level === "calm" && !model.isDoubtful(score)) return false;
    return isEncoded(this.#tail);
  }

  /** Text that must come before the next question while more is on its way. */
  get #unitsToAsk(): number {
    const { everyUnits } = this.#bench.config.stageTwo;
    return this.#questions === 0 ? ASKED_UNITS_MIN : everyUnits * 2 ** Math.min(20, this.#questions - 1);
  }

  /** What the network says, or the finding that it could not be asked. */
  async #ask(channel: string, start: number, end: number): Promise<Verdict> {
    const { config, model, encoder } = this.#bench;
    const { questionsMax, whenUnsure } = config.stageTwo;
    this.#askedUnits = this.#units;
    this.#questions += 1;
    const first = { answer: this.#first().answer.slice(), prompt: this.#exchange.evidence?.logits };
    const prompt = this.#exchange.evidence?.part ?? "";
    try {
      if (this.#questions > questionsMax) throw new NotEncoded();
      this.#second = await secondEvidence(model, first, { answer: this.#tail, prompt }, async (texts) => {
        const encoded = await Promise.all(texts.map((text) => encoder.encode(text, this.#signal())));
        return encoded.map((one) => {
          // Half of an answer is none: what was left out may be what matters.
          if (one.kind !== "embedding") throw new NotEncoded();
          return one.embedding;
        });
      });
      return ALLOW;
    } catch (error) {
      if (!(error instanceof NotEncoded)) throw error;
      this.#second = undefined;
      this.#isUnsure = true;
      const score = model.judge(first);
      const findings: readonly Finding[] = [
        { reason: "output.classifier.unsure", score, where: { channel, start, end } },
      ];
      return { act: whenUnsure, findings };
    }
  }
}

function harmful(act: "flag" | "block", score: number, channel: string, start: number, end: number): Verdict {
  return { act, findings: [{ reason: "output.classifier.harmful", score, where: { channel, start, end } }] };
}
