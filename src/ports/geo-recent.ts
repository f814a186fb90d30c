/**
 * A bounded cache in two generations: what is asked for again moves to the young one, and when that is full the
 * old one goes whole. A hit costs one Map read, where a strict LRU list would write on every read; what it gives
 * up is exactness: an answer is kept for at least the next `max / 2` new ones.
 */
export class RecentAnswers<Answer extends object> {
  readonly #generationMax: number;
  readonly #answer: (question: string) => Answer;
  #young = new Map<string, Answer>();
  #old = new Map<string, Answer>();

  constructor(max: number, answer: (question: string) => Answer) {
    this.#generationMax = Math.max(1, Math.floor(max / 2));
    this.#answer = answer;
  }

  get size(): number {
    return this.#young.size + this.#old.size;
  }

  get(question: string): Answer {
    return this.#young.get(question) ?? this.#admit(question);
  }

  clear(): void {
    this.#young = new Map();
    this.#old = new Map();
  }

  #admit(question: string): Answer {
    const answer = this.#old.get(question) ?? this.#answer(question);
    if (this.#young.size >= this.#generationMax) {
      this.#old = this.#young;
      this.#young = new Map();
    }
    this.#old.delete(question);
    this.#young.set(question, answer);
    return answer;
  }
}
