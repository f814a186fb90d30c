/** The contract's one door: everything that a layer, the runner or the policy needs to name. */
export * from "./condition.ts";
export * from "./idle.ts";
export * from "./layer.ts";
export * from "./portions.ts";
export * from "./ports.ts";
export * from "./problems.ts";
export * from "./reasons.ts";
export * from "./text.ts";
export * from "./verdict.ts";
