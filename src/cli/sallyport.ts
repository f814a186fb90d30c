/**
 * The `sallyport` command. Each subcommand is a file of its own that takes its arguments and answers with
 * an exit code; it is loaded only when it is asked for.
 */
const USAGE = `sallyport: a guarded double gate in front of a model API

  sallyport serve [--config DIR] [--data DIR] [--listen HOST:PORT] [--admin HOST:PORT]
                                    run the gateway (with the bundled simulator when no upstream is named)
  sallyport check [DIR] [--json]    validate a configuration folder; exit 1 when it cannot be served
  sallyport policy status|show|check|diff|history|put|patch|rollback|withdraw|kill|revive
                                    see and change the policy of a running gateway
  sallyport replay --candidate DIR|FILE
                                    what a policy would change, rehearsed on recorded requests
  sallyport keys create|list|rotate|revoke
                                    manage virtual API keys
  sallyport accounts create|list|role|disable|enable|password
                                    manage accounts of the admin API
  sallyport tokens create|list|revoke
                                    manage its bearer tokens
  sallyport sanctions list|impose|lift
                                    act on an account, on a running gateway
  sallyport reputation show KIND ID why a caller stands where they stand, on a running gateway
  sallyport exemplars list|add|remove
                                    texts that are known as bad or good, on a running gateway
  sallyport audit verify|list       who changed what, and whether that record is whole
  sallyport score                   what the prompt defence makes of texts: JSON lines in, JSON lines out
  sallyport train --data DIR        train the prompt classifier
  sallyport eval --data DIR         measure it on labelled rows
  sallyport schemas                 write config/schema/*.json and the tables of the docs

Every subcommand explains itself with --help.`;

const COMMANDS: Readonly<Record<string, () => Promise<(args: readonly string[]) => Promise<number>>>> = {
  serve: async () => (await import("./serve.ts")).runServe,
  check: async () => (await import("./check.ts")).runCheck,
  policy: async () => (await import("./policy.ts")).runPolicy,
  replay: async () => (await import("./replay.ts")).runReplay,
  keys: async () => (await import("./keys.ts")).runKeys,
  accounts: async () => (await import("./accounts.ts")).runAccounts,
  tokens: async () => (await import("./tokens.ts")).runTokens,
  sanctions: async () => (await import("./sanctions.ts")).runSanctions,
  reputation: async () => (await import("./reputation.ts")).runReputation,
  exemplars: async () => (await import("./exemplars.ts")).runExemplars,
  audit: async () => (await import("./audit.ts")).runAudit,
  score: async () => (await import("./score.ts")).runScore,
  train: async () => (await import("./train.ts")).runTrain,
  eval: async () => (await import("./eval.ts")).runEval,
  schemas: async () => (await import("./schemas.ts")).runSchemas,
};

export async function main(args: readonly string[]): Promise<void> {
  const [name = "--help", ...rest] = args;
  if (name === "--help" || name === "-h" || name === "help") {
    console.log(USAGE);
    return;
  }
  const load = COMMANDS[name];
  if (load === undefined) {
    console.error(`sallyport: there is no command ${JSON.stringify(name)}\n\n${USAGE}`);
    process.exitCode = 2;
    return;
  }
  const run = await load();
  process.exitCode = await run(rest);
}
