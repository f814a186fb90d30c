/** For tests: operators as they are, over tables in memory alone, with an scrypt that takes no time. */
import { Operators } from "../ports/operators.ts";
import type { AccountRecord, SessionRecord, TokenRecord } from "../ports/operators-record.ts";
import { Pepper } from "../ports/pepper.ts";
import type { Table, TableRow } from "../ports/table.ts";
import type { RowChange } from "../ports/table-rows.ts";

export const CHEAP = { ln: 4, r: 8, p: 1 };

export function standInOperators(refuseWhenAway: () => void, now: () => number = Date.now): Operators {
  const tables = {
    accounts: memoryTable<AccountRecord>(refuseWhenAway),
    sessions: memoryTable<SessionRecord>(refuseWhenAway),
    tokens: memoryTable<TokenRecord>(refuseWhenAway),
  };
  return new Operators(tables, new Pepper("a pepper for tests"), { cost: CHEAP, now });
}

function memoryTable<Row extends TableRow>(refuseWhenAway: () => void): Table<Row> {
  const rows = new Map<string, Row>();
  const listeners: ((changes: readonly RowChange<Row>[]) => void)[] = [];
  return {
    rows,
    get: (id) => rows.get(id),
    get size() {
      return rows.size;
    },
    values: () => rows.values(),
    async change(id, change) {
      refuseWhenAway();
      const before = rows.get(id);
      const after = change(before);
      if (after === undefined) return before;
      if (after === null) rows.delete(id);
      else rows.set(id, after);
      for (const listener of listeners) listener([{ id, before, after: after ?? undefined }]);
      return after ?? undefined;
    },
    onChange: (listener) => void listeners.push(listener),
    problem: undefined,
    close: async () => {},
  };
}
