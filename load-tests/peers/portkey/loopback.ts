/**
 * Preloaded into the Portkey gateway, which has no option for the host that it listens on and would open
 * its port on every interface. It binds whatever listens on a bare port number to loopback.
 */
import { Server } from "node:net";

const listen = Server.prototype.listen;
Server.prototype.listen = function (this: Server, ...args: unknown[]) {
  const [port] = args;
  const callback = args.findLast((arg): arg is () => void => typeof arg === "function");
  if (typeof port !== "number") {
    return Reflect.apply(listen, this, args);
  }
  return Reflect.apply(listen, this, [{ port, host: "127.0.0.1" }, callback]);
};
