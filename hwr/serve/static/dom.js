// Elements, messages and dialogs. Texts become text nodes, never markup.

let press = null;
addEventListener("pointerdown", () => {
  press = new Promise((done) => {
    addEventListener("pointerup", () => setTimeout(done), { capture: true, once: true });
    setTimeout(done, 2000); // menus of the browser keep the end to themselves
  });
}, true);

/** Wait until nothing is being clicked: a click on an element that is replaced before it ends is lost. */
export const released = () => press;

/** Make an element. Properties that start with "on" are listeners; null and false are left out. */
export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "class") element.className = value;
    else if (name === "value" || name === "checked" || name === "disabled") element[name] = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

const SVG = "http://www.w3.org/2000/svg";

/** Make an SVG element. */
export function svg(tag, properties = {}, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(properties)) {
    element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

/** Replace the children of an element. The focus, if it was inside, stays with the same child or moves to its successor. */
export function fill(element, ...children) {
  const focused = element.contains(document.activeElement) ? document.activeElement : null;
  element.replaceChildren(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  if (!focused || focused === document.activeElement) return;
  const same = (one) => one === focused || named(one) === named(focused);
  [...element.querySelectorAll(focused.tagName)].find(same)?.focus({ preventScroll: true });
}

const named = (element) =>
  element.dataset.line ?? element.getAttribute("aria-label") ?? element.getAttribute("href") ?? element.textContent;

/** Show a message for a few seconds; errors stay until they are dismissed, each once, however many there are. */
export function toast(message, kind = "note") {
  const box = document.getElementById("toasts");
  const close = kind === "error" ? h("button", { class: "plain", "aria-label": "Dismiss", onclick: () => item.remove() }, "×") : "";
  const item = h("div", { class: `toast ${kind}` }, h("span", {}, message), close);
  for (const one of [...box.children]) if (one.className === item.className && one.textContent === item.textContent) one.remove();
  box.append(item);
  box.scrollTop = box.scrollHeight;
  if (kind !== "error") setTimeout(() => item.remove(), 4000);
}

/** Show a dialog and resolve with the value of the button pressed, or null. */
export function ask(title, content, buttons) {
  return new Promise((resolve) => {
    const done = (value) => {
      dialog.close();
      dialog.remove();
      resolve(value);
    };
    const row = buttons.map(([label, value, kind]) => h("button", { class: kind ?? "", onclick: () => done(value) }, label));
    const dialog = h("dialog", { "aria-label": title }, h("h2", {}, title), content, h("div", { class: "row end" }, row));
    dialog.addEventListener("cancel", () => done(null));
    document.body.append(dialog);
    dialog.showModal();
  });
}

export const percent = (value, digits = 0) => `${(100 * value).toFixed(digits)} %`;
export const plural = (count, one, many = `${one}s`) => `${count.toLocaleString("en")} ${count === 1 ? one : many}`;
