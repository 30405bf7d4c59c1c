import assert from "node:assert/strict";
import { before, test } from "node:test";
import { when } from "../src/desk/when.js";

before(() => (process.env.TZ = "Europe/Berlin"));

/** What is said at `now` of each of these times, all of them where the clocks of Berlin are read. */
const said = (now, ...times) => times.map((at) => when(new Date(at), new Date(now), "en-GB"));

test("today has the time of day, yesterday too and says so, and what is older the date", () => {
  const times = ["2026-11-28T14:05", "2026-11-28T00:00", "2026-11-27T23:59", "2026-11-27T00:00", "2026-11-26T23:59"];
  assert.deepEqual(said("2026-11-28T16:00", ...times), ["14:05", "00:00", "yesterday 23:59", "yesterday 00:00", "26 Nov"]);
});

test("a date of another year has its year, but yesterday is yesterday on New Year's Day", () => {
  assert.deepEqual(said("2027-01-01T09:00", "2026-12-31T22:10", "2026-12-30T10:00"), ["yesterday 22:10", "30 Dec 2026"]);
});

test("days are those of the reader, also where one has 25 hours", () => {
  assert.deepEqual(said("2026-10-26T00:30", "2026-10-25T00:10", "2026-10-24T23:50"), ["yesterday 00:10", "24 Oct"]);
  assert.equal(when("2026-11-27T23:30:00.000Z", new Date("2026-11-28T12:00"), "en-GB"), "00:30");
});

test("it is written as the reader's language does", () => {
  assert.equal(when("2026-11-28T14:05", new Date("2026-11-28T16:00"), "en-US").replace(/\s/u, " "), "2:05 PM");
});
