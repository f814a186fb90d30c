/**
 * From logits to probabilities, on rows that training did not see: logistic regression with a few terms, fitted by
 * Newton's method. Scores then mean what they say on a mix like the development rows', and rank as the terms rank.
 */

/** Keeps weights finite where a few rows are told apart perfectly. */
const RIDGE = 1e-3;
const STEPS = 50;

/** Weights of the terms (a constant one among them, if wanted). Rows of each class weigh as much as the other's together. */
export function fitLogistic(terms: readonly Float32Array[], labels: readonly (0 | 1)[]): Float32Array {
  const size = terms[0]?.length ?? 0;
  const positives = labels.reduce<number>((sum, label) => sum + label, 0);
  const weights = new Float64Array(size);
  for (let step = 0; step < STEPS; step++) {
    const gradient = Float64Array.from(weights, (weight) => RIDGE * weight);
    const hessian = Array.from({ length: size }, (_, i) => {
      const row = new Float64Array(size);
      row[i] = RIDGE;
      return row;
    });
    terms.forEach((term, n) => {
      const isPositive = labels[n] === 1;
      const share = 0.5 / (isPositive ? positives : labels.length - positives);
      let logit = 0;
      for (let i = 0; i < size; i++) logit += weights[i]! * term[i]!;
      const probability = 1 / (1 + Math.exp(-logit));
      const slope = share * (probability - (isPositive ? 1 : 0));
      const curve = share * Math.max(1e-6, probability * (1 - probability));
      for (let i = 0; i < size; i++) {
        gradient[i] = gradient[i]! + slope * term[i]!;
        for (let j = 0; j < size; j++) hessian[i]![j] = hessian[i]![j]! + curve * term[i]! * term[j]!;
      }
    });
    const move = solve(hessian, gradient);
    for (let i = 0; i < size; i++) weights[i] = weights[i]! - move[i]!;
    if (move.every((one) => Math.abs(one) < 1e-7)) break;
  }
  return Float32Array.from(weights);
}

/** Gauss with pivots; the matrix is small and positive definite. */
function solve(matrix: readonly Float64Array[], vector: Float64Array): Float64Array {
  const size = vector.length;
  const a = matrix.map((row, i) => [...row, vector[i]!]);
  for (let column = 0; column < size; column++) {
    let pivot = column;
    for (let row = column + 1; row < size; row++) {
      if (Math.abs(a[row]![column]!) > Math.abs(a[pivot]![column]!)) pivot = row;
    }
    [a[column], a[pivot]] = [a[pivot]!, a[column]!];
    for (let row = 0; row < size; row++) {
      if (row === column) continue;
      const factor = a[row]![column]! / a[column]![column]!;
      for (let i = column; i <= size; i++) a[row]![i] = a[row]![i]! - factor * a[column]![i]!;
    }
  }
  return Float64Array.from({ length: size }, (_, i) => a[i]![size]! / a[i]![i]!);
}
