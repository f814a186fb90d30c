/** Whole answers to calls for a stream and the other way round; types, headers and statuses that lie. */
import { gzipSync } from "node:zlib";
import { LEAD, STREAM_HEADERS } from "../templates/answers.ts";
import { changed, escaped, type Row, said } from "./streams.ts";

const JSON_TYPE = { "content-type": "application/json" };

/** Whole answers to calls that asked for a stream, and the other way round; types, headers, statuses. */
export const KINDS: readonly Row[] = [
  { id: "JSON to a call for a stream", answer: (secret, route) => ({ chunks: [said(route, secret)] }) },
  {
    id: "an event stream to a call for JSON",
    more: { stream: false },
    answer: (secret, route) => changed(route, secret, (bytes) => bytes),
  },
  {
    id: "an event stream typed as JSON",
    answer: (secret, route) => ({ ...changed(route, secret, (bytes) => bytes), headers: JSON_TYPE }),
  },
  {
    id: "an event stream typed as text",
    answer: (secret, route) => ({
      ...changed(route, secret, (bytes) => bytes),
      headers: { "content-type": "text/plain" },
    }),
  },
  {
    id: "an event stream without a type",
    answer: (secret, route) => ({
      ...changed(route, secret, (bytes) => bytes),
      headers: { "content-type": "" },
    }),
  },
  {
    id: "JSON typed as an event stream",
    answer: (secret, route) => ({ headers: STREAM_HEADERS, chunks: [said(route, secret)] }),
  },
  {
    id: "JSON typed as text",
    more: { stream: false },
    answer: (secret, route) => ({ headers: { "content-type": "text/plain" }, chunks: [said(route, secret)] }),
  },
  {
    id: "JSON typed as HTML",
    more: { stream: false },
    answer: (secret, route) => ({ headers: { "content-type": "text/html" }, chunks: [said(route, secret)] }),
  },
  {
    id: "JSON of a vendor's own type",
    more: { stream: false },
    answer: (secret, route) => ({
      headers: { "content-type": "application/vnd.x+json" },
      chunks: [said(route, secret)],
    }),
  },
  {
    id: "JSON lines",
    answer: (secret, route) => ({
      headers: { "content-type": "application/x-ndjson" },
      chunks: [`${said(route, secret)}\n`],
    }),
  },
  {
    id: "bare text typed as JSON",
    more: { stream: false },
    answer: (secret) => ({ chunks: [`${LEAD}${secret}`] }),
  },
  {
    id: "a bare JSON string",
    more: { stream: false },
    answer: (secret) => ({ chunks: [JSON.stringify(`${LEAD}${secret}`)] }),
  },
  {
    id: "a bare JSON list",
    more: { stream: false },
    answer: (secret) => ({ chunks: [JSON.stringify([secret])] }),
  },
  {
    id: "an object that nobody knows",
    more: { stream: false },
    answer: (secret) => ({ chunks: [JSON.stringify({ novel: { words: [secret] } })] }),
  },
  {
    id: "JSON in UTF-16",
    more: { stream: false },
    answer: (secret, route) => ({
      headers: { "content-type": "application/json; charset=utf-16" },
      chunks: [Buffer.from(said(route, secret), "utf16le")],
    }),
  },
  {
    id: "JSON after a byte-order mark",
    more: { stream: false },
    answer: (secret, route) => ({ chunks: [`\ufeff${said(route, secret)}`] }),
  },
  {
    id: "JSON with escapes",
    more: { stream: false },
    answer: (secret, route) => ({ chunks: [said(route, secret).replace(secret, escaped(secret))] }),
  },
  {
    id: "a whole answer with a member named twice",
    more: { stream: false },
    answer: (secret, route) => ({
      chunks: [`{"note":"${secret}","note":"Hello.",${said(route, "none").slice(1)}`],
    }),
  },
  {
    id: "JSON and more after it",
    more: { stream: false },
    answer: (secret, route) => ({ chunks: [`${said(route, "none")}\n${secret}`] }),
  },
  {
    id: "a whole JSON answer that breaks off",
    more: { stream: false },
    answer: (secret, route) => ({ chunks: [said(route, secret).slice(0, -9)] }),
  },
  {
    id: "gzip, unasked",
    more: { stream: false },
    answer: (secret, route) => ({
      headers: { ...JSON_TYPE, "content-encoding": "gzip" },
      chunks: [gzipSync(said(route, secret))],
    }),
  },
  {
    id: "gzip, not said",
    more: { stream: false },
    answer: (secret, route) => ({ chunks: [gzipSync(said(route, secret))] }),
  },
  {
    id: "an error of 400",
    more: { stream: false },
    answer: (secret) => ({
      status: 400,
      chunks: [
        JSON.stringify({ type: "error", error: { type: "x", code: "y", message: `${LEAD}${secret}` } }),
      ],
    }),
  },
  {
    id: "an error of 400 to a call for a stream",
    answer: (secret) => ({
      status: 400,
      chunks: [JSON.stringify({ error: { message: `${LEAD}${secret}` } })],
    }),
  },
  {
    id: "an error of 500",
    more: { stream: false },
    answer: (secret) => ({
      status: 500,
      chunks: [JSON.stringify({ error: { message: `${LEAD}${secret}` } })],
    }),
  },
  {
    id: "an error in words",
    more: { stream: false },
    answer: (secret) => ({
      status: 502,
      headers: { "content-type": "text/html" },
      chunks: [`<h1>${secret}</h1>`],
    }),
  },
  {
    id: "an error as an event stream",
    answer: (secret, route) => ({ ...changed(route, secret, (bytes) => bytes), status: 400 }),
  },
  {
    id: "an error that is a JSON string",
    more: { stream: false },
    answer: (secret) => ({ status: 403, chunks: [JSON.stringify(secret)] }),
  },
  {
    id: "a redirect",
    more: { stream: false },
    answer: (secret) => ({ status: 302, headers: { location: `https://a.test/${secret}` }, chunks: [] }),
  },
  {
    id: "status 206",
    more: { stream: false },
    answer: (secret, route) => ({
      status: 206,
      headers: { ...JSON_TYPE, "content-range": "bytes 0-9/10" },
      chunks: [said(route, secret)],
    }),
  },
  {
    id: "headers",
    more: { stream: false },
    answer: (secret, route) => ({
      headers: {
        ...JSON_TYPE,
        "x-request-id": secret,
        "request-id": secret,
        "x-note": secret,
        "set-cookie": `a=${secret}`,
        link: `<${secret}>`,
      },
      chunks: [said(route, "none")],
    }),
  },
  {
    id: "headers of a stream",
    answer: (secret, route) => ({
      ...changed(route, "none", (bytes) => bytes),
      headers: {
        ...STREAM_HEADERS,
        "x-request-id": secret,
        "openai-organization": secret,
        "openai-version": secret,
        "openai-model": secret,
        "openai-project": secret,
        "anthropic-organization-id": secret,
        "openai-processing-ms": secret,
        "retry-after": secret,
        "x-ratelimit-limit-requests": secret,
      },
    }),
  },
  {
    id: "trailers",
    more: { stream: false },
    answer: (secret, route) => ({
      headers: { ...JSON_TYPE, trailer: "x-note, x-request-id" },
      trailers: { "x-note": secret, "x-request-id": secret },
      chunks: [said(route, "none")],
    }),
  },
  {
    id: "an early hint",
    more: { stream: false },
    answer: (secret, route) => ({
      raw: true,
      chunks: [
        `HTTP/1.1 103 Early Hints\r\nlink: <${secret}>\r\n\r\nHTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: ${Buffer.byteLength(said(route, "none"))}\r\n\r\n${said(route, "none")}`,
      ],
    }),
  },
  {
    id: "the status line's words",
    more: { stream: false },
    answer: (secret, route) => ({
      raw: true,
      chunks: [
        `HTTP/1.1 200 ${secret}\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: ${Buffer.byteLength(said(route, "none"))}\r\n\r\n${said(route, "none")}`,
      ],
    }),
  },
  {
    id: "a second answer on the connection",
    more: { stream: false },
    answer: (secret, route) => ({
      raw: true,
      chunks: [
        `HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: ${Buffer.byteLength(said(route, "none"))}\r\n\r\n${said(route, "none")}HTTP/1.1 200 OK\r\ncontent-length: 20\r\n\r\n${secret}`,
      ],
    }),
  },
  {
    id: "a body shorter than it says",
    more: { stream: false },
    answer: (secret, route) => ({
      raw: true,
      chunks: [
        `HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: 99999\r\n\r\n${said(route, secret)}`,
      ],
    }),
  },
];
