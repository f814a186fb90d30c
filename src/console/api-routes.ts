/** The API about itself. It needs a token like the rest: what can be done here is nobody else's affair. */
import { z } from "zod";
import { EVERYBODY } from "./roles.ts";
import { defineRoute, ok, type RouteRow } from "./route.ts";

/** The document is made when it is first asked for: few processes are ever asked. */
export function apiRoutes(documentOf: () => unknown): readonly RouteRow[] {
  let made: unknown;
  return [
    defineRoute({
      id: "api.openapi",
      noun: "api",
      method: "GET",
      path: "/api/openapi.json",
      access: EVERYBODY,
      summary: "This API as an OpenAPI 3.1 document.",
      answers: {
        200: {
          description: "The document.",
          schema: z.looseObject({ openapi: z.string().describe("3.1.x") }),
        },
      },
      handle() {
        made ??= documentOf();
        return ok(made);
      },
    }),
  ];
}
