/**
 * Subscriptions over a connection of their own. A broken or silent one is replaced (in a cluster by one to the next
 * node: every node hears every message), and whoever listens is told that messages may have been missed.
 */
import { Redis } from "ioredis";
import type { RedisConnection } from "./redis-connection.ts";

export interface SubscriberOptions {
  readonly connection: RedisConnection;
  /** A connection that does not answer a ping for so long is replaced. */
  readonly silentMs: number;
  readonly onResubscribed: () => void;
}

export class RedisSubscriber {
  readonly #options: SubscriberOptions;
  readonly #listeners = new Map<string, ((message: string) => void)[]>();
  readonly #ticks: NodeJS.Timeout;
  #attempt = 0;
  #client: Redis;
  #heardMs = performance.now();
  #hasSubscribed = false;
  #waiting: (() => void)[] = [];

  constructor(options: SubscriberOptions) {
    this.#options = options;
    this.#client = this.#open();
    this.#ticks = setInterval(() => this.#tick(), options.silentMs / 4);
    this.#ticks.unref();
  }

  /** Resolves when Redis has confirmed; where it is away, once it is back. */
  async subscribe(channel: string, listener: (message: string) => void): Promise<void> {
    const known = this.#listeners.get(channel);
    if (known === undefined) this.#listeners.set(channel, [listener]);
    else known.push(listener);
    const confirmed = new Promise<void>((resolve) => this.#waiting.push(resolve));
    if (this.#client.status === "ready") this.#ask(this.#client);
    await confirmed;
  }

  close(): void {
    clearInterval(this.#ticks);
    this.#drop(this.#client);
  }

  #open(): Redis {
    const client = new Redis({ ...this.#options.connection.plain(this.#attempt++), autoResubscribe: false });
    client.on("error", () => {}); // a refused connection is tried again
    client.on("message", (channel: string, message: string) => {
      for (const listener of this.#listeners.get(channel) ?? []) listener(message);
    });
    client.on("ready", () => {
      this.#heardMs = performance.now();
      const isAgain = this.#hasSubscribed;
      this.#ask(client, () => isAgain && this.#options.onResubscribed());
    });
    return client;
  }

  #ask(client: Redis, then?: () => void): void {
    const channels = [...this.#listeners.keys()];
    if (channels.length === 0) return;
    const waiting = this.#waiting;
    this.#waiting = [];
    client.subscribe(...channels).then(
      () => {
        this.#hasSubscribed = true;
        for (const resolve of waiting) resolve();
        then?.();
      },
      () => this.#waiting.push(...waiting), // broken again: the next connection asks
    );
  }

  #tick(): void {
    const client = this.#client;
    if (performance.now() - this.#heardMs > this.#options.silentMs) {
      this.#heardMs = performance.now();
      this.#client = this.#open();
      this.#drop(client);
      return;
    }
    if (client.status !== "ready") return;
    client.ping().then(
      () => {
        this.#heardMs = performance.now();
      },
      () => {},
    );
  }

  #drop(client: Redis): void {
    client.disconnect();
    client.stream?.destroy();
  }
}
