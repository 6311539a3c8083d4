// The interactive OpenAPI page: swagger-ui with the schema of this service and the key of this tab.

import { call, key, readConfig } from "./http.js";

const form = document.getElementById("key-form");

async function show() {
  try {
    const { data: spec } = await call("openapi.json");
    form.hidden = true;
    window.SwaggerUIBundle({
      spec,
      dom_id: "#swagger",
      deepLinking: true,
      validatorUrl: null, // the validator is another host
      requestInterceptor(request) {
        if (key.value) request.headers.Authorization ??= `Bearer ${key.value}`;
        return request;
      },
    });
  } catch (error) {
    form.hidden = false;
    document.getElementById("key-reason").textContent = error.status === 401 ? "" : error.message;
  }
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  key.value = document.getElementById("key-input").value.trim();
  show();
});

await readConfig();
await show();
