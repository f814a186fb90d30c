/** The port by its public face, against real sockets: where it may connect, every cause of failure, the circuit. */
import assert from "node:assert/strict";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { after, before, describe, it } from "node:test";
import { eventually } from "../../test/support/eventually.ts";
import type { JudgeEndpoint, JudgeFailure } from "../layer/index.ts";
import { type AddressSpace, addressSpace } from "../text/address-space.ts";
import { type JudgesOptions, openJudges } from "./judges.ts";
import { AddressRules } from "./judges-address.ts";
import { Circuit } from "./judges-circuit.ts";

type Answer = (request: IncomingMessage, response: ServerResponse) => void;
let answer: Answer = () => {};
let asked = 0;
let port = 0;
const server = createServer((request, response) => {
  asked += 1;
  request.resume().once("end", () => answer(request, response));
});

before(async () => {
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  port = (server.address() as AddressInfo).port;
});
after(() => {
  server.closeAllConnections();
  server.close();
});

const says =
  (text: string | Buffer, status = 200, headers = {}): Answer =>
  (_, response) => {
    response.writeHead(status, headers).end(text);
  };

function endpoint(more: Partial<JudgeEndpoint> = {}): JudgeEndpoint {
  return {
    url: `http://127.0.0.1:${port}/judge`,
    addresses: ["127.0.0.1"],
    allowPrivate: false,
    timeoutMs: 2_000,
    answerBytesMax: 1_000,
    concurrencyMax: 4,
    queueMax: 4,
    breaker: { failuresMax: 1_000, openMs: 1_000, successesMin: 1 },
    ...more,
  };
}

async function withJudge<T>(
  more: Partial<JudgeEndpoint>,
  use: (ask: (signal?: AbortSignal) => Promise<string>, judges: ReturnType<typeof openJudges>) => Promise<T>,
  options: Partial<JudgesOptions> = {},
): Promise<T> {
  const judges = openJudges({ env: {}, ...options });
  const judge = judges.forSeat("judge").open(endpoint(more));
  try {
    return await use(async (signal) => {
      const read = (text: string) => (text === "safe" ? text : undefined);
      const outcome = await judge.ask({ body: "{}", read, ...(signal && { signal }) });
      return outcome.kind === "answered" ? outcome.value : outcome.cause;
    }, judges);
  } finally {
    await judges.close();
  }
}

describe("where a judge may be", () => {
  const PLACES: readonly (readonly [address: string, space: AddressSpace])[] = [
    ["8.8.8.8", "public"],
    ["2606:4700::1111", "public"],
    ["127.0.0.1", "loopback"],
    ["::1", "loopback"],
    ["::ffff:127.0.0.1", "loopback"],
    ["0.0.0.0", "loopback"],
    ["10.1.2.3", "private"],
    ["172.31.0.1", "private"],
    ["172.32.0.1", "public"],
    ["192.168.1.1", "private"],
    ["100.64.0.1", "private"],
    ["fd12::1", "private"],
    ["169.254.0.1", "link_local"],
    ["fe80::1", "link_local"],
    ["169.254.169.254", "metadata"],
    ["::ffff:169.254.169.254", "metadata"],
    ["100.100.100.200", "metadata"],
    ["fd00:ec2::254", "metadata"],
    ["64:ff9b::7f00:1", "reserved"],
    ["2002:7f00:1::", "reserved"],
    ["224.0.0.1", "reserved"],
    ["127.1", "reserved"],
  ];
  it("knows the address spaces", () => {
    for (const [address, space] of PLACES) assert.equal(addressSpace(address), space, address);
  });

  it("rules: public over https alone, private by leave, metadata by name alone, the list before all", () => {
    const https = "https://judge.example/x";
    const rules = (more: object) =>
      new AddressRules({ url: https, addresses: [], allowPrivate: false, ...more });
    assert.equal(rules({}).faultOf("8.8.8.8"), undefined);
    assert.match(rules({}).faultOf("10.0.0.1") ?? "", /private/);
    assert.equal(rules({ allowPrivate: true }).faultOf("10.0.0.1"), undefined);
    assert.match(rules({ allowPrivate: true }).faultOf("169.254.169.254") ?? "", /metadata/);
    assert.equal(rules({ addresses: ["169.254.169.254"] }).faultOf("169.254.169.254"), undefined);
    assert.match(rules({ addresses: ["10.0.0.0/8"], allowPrivate: true }).faultOf("8.8.8.8") ?? "", /name/);
    const plain = rules({ url: "http://judge.example", allowPrivate: true });
    assert.match(plain.faultOf("8.8.8.8") ?? "", /plain http/);
    assert.throws(() => rules({ url: "http://judge.example" }), RangeError);
    assert.throws(() => rules({ url: "ftp://judge.example" }), RangeError);
    assert.throws(() => rules({ url: "https://u:p@judge.example" }), RangeError);
    assert.throws(() => rules({ addresses: ["10.0.0.0/99"] }), RangeError);
  });

  it("an address in the URL is refused without leave, before a byte is sent", async () => {
    answer = says("safe");
    const before = asked;
    for (const url of [`https://127.0.0.1:${port}/`, `https://[::1]:${port}/`, `https://0x7f.1:${port}/`]) {
      assert.equal(await withJudge({ url, addresses: [] }, (ask) => ask()), "address", url);
    }
    assert.equal(asked, before);
  });

  it("DNS rebinding: a name is judged by where it leads at each connect, and by every address it has", async () => {
    answer = says("safe", 200, { connection: "close" });
    let leadsTo: readonly string[] = ["127.0.0.1"];
    const url = `http://judge.example:${port}/`;
    const resolve = async () => leadsTo;
    await withJudge(
      { url, addresses: ["127.0.0.1"] },
      async (ask) => {
        assert.equal(await ask(), "safe");
        const before = asked;
        for (const elsewhere of [["127.0.0.2"], ["127.0.0.1", "10.0.0.1"], ["169.254.169.254"], []]) {
          leadsTo = elsewhere;
          assert.equal(await ask(), "address", elsewhere.join());
        }
        assert.equal(asked, before, "nobody was connected to");
        leadsTo = ["127.0.0.1"];
        assert.equal(await ask(), "safe");
      },
      { resolve },
    );
    await withJudge(
      { url: `https://judge.example:${port}/`, addresses: [] },
      async (ask) => {
        assert.equal(await ask(), "address", "a public name that leads home");
      },
      { resolve },
    );
  });
});

