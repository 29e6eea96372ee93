// Start: show the token to the server if there is one, then the view that the address names.

import { api } from "./api.js";
import { h, fill } from "./dom.js";
import { watchJobs } from "./jobs.js";
import { showPage } from "./page.js";
import { showProject } from "./project.js";
import { showTraining } from "./training.js";

const bar = document.getElementById("bar");
const main = document.getElementById("main");
let leave = () => {};

// Its address would be taken for that of a view.
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  main.focus();
});

async function route() {
  if (leave(true) === false) return;
  const [, view, id] = location.hash.split("/");
  window.scrollTo(0, 0);
  document.body.className = `view-${view || "project"}`;
  if (view === "page") leave = await showPage(bar, main, decodeURIComponent(id));
  else if (view === "training") leave = await showTraining(bar, main);
  else leave = await showProject(bar, main);
}

async function start() {
  const token = new URLSearchParams(location.hash.slice(1)).get("token");
  if (token) {
    history.replaceState(null, "", location.pathname);
    await api.session(token).catch(() => {});
  }
  try {
    await api.model();
  } catch (error) {
    if (error.status !== 401) throw error;
    return login();
  }
  watchJobs();
  window.addEventListener("hashchange", async () => {
    await route();
    // The link that was followed is gone: the keyboard goes on in the new view, and screen readers begin to read it.
    if (document.activeElement === document.body) main.focus({ preventScroll: true });
  });
  await route();
}

function login() {
  const field = h("input", { id: "token", type: "password", autocomplete: "current-password", required: true });
  const message = h("p", { class: "error-text", role: "alert" });
  const submit = async (event) => {
    event.preventDefault();
    try {
      await api.session(field.value.trim());
      location.reload();
    } catch (error) {
      message.textContent = error.message;
    }
  };
  const form = h("form", { class: "card login", onsubmit: submit },
    h("h1", {}, "hwr"), h("label", { for: "token" }, "The token that the server printed when it started"), field,
    message, h("button", { class: "primary" }, "Open"));
  fill(main, form);
  field.focus();
}

start().catch((error) => fill(main, h("p", { class: "error-text", role: "alert" }, error.message)));
