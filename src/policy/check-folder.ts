/**
 * What `sallyport check` finds out about a configuration folder. The layers are compiled for real, but
 * behind ports that hold nothing, so that a check needs no gateway, no data folder and no network.
 */
import { join } from "node:path";
import { IDLE_PORTS, type LayerKind } from "../layer/index.ts";
import { compilePolicy, disposeQuietly } from "./compile.ts";
import { type Environment, loadGateway } from "./gateway-file.ts";
import { openReading, POLICY_FILE } from "./policy-folder.ts";
import { type FileProblem, wholeFileProblem } from "./problems.ts";

type FolderReport =
  | {
      readonly ok: true;
      readonly revision: string;
      readonly seats: number;
      readonly seatsOff: number;
      readonly routes: number;
    }
  | { readonly ok: false; readonly problems: readonly FileProblem[] };

export async function checkFolder(
  dir: string,
  kinds: readonly LayerKind[],
  env: Environment,
): Promise<FolderReport> {
  const gateway = await loadGateway(dir, env);
  const problems: FileProblem[] = gateway.ok ? [] : [...gateway.problems];
  const reading = await openReading(dir);
  const path = join(dir, POLICY_FILE);
  let content: Uint8Array;
  try {
    content = await reading.file(POLICY_FILE);
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    return {
      ok: false,
      problems: [...problems, wholeFileProblem(path, `the policy cannot be read: ${why}`)],
    };
  }
  const compiled = await compilePolicy({
    file: { path, content },
    artifact: reading.file,
    kinds,
    portsFor: () => IDLE_PORTS,
  });
  if (!compiled.ok) return { ok: false, problems: [...problems, ...compiled.problems] };
  const { snapshot, seatsOff } = compiled;
  await Promise.all(snapshot.seats.map(({ layer }) => disposeQuietly(layer)));
  if (problems.length > 0) return { ok: false, problems };
  const { revision, seats, routes } = snapshot;
  return { ok: true, revision, seats: seats.length, seatsOff, routes: routes.size };
}