describe("how a question ends", () => {
  const ENDINGS: readonly (readonly [why: string, answer: Answer, cause: "safe" | JudgeFailure])[] = [
    ["a verdict", says("safe"), "safe"],
    ["no verdict", says("perhaps"), "malformed"],
    ["an error", says("safe", 500), "status"],
    ["no leave", says("safe", 401), "status"],
    ["nothing", says("", 204), "status"],
    ["elsewhere", says("safe", 302, { location: "http://127.0.0.1/" }), "redirect"],
    ["too long", says("x".repeat(1_001)), "too_large"],
    ["no text", says(Buffer.from([0xff, 0xfe])), "protocol"],
    ["packed", says("safe", 200, { "content-encoding": "gzip" }), "protocol"],
    [
      "cut off",
      (_, response) =>
        void response.writeHead(200, { "content-length": "9" }).write("sa", () => response.destroy()),
      "connect",
    ],
    ["hung up", (request) => request.socket.resetAndDestroy(), "connect"],
    ["not HTTP", (request) => void request.socket.end("SSH-2.0-x\r\n"), "protocol"],
  ];
  for (const [why, how, cause] of ENDINGS) {
    it(`${why}: ${cause}`, async () => {
      answer = how;
      await withJudge({}, async (ask, judges) => {
        assert.equal(await ask(), cause);
        const [figures] = judges.stats();
        assert.equal(figures?.answered, cause === "safe" ? 1 : 0);
        if (cause !== "safe") assert.equal(figures?.failed[cause], 1);
      });
    });
  }

  it("a reader that throws has read no verdict", async () => {
    answer = says("safe");
    const judges = openJudges({ env: {} });
    const read = () => assert.fail("a bug");
    const outcome = await judges.forSeat("s").open(endpoint()).ask({ body: "", read });
    assert.deepEqual(outcome, { kind: "failed", cause: "malformed" });
    await judges.close();
  });

  it("nobody there: connect", async () => {
    const other = createServer();
    await new Promise<void>((resolve) => other.listen(0, "127.0.0.1", resolve));
    const free = (other.address() as AddressInfo).port;
    await new Promise((resolve) => other.close(resolve));
    assert.equal(await withJudge({ url: `http://127.0.0.1:${free}/` }, (ask) => ask()), "connect");
  });

  it("no answer in time: timeout, also half an answer", async () => {
    answer = () => {};
    assert.equal(await withJudge({ timeoutMs: 30 }, (ask) => ask()), "timeout");
    answer = (_, response) => void response.writeHead(200).write("sa");
    assert.equal(await withJudge({ timeoutMs: 60 }, (ask) => ask()), "timeout");
  });

  it("whoever leaves ends their question, and the judge's connection", async () => {
    const leaving = new AbortController();
    const closed = new Promise<void>((resolve) => {
      answer = (request) => {
        request.socket.once("close", () => resolve());
        leaving.abort();
      };
    });
    await withJudge({}, async (ask) => {
      assert.equal(await ask(leaving.signal), "gone");
      assert.equal(await ask(leaving.signal), "gone", "before it began");
      await closed;
    });
  });

  it("so many at once, so many waiting, the rest refused; who waits gets their turn", async () => {
    const held: ServerResponse[] = [];
    answer = (_, response) => void held.push(response);
    await withJudge({ concurrencyMax: 1, queueMax: 1 }, async (ask) => {
      const [first, second] = [ask(), ask()];
      assert.equal(await ask(), "full");
      await eventually(() => assert.equal(held.length, 1));
      held[0]!.end("safe");
      assert.equal(await first, "safe");
      await eventually(() => assert.equal(held.length, 2));
      held[1]!.end("safe");
      assert.equal(await second, "safe");
    });
  });

  it("the key comes from the environment, under a name of its own, and is sent to the judge alone", async () => {
    let seen: string | undefined;
    answer = (request, response) => {
      seen = request.headers.authorization;
      response.end("safe");
    };
    const env = { SALLYPORT_JUDGE_KEY: "k", SALLYPORT_OPENAI_KEY: "other" };
    assert.equal(await withJudge({ keyEnv: "SALLYPORT_JUDGE_KEY" }, (ask) => ask(), { env }), "safe");
    assert.equal(seen, "Bearer k");
    assert.equal(await withJudge({ keyEnv: "SALLYPORT_JUDGE_NONE" }, (ask) => ask(), { env }), "key");
    await assert.rejects(
      withJudge({ keyEnv: "SALLYPORT_OPENAI_KEY" }, (ask) => ask(), { env }),
      RangeError,
    );
  });
});

