/**
 * An issuer of tokens for tests: real keys, and a real server on loopback that publishes them, which can be told
 * to rotate, to fail, to hang, and to say wrong things.
 */
import type { webcrypto } from "node:crypto";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { exportJWK, generateKeyPair, type JWK, type JWTHeaderParameters, SignJWT } from "jose";

export interface TestIssuer {
  /** The issuer's name, and the address of its server. */
  readonly url: string;
  readonly jwksUrl: string;
  /** Public keys as they are published; may be replaced. */
  keys: JWK[];
  /** `ok` · `down` 503 · `hang` never answers · or the very body to answer with. */
  mode: "ok" | "down" | "hang" | { readonly body: string };
  /** What the discovery document holds. */
  discovery: Readonly<Record<string, unknown>>;
  /** Paths that were asked for, in order. */
  readonly asked: string[];
  /** A new key, published or not; tokens are signed with it from now on. */
  rotate(kid: string, options?: { readonly alg?: string; readonly publish?: boolean }): Promise<JWK>;
  /** A token of user "ann" at "acme" for "sallyport", that lives a minute. */
  token(claims?: Readonly<Record<string, unknown>>, header?: Partial<JWTHeaderParameters>): Promise<string>;
  close(): Promise<void>;
}

export async function startIssuer(): Promise<TestIssuer> {
  let signing: { key: webcrypto.CryptoKey; kid: string; alg: string } | undefined;
  const asked: string[] = [];
  const server = createServer((request, response) => {
    asked.push(request.url ?? "");
    const { mode } = issuer;
    if (mode === "hang") return;
    if (mode === "down") {
      response.writeHead(503).end();
      return;
    }
    const found = request.url?.endsWith("openid-configuration") ? issuer.discovery : { keys: issuer.keys };
    response.writeHead(200, { "content-type": "application/json" });
    response.end(mode === "ok" ? JSON.stringify(found) : mode.body);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const issuer: TestIssuer = {
    url,
    jwksUrl: `${url}/jwks`,
    keys: [],
    mode: "ok",
    discovery: { issuer: url, jwks_uri: `${url}/jwks` },
    asked,
    async rotate(kid, { alg = "ES256", publish = true } = {}) {
      const { publicKey, privateKey } = await generateKeyPair(alg, { extractable: true });
      signing = { key: privateKey, kid, alg };
      const jwk: JWK = { ...(await exportJWK(publicKey)), kid, alg, use: "sig" };
      if (publish) issuer.keys = [...issuer.keys, jwk];
      return jwk;
    },
    token(claims = {}, header = {}) {
      if (signing === undefined) throw new Error("rotate first: there is no key to sign with");
      const nowSec = Math.floor(Date.now() / 1000);
      const all = {
        iss: url,
        aud: "sallyport",
        sub: "ann",
        org: "acme",
        iat: nowSec,
        exp: nowSec + 60,
        ...claims,
      };
      // What is undefined is left out, so that a test can take a claim away.
      const payload = JSON.parse(JSON.stringify(all)) as Record<string, unknown>;
      const { alg, kid, key } = signing;
      return new SignJWT(payload).setProtectedHeader({ alg, kid, ...header }).sign(key);
    },
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
  await issuer.rotate("first");
  return issuer;
}
