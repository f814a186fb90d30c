/**
 * Peer of the bench: a bare proxy that only forwards, on the original `http-proxy` 1.18.1 or on its
 * successor `http-proxy-3`. Both get an agent with keep-alive: without one they open a connection per
 * request, and a comparison with them would flatter whoever stands beside them.
 *
 *   node http-proxy.ts http-proxy|http-proxy-3 LISTEN_PORT UPSTREAM_PORT
 */
import { Agent, createServer, type IncomingMessage, ServerResponse } from "node:http";
import { createRequire } from "node:module";

interface Proxy {
  web(request: IncomingMessage, response: ServerResponse): void;
  on(event: "error", listener: (error: Error, request: IncomingMessage, response: unknown) => void): void;
}
interface ProxyPackage {
  createProxyServer(options: { target: string; agent: Agent }): Proxy;
}

/** The original is installed in a folder of its own; the successor is a dependency of the project. */
const PACKAGE_BASES: Readonly<Record<string, string>> = {
  "http-proxy": new URL("./http-proxy/package.json", import.meta.url).pathname,
  "http-proxy-3": import.meta.url,
};

const [name = "", listenPort = "", upstreamPort = ""] = process.argv.slice(2);
const base = PACKAGE_BASES[name];
if (base === undefined || !(Number(listenPort) > 0) || !(Number(upstreamPort) > 0)) {
  console.error(`usage: node http-proxy.ts ${Object.keys(PACKAGE_BASES).join("|")} LISTEN_PORT UPSTREAM_PORT`);
  process.exit(2);
}

const { createProxyServer }: ProxyPackage = createRequire(base)(name);
const proxy = createProxyServer({
  target: `http://127.0.0.1:${upstreamPort}`,
  agent: new Agent({ keepAlive: true }),
});
proxy.on("error", (error, _request, response) => {
  if (response instanceof ServerResponse && !response.headersSent) response.writeHead(502).end(error.message);
});
createServer((request, response) => proxy.web(request, response)).listen(Number(listenPort), "127.0.0.1");
