/**
 * The WebSocket at /v1/realtime: every JSON event comes back as it was sent, anything else gets an error
 * event. In a file of its own, loaded when the first upgrade arrives, as only this part needs `ws`.
 */
import type { IncomingMessage } from "node:http";
import type { Duplex } from "node:stream";
import { WebSocketServer } from "ws";

const MESSAGE_BYTES_MAX = 16 * 1024 * 1024;
const CLOSED_WITHOUT_GOODBYE = 1006;

const server = new WebSocketServer({ noServer: true, maxPayload: MESSAGE_BYTES_MAX });

/** Takes the socket over. `onClose` is told whether the client said goodbye. */
export function openRealtime(
  request: IncomingMessage,
  socket: Duplex,
  head: Buffer,
  onClose: (orderly: boolean) => void,
): void {
  server.handleUpgrade(request, socket, head, (client) => {
    client.on("message", (data, isBinary) => {
      const text = String(data);
      client.send(!isBinary && isJson(text) ? text : NOT_JSON);
    });
    client.on("error", () => client.terminate());
    client.on("close", (code) => onClose(code !== CLOSED_WITHOUT_GOODBYE));
  });
}

const NOT_JSON = JSON.stringify({
  type: "error",
  error: { type: "invalid_request_error", code: "invalid_event", message: "An event must be JSON text." },
});

function isJson(text: string): boolean {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}
