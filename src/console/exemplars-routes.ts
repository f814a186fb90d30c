/** Exemplars: texts that people have judged, by which the next of their kind is known; the texts are not kept. */
import { z } from "zod";
import { type ExemplarRow, TEXT_UNITS_MAX } from "../ports/exemplars-row.ts";
import { fault } from "./faults.ts";
import { nextCursor, pageOf, pageQuery } from "./paging.ts";
import { ANALYSTS, EVERYBODY, SENIOR_ANALYSTS } from "./roles.ts";
import { defineRoute, ok, type Reply } from "./route.ts";

const id = z
  .string()
  .regex(/^ex_[0-9a-f]{20}$/, { error: 'must look like "ex_" and 20 hex digits' })
  .describe("The exemplar's id; it follows from the text.");
const params = z.strictObject({ id });

const label = z.enum(["bad", "good"]).describe("bad: abuse · good: it looks like abuse and is none.");
const mode = z
  .enum(["enforce", "shadow"])
  .describe("shadow: what is near it is flagged at most, and a good one frees nothing.");
const line = (max: number) => z.string().trim().min(1).max(max);

const newExemplar = z.strictObject({
  text: z
    .string()
    .min(1)
    .max(TEXT_UNITS_MAX)
    .describe("The text, as it was sent. It is not kept: only its embedding and hashes are."),
  label,
  reason: line(500).describe("Why, in words for people; not the text."),
  mode: mode.default("enforce"),
  note: line(200).optional().describe("A few words more, such as a case's id. Absent: none."),
});

const exemplarView = z
  .strictObject({
    id,
    label,
    mode,
    reason: z.string().describe("Why, in words for people."),
    note: z.string().optional().describe("A few words more. Absent: none."),
    by: z.string().describe("Who added it."),
    createdAt: z.iso.datetime().describe("When it was added."),
    units: z.int().describe("Length of the folded text, UTF-16 units."),
    copies: z.boolean().describe("Copies are known by their wording too; false: it has too few words."),
  })
  .meta({ id: "Exemplar", description: "A text that people have judged, without the text." });

const STORE_AWAY = "The exemplars cannot be written now, or the sentence encoder does not answer.";
const NO_SUCH = "There is no exemplar with this id.";

export const exemplarsRoutes = [
  defineRoute({
    id: "exemplars.list",
    noun: "exemplars",
    method: "GET",
    path: "/api/exemplars",
    access: EVERYBODY,
    summary: "Lists exemplars, oldest first.",
    query: z.strictObject({
      label: label.optional().describe("Only bad ones, or only good ones. Absent: all."),
      ...pageQuery,
    }),
    answers: {
      200: {
        description: "One page.",
        schema: z
          .strictObject({ exemplars: z.array(exemplarView).describe("Oldest first."), next: nextCursor })
          .meta({ id: "ExemplarPage", description: "Exemplars." }),
      },
    },
    handle({ query: { label: wanted, ...page } }, { exemplars }) {
      const all = exemplars.values();
      const rows = wanted === undefined ? all : Iterator.from(all).filter((row) => row.label === wanted);
      const shown = pageOf(rows, ({ createdAt: at, id: own }) => ({ at, id: own }), page);
      return ok({ exemplars: shown.rows.map(viewOf), next: shown.next });
    },
  }),
  defineRoute({
    id: "exemplars.add",
    noun: "exemplars",
    method: "POST",
    path: "/api/exemplars",
    access: ANALYSTS,
    summary: "Adds an exemplar, on every replica within a second. The same text again replaces it.",
    body: newExemplar,
    answers: { 201: { description: "It counts.", schema: exemplarView } },
    faults: { store_away: STORE_AWAY },
    async handle({ body, actor }, { exemplars }) {
      const row = await exemplars.add({ ...body, by: actor });
      const after = viewOf(row);
      const headers = { location: `/api/exemplars/${row.id}` };
      return { status: 201, body: after, headers, target: `${row.id} ${row.label}`, change: { after } };
    },
  }),
  defineRoute({
    id: "exemplars.get",
    noun: "exemplars",
    method: "GET",
    path: "/api/exemplars/{id}",
    access: EVERYBODY,
    summary: "Shows one exemplar.",
    params,
    answers: { 200: { description: "The exemplar.", schema: exemplarView } },
    faults: { not_found: NO_SUCH },
    handle(call, parts) {
      const row = parts.exemplars.get(call.params.id);
      return row === undefined ? noSuch() : ok(viewOf(row));
    },
  }),
  defineRoute({
    id: "exemplars.remove",
    noun: "exemplars",
    method: "DELETE",
    path: "/api/exemplars/{id}",
    access: SENIOR_ANALYSTS,
    summary: "Removes an exemplar, on every replica within a second.",
    params,
    answers: {
      200: {
        description: "It does not count any more.",
        schema: z
          .strictObject({ id, removed: z.literal(true).describe("It does not count any more.") })
          .meta({ id: "RemovedExemplar", description: "An exemplar that was removed." }),
      },
    },
    faults: { not_found: NO_SUCH, store_away: STORE_AWAY },
    async handle({ params: { id: wanted } }, parts) {
      const row = parts.exemplars.get(wanted);
      if (!(await parts.exemplars.remove(wanted))) return noSuch();
      const change = { before: row === undefined ? null : viewOf(row) };
      return ok({ id: wanted, removed: true }, { change });
    },
  }),
];

function noSuch(): Reply {
  return fault("not_found", `${NO_SUCH} GET /api/exemplars lists them.`);
}

function viewOf({ id: own, label: of, mode: how, reason, note, by, createdAt, units, simhash }: ExemplarRow) {
  return {
    id: own,
    label: of,
    mode: how,
    reason,
    ...(note !== undefined && { note }),
    by,
    createdAt,
    units,
    copies: simhash !== undefined,
  };
}
