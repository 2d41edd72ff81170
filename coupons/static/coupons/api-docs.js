"use strict";

// A separate file, so that the page needs no inline script (Content-Security-Policy).
SwaggerUIBundle({
  url: document.getElementById("api").dataset.schema,
  dom_id: "#api",
  deepLinking: true,
  validatorUrl: null,
});
