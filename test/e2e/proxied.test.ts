/** WebSocket sessions and pass-through routes: identity and limits first, then byte for byte, and a decision that says so. */
import assert from "node:assert/strict";
import { request } from "node:http";
import { after, before, describe, it } from "node:test";
import WebSocket from "ws";
import { eventually, type House, KEY, openHouse, policyWith } from "../support/house.ts";

describe("proxied", () => {
  let house: House;
  before(async () => {
    house = await openHouse({
      policy: policyWith(
        "  - { id: auth, use: auth }\n  - { id: limit, use: rate-limit, with: { limits: [{ name: key, of: requests, per: [key], limit: 20, window: 1h }] } }\n",
        "passThrough: [{ path: /v1/files/*, methods: [GET], upstream: openai }]\n",
      ),
    });
  });
  after(() => house.close());

  const realtime = () => `${house.url.replace("http", "ws")}/v1/realtime?model=m`;

  function talk(url: string, headers: Record<string, string>, protocols?: string[]): Promise<string> {
    return new Promise((resolve) => {
      const socket = new WebSocket(url, protocols, { headers });
      socket.on("open", () => socket.send(JSON.stringify({ type: "ping-from-test", text: "hello" })));
      socket.on("message", (data) => {
        const text = data.toString();
        if (!text.includes("hello")) return;
        resolve(text);
        socket.close();
      });
      socket.on("unexpected-response", (_request, response) => resolve(`status ${response.statusCode}`));
      socket.on("error", (error) => resolve(error.message));
    });
  }

  it("a WebSocket session goes through after auth; its decision says that nothing was scanned", async () => {
    assert.match(await talk(realtime(), { authorization: `Bearer ${KEY}` }), /hello/);
    await eventually(async () => {
      const decision = (await house.decisions()).find(({ route }) => route === "openai.realtime");
      assert.deepEqual(
        [decision?.cause, decision?.scanned, decision?.status, decision?.org],
        ["complete", false, 101, "default"],
      );
    });
    const upgrade = house.simulator.received().find(({ url }) => url.startsWith("/v1/realtime"));
    assert.ok(!JSON.stringify(upgrade?.rawHeaders ?? []).includes(KEY), "the caller's key stays behind");
  });

  it("a browser's key in the subprotocol is a credential, and stays behind", async () => {
    assert.match(await talk(realtime(), {}, ["realtime", `openai-insecure-api-key.${KEY}`]), /hello/);
    assert.ok(!JSON.stringify(house.simulator.received().map(({ rawHeaders }) => rawHeaders)).includes(KEY));
  });

  it("refuses an upgrade without a key, and on routes that take none", async () => {
    assert.equal(await talk(realtime(), {}), "status 401");
    assert.equal(
      await talk(`${house.url.replace("http", "ws")}/v1/chat/completions`, {
        authorization: `Bearer ${KEY}`,
      }),
      "status 405",
    );
  });

  /** `fetch` would tidy the path up before it is sent. */
  function rawStatus(path: string): Promise<number | undefined> {
    return new Promise((resolve, reject) => {
      request(house.url, { path, headers: { authorization: `Bearer ${KEY}` } }, (response) => {
        response.resume();
        resolve(response.statusCode);
      })
        .on("error", reject)
        .end();
    });
  }

  it("a listed route passes; its neighbours, other methods and dotted paths do not", async () => {
    const get = (path: string, method = "GET", key = KEY) =>
      fetch(house.url + path, { method, headers: { authorization: `Bearer ${key}` } });
    const passed = await get("/v1/files/abc");
    await passed.arrayBuffer();
    const received = house.simulator.received().find(({ url }) => url === "/v1/files/abc");
    assert.ok(received, "the upstream was called");
    assert.ok(!JSON.stringify(received.rawHeaders).includes(KEY));
    assert.equal((await get("/v1/files/abc", "GET", "wrong")).status, 401);
    assert.equal((await get("/v1/files/abc", "DELETE")).status, 404);
    for (const path of [
      "/v1/files/%2e%2e/models",
      "/v1/files/../models",
      "/v1/files//x",
      "/v1/files/a%2fb",
    ]) {
      assert.equal(await rawStatus(path), 404, path);
    }
    assert.equal((await get("/v1/file")).status, 404);
    await eventually(async () => {
      const found = (await house.decisions()).filter(({ route }) => route === "pass_through");
      assert.deepEqual(
        found.map(({ cause, scanned }) => [cause, scanned]),
        [
          ["complete", false],
          ["unauthenticated", false],
        ],
      );
    });
  });
});
