// The back button fetches a form anew, with another one-time id. This gives it the id that it was sent with, which the
// browser keeps with the entry in its history, so that sending it again does nothing (coupons/admin/one_time.py).
"use strict";
addEventListener("DOMContentLoaded", () => {
  const field = document.querySelector("input[name=form_id]");
  const [visit] = performance.getEntriesByType("navigation");
  if (field && visit.type === "back_forward" && history.state?.formId) {
    field.value = history.state.formId;
  } else if (field) {
    history.replaceState({ formId: field.value }, "");
  }
});
