/** Stage two of a model as serving runs it: one hidden layer over what the encoder made of a text. Training writes it. */

export interface Network {
  readonly width: number;
  readonly hidden: number;
  readonly first: Float32Array;
  readonly firstBias: Float32Array;
  readonly second: Float32Array;
  readonly secondBias: Float32Array;
}

/** `hidden` is scratch of the hidden layer's length; `out` takes one logit for each of its heads. */
export function runNetwork(
  network: Network,
  input: Float32Array,
  hidden: Float32Array,
  out: Float32Array,
): void {
  const { first, firstBias, second, secondBias } = network;
  const heads = secondBias.length;
  hidden.set(firstBias);
  for (let d = 0; d < network.width; d++) {
    const value = input[d]!;
    const at = d * network.hidden;
    for (let h = 0; h < network.hidden; h++) hidden[h] = hidden[h]! + value * first[at + h]!;
  }
  out.set(secondBias);
  for (let h = 0; h < network.hidden; h++) {
    const value = hidden[h]!;
    if (value <= 0) continue;
    for (let head = 0; head < heads; head++) {
      out[head] = out[head]! + value * second[h * heads + head]!;
    }
  }
}
