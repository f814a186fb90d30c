/**
 * One server-sent event as the endpoints hand it over: its bytes-to-be and how many tokens it stands for,
 * which sets its place in time when a script asks for a token rate.
 */
export interface Frame {
  readonly sse: string;
  readonly tokens: number;
}

export function frameOf(data: string, event?: string, tokens = 0): Frame {
  const name = event === undefined ? "" : `event: ${event}\n`;
  const lines = data.includes("\n") ? data.split("\n").join("\ndata: ") : data;
  return { sse: `${name}data: ${lines}\n\n`, tokens };
}
