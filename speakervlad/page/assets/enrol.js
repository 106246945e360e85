// Enrolment that asks before it takes a recording which something speaks against.

import { post } from "./api.js";
import { ask, el } from "./dom.js";

// What was enrolled; null where the answer was no.
export async function enrolAsking(fields) {
  try {
    return await post("/api/people/add", fields);
  } catch (error) {
    if (!error.doubts) throw error;
    const reasons = el("ul", { class: "reasons" }, error.doubts.map((reason) => el("li", {}, reason)));
    const buttons = [["", "Do not enrol"], ["yes", "Enrol all the same", "danger"]];
    if (await ask(`Is this ${fields.name} alone?`, reasons, buttons) !== "yes") return null;
    return await post("/api/people/add", { ...fields, sure: "yes" });
  }
}
