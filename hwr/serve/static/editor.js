// The current line: its picture enlarged above its text, confidence as colour, alternatives, special characters.

import { api } from "./api.js";
import { fill, h, percent } from "./dom.js";

const NAMES = { empty: "not read", unsaved: "not saved" };

/**
 * @param on {accept(), previous(), next(), uncertain(step), undo(), leave()}
 */
export function editor(page, alphabet, on) {
  const picture = h("img", { class: "line-picture", alt: "" });
  const mirror = h("div", { class: "mirror", "aria-hidden": "true" });
  const input = h("input", { id: "text", type: "text", spellcheck: "false", autocomplete: "off", autocapitalize: "off",
    "aria-label": "Text of the current line", "aria-describedby": "keys", enterkeyhint: "next" });
  const status = h("span", { class: "status" });
  const words = h("div", { class: "chips", role: "group", "aria-label": "Alternatives of the word at the cursor" });
  const special = [...alphabet].filter((c) => c.codePointAt(0) > 126);
  const palette = h("div", { class: "chips palette", role: "group", "aria-label": "Special characters" },
    special.map((c) => h("button", { class: "chip", type: "button", onclick: () => insert(c) }, c)));
  const more = h("button", { class: "small", type: "button", "aria-expanded": "false", title: "Special characters",
    "aria-label": "Special characters: ä é ſ …",
    onclick: () => {
      const shown = element.classList.toggle("with-palette");
      more.setAttribute("aria-expanded", String(shown));
    } }, "ä é ſ …");
  const keys = h("p", { id: "keys", class: "keys" },
    h("kbd", {}, "Enter"), " accepts and moves on · ", h("kbd", {}, "Tab"), " next uncertain line · ", h("kbd", {}, "Alt 1"),
    " first alternative · ", h("kbd", {}, "Ctrl Z"), " undo · ", h("kbd", {}, "Esc"), " leaves the text");
  const element = h("section", { class: "editor", "aria-label": "Current line" },
    h("div", { class: "line-frame" }, picture),
    h("div", { class: "row text-row" }, h("div", { class: "field" }, mirror, input), status),
    h("div", { class: "row wrap under" }, words, special.length ? more : null), palette, keys);

  // `found` are the alternatives of the current line, `of` the reading that they belong to.
  const state = { line: null, found: null, of: "", pending: null, timer: 0 };

  function insert(text) {
    input.focus();
    // Keeps the browser's own undo, unlike setting the value.
    if (!document.execCommand("insertText", false, text)) input.setRangeText(text, input.selectionStart, input.selectionEnd, "end");
    changed();
  }

  function changed() {
    drawMirror();
    drawAlternatives();
  }

  /** The text of a line as the field shows it: without tabs and line breaks, whose absence is nothing that somebody has typed. */
  const inField = (line) => line.text.replace(/[\t\r\n]/g, " ");
  const dirty = () => state.line !== null && input.value !== inField(state.line);

  /** Colour what is still as it was read; characters that were typed have no colour. */
  function drawMirror() {
    const found = state.line?.characters ?? [];
    const now = [...input.value];
    const old = found.map((character) => character[0]);
    let start = 0;
    while (start < now.length && start < old.length && now[start] === old[start]) start += 1;
    let end = 0;
    while (end < now.length - start && end < old.length - start && now[now.length - 1 - end] === old[old.length - 1 - end]) end += 1;
    fill(mirror, now.map((c, index) => {
      const at = index < start ? index : index >= now.length - end ? old.length - (now.length - index) : -1;
      const sure = at >= 0 && old.length ? found[at][3] : null;
      return sure !== null && sure < 0.95 ? h("mark", { class: sure < 0.5 ? "low" : sure < 0.8 ? "middle" : "high" }, c) : c;
    }));
    mirror.scrollLeft = input.scrollLeft;
  }

  /** The word at the cursor: its number, start and end. */
  function wordAt() {
    const pattern = /\S+/g;
    let number = 0;
    for (let match = pattern.exec(input.value); match; match = pattern.exec(input.value), number += 1) {
      const end = match.index + match[0].length;
      if (input.selectionStart <= end) return { number, start: match.index, end, text: match[0] };
    }
    return null;
  }

  function drawAlternatives() {
    const { found } = state;
    const word = found && wordAt();
    // After an edit the words may have other numbers; the word itself must still be there.
    const same = word && (found.words[word.number] === word.text || found.alternatives[word.number]?.includes(word.text));
    const own = same ? found.alternatives[word.number].filter((text) => text !== word.text) : [];
    if (same && found.words[word.number] !== word.text) own.unshift(found.words[word.number]);
    fill(words, own.map((text, index) => h("button", { class: "chip", type: "button", tabindex: "-1", title: `Alt ${index + 1}`,
      onclick: () => replaceWord(word, text) }, text)));
  }

  function replaceWord(word, text) {
    input.focus();
    input.setSelectionRange(word.start, word.end);
    insert(text);
  }

  function loadAlternatives(line) {
    const of = [line.id, line.revision, line.confidence].join(" ");
    if (of === state.of) return;
    Object.assign(state, { of, found: null });
    state.pending?.abort();
    clearTimeout(state.timer);
    if (!line.text || line.state === "checked") return;
    state.timer = setTimeout(async () => {
      state.pending = new AbortController();
      try {
        const found = await api.alternatives(page.id, line.id, state.pending.signal);
        if (of !== state.of) return;
        state.found = found;
        drawAlternatives();
      } catch {
        // Alternatives are a help; without them the line can be typed.
      }
    }, 120);
  }

  /** The digit of a key; on a French keyboard Alt 1 is Alt &. */
  const digit = (event) => [event.key, event.code.replace("Digit", "")].find((one) => /^[1-9]$/.test(one));

  input.addEventListener("input", changed);
  input.addEventListener("scroll", () => (mirror.scrollLeft = input.scrollLeft));
  for (const name of ["click", "keyup", "select"]) input.addEventListener(name, drawAlternatives);
  input.addEventListener("keydown", (event) => {
    const plain = !event.ctrlKey && !event.metaKey && !event.altKey;
    if (event.isComposing) return;
    if (event.key === "Enter" && plain) event.shiftKey ? on.previous() : on.accept();
    else if (event.key === "Tab" && plain) {
      if (!on.uncertain(event.shiftKey ? -1 : 1)) return;
    } else if (event.key === "Escape") on.leave();
    else if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "z" && !event.shiftKey && !dirty()) on.undo();
    else if ((event.key === "ArrowDown" || event.key === "ArrowUp") && plain) event.key === "ArrowUp" ? on.previous() : on.next();
    else if (event.altKey && !event.ctrlKey && digit(event)) words.children[digit(event) - 1]?.click();
    else return;
    event.preventDefault();
  });

  return {
    element, input, dirty,
    show(line, number, count) {
      const same = state.line?.id === line?.id;
      if (same && line && dirty()) {
        // Somebody types: keep what is typed.
        state.line = line;
        return drawMirror();
      }
      state.line = line;
      input.disabled = !line;
      input.value = line ? inField(line) : "";
      if (!line) {
        picture.removeAttribute("src");
        fill(status);
        fill(words);
        return drawMirror();
      }
      const source = api.linePicture(page.id, line);
      if (picture.getAttribute("src") !== source) picture.src = source;
      picture.alt = `Photo of line ${number}`;
      const sure = line.confidence === null ? null : h("span", {}, `${percent(line.confidence)} confident`);
      fill(status, h("span", { class: `pill ${line.state}` }, NAMES[line.state] ?? line.state), sure,
        h("span", { class: "quiet" }, `line ${number} of ${count}`));
      drawMirror();
      loadAlternatives(line);
      drawAlternatives();
    },
    /** What is typed, as it is saved. */
    tidy: () => (input.value = input.value.normalize("NFC").replace(/\t/g, " ").trim()), // tabs come from the clipboard
    /** Ask for the alternatives again: the model may be another one now. */
    renew() {
      state.of = "";
      if (state.line) loadAlternatives(state.line);
    },
    focus: () => input.focus(),
  };
}
