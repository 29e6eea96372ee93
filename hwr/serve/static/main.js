// Start: show the token to the server if there is one, then the view that the address names.

import { api } from "./api.js";
import { h, fill } from "./dom.js";
import { watchJobs } from "./jobs.js";
import { loadPage, showPage } from "./page.js";
import { showProject } from "./project.js";
import { showTraining } from "./training.js";

const bar = document.getElementById("bar");
const main = document.getElementById("main");
let leave = () => {};
let turns = 0;

// Its address would be taken for that of a view.
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  main.focus();
});

/** Show the view that the address names. Until it is there, the one before goes on. */
async function route() {
  const turn = (turns += 1);
  await showToken(); // of a server that was started again
  const [, view, id] = location.hash.split("/");
  let open;
  try {
    const found = view === "page" ? await loadPage(decodeURIComponent(id)) : null;
    open = () => (found ? showPage(bar, main, found) : view === "training" ? showTraining(bar, main) : showProject(bar, main));
  } catch (error) {
    open = () => showError(error);
  }
  if (turn < turns) return; // the address has changed again
  leave();
  window.scrollTo(0, 0);
  document.body.className = `view-${view || "project"}`;
  leave = open();
}

function showError(error) {
  fill(bar, h("a", { class: "button", href: "#/" }, "← Pages"));
  fill(main, h("p", { class: "error-text", role: "alert" }, error.message), h("button", { onclick: route }, "Try again"));
  return () => {};
}

/** Show the server the token in the address, if there is one. */
async function showToken() {
  const token = new URLSearchParams(location.hash.slice(1)).get("token");
  if (!token) return;
  history.replaceState(null, "", location.pathname);
  await api.session(token).catch(() => {});
}

async function start() {
  await showToken();
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
  window.addEventListener("hashchange", () => location.reload()); // a link with the token
}

start().catch((error) => fill(main, h("p", { class: "error-text", role: "alert" }, error.message)));