describe("the circuit", () => {
  it("opens after failures in a row, lets one through after a while, closes after good answers", async () => {
    let nowMs = 0;
    const changes: (JudgeFailure | undefined)[] = [];
    const breaker = { failuresMax: 2, openMs: 1_000, successesMin: 2 };
    const options = {
      nowMs: () => nowMs,
      onCircuit: ({ cause }: { cause: JudgeFailure | undefined }) => void changes.push(cause),
    };
    await withJudge(
      { breaker },
      async (ask, judges) => {
        answer = says("", 500);
        assert.equal(await ask(), "status");
        answer = says("safe");
        assert.equal(await ask(), "safe", "one good answer, and the count begins anew");
        answer = says("", 500);
        assert.deepEqual([await ask(), await ask()], ["status", "status"]);
        const before = asked;
        assert.equal(await ask(), "open");
        assert.equal(asked, before, "nobody asks");
        assert.equal(judges.stats()[0]?.isOpen, true);

        nowMs = 1_000;
        assert.equal(await ask(), "status", "half open: one is let through");
        assert.equal(await ask(), "open", "it failed: open again");
        nowMs = 2_000;
        answer = says("safe");
        const [first, second] = [ask(), ask()];
        assert.deepEqual((await Promise.all([first, second])).toSorted(), ["open", "safe"], "one at a time");
        assert.equal(judges.stats()[0]?.isOpen, true);
        assert.equal(await ask(), "safe");
        assert.equal(judges.stats()[0]?.isOpen, false);
        assert.deepEqual(changes, ["status", undefined]);
      },
      options,
    );
  });

  it("stays open through a reload: it belongs to seat and URL", async () => {
    answer = says("", 500);
    const judges = openJudges({ env: {} });
    const breaker = { failuresMax: 1, openMs: 60_000, successesMin: 1 };
    const read = (text: string) => text;
    const first = judges.forSeat("a").open(endpoint({ breaker }));
    await first.ask({ body: "", read });
    await first.close();
    assert.deepEqual(await first.ask({ body: "", read }), { kind: "failed", cause: "gone" });
    const second = judges.forSeat("a").open(endpoint({ breaker, timeoutMs: 500 }));
    assert.deepEqual(await second.ask({ body: "", read }), { kind: "failed", cause: "open" });
    const other = judges.forSeat("b").open(endpoint({ breaker }));
    assert.deepEqual(await other.ask({ body: "", read }), { kind: "failed", cause: "status" });
    await judges.close();
  });

  it("a late answer of the time before says nothing, and who leaves gives the trial back", () => {
    let nowMs = 0;
    const circuit = new Circuit({ nowMs: () => nowMs, onChange: () => {} });
    const config = { failuresMax: 1, openMs: 10, successesMin: 1 };
    const [early, other] = [circuit.enter()!, circuit.enter()!];
    circuit.bad(other, config);
    assert.equal(circuit.kind, "open");
    nowMs = 10;
    const trial = circuit.enter()!;
    circuit.good(early, config);
    assert.equal(circuit.kind, "half_open");
    circuit.unused(trial);
    circuit.good(circuit.enter()!, config);
    assert.equal(circuit.kind, "closed");
  });
});
