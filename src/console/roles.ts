/**
 * Which roles may call what: each row of the router names one of these sets. The page and the test of the roles are
 * made from the rows, so that what is said here is what holds. `sre` is no step below `admin` on one ladder with the
 * analysts: who tunes defences does not rule on people, and the other way about.
 */
import { ROLES, type Role } from "../ports/operators-record.ts";

export type Allowed = readonly Role[];

/** Reading what anybody on watch needs, and one's own session. */
export const EVERYBODY: Allowed = ROLES;
/** Tuning: policy, keys. */
export const TUNERS: Allowed = ["sre", "admin"];
/** Stopping an attack while it runs. */
export const RESPONDERS: Allowed = ["analyst", "senior-analyst", "sre", "admin"];
/** Undoing what was imposed, and taking keys and counters back. */
export const SENIOR_RESPONDERS: Allowed = ["senior-analyst", "sre", "admin"];
/** Judging callers and texts. */
export const ANALYSTS: Allowed = ["analyst", "senior-analyst", "admin"];
/** Taking judgements back. */
export const SENIOR_ANALYSTS: Allowed = ["senior-analyst", "admin"];
/** Who may do what. */
export const ADMINS: Allowed = ["admin"];
