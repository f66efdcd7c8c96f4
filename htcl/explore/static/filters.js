// The filters: their fields, how many songs each choice would leave, and the button that clears them.

import { FILTERS } from "./view.js";

const details = document.getElementById("filters"), form = details.querySelector("form");
const clear = document.getElementById("clear"), matching = document.getElementById("matching");
const languages = new Intl.DisplayNames(["en"], { type: "language" });

const grouped = (count) => count.toLocaleString("en").replaceAll(",", "\u202f");

function languageOf(code) {
  try {
    return languages.of(code) ?? code;
  } catch {
    return code; // no code of a language, but its name
  }
}

const nameOf = { genre: (value) => value, language: languageOf };

/** Call back with the filters that are set, at once for choices, after a pause in typing for text. */
export function connect(changed) {
  let timer = 0;
  const tell = () => {
    clearTimeout(timer);
    const filters = {};
    for (const name of FILTERS) if (form.elements[name].value.trim()) filters[name] = form.elements[name].value.trim();
    changed(filters);
  };
  form.addEventListener("change", tell);
  form.addEventListener("input", ({ target }) => {
    clearTimeout(timer);
    if (target.tagName === "INPUT") timer = setTimeout(tell, 350);
  });
  form.addEventListener("submit", (event) => { event.preventDefault(); tell(); });
  form.addEventListener("reset", () => setTimeout(tell));
  details.open = matchMedia("(min-width: 64rem)").matches; // as in explore.css
}

/** Show the filters of a view in the fields. */
export function show(filters) {
  for (const name of FILTERS) {
    const field = form.elements[name], value = filters[name] ?? "";
    // A genre of an old address may be gone: say so rather than show another.
    if (field.tagName === "SELECT" && ![...field.options].some((option) => option.value === value)) field.add(new Option(value, value));
    if (document.activeElement !== field || field.tagName === "SELECT") field.value = value;
  }
  clear.disabled = !Object.keys(filters).length;
}

/** Show how many songs pass, and how many each genre and language would leave. */
export function showCounts(answer, all) {
  const some = answer.matching < all;
  matching.textContent = some ? `${grouped(answer.matching)} of ${grouped(all)} songs` : `${grouped(all)} songs`;
  for (const name of ["genre", "language"]) {
    const counts = answer[`${name}s`];
    for (const option of form.elements[name].options) {
      if (option.value) option.textContent = `${nameOf[name](option.value)} (${grouped(counts[option.value] ?? 0)})`;
    }
  }
}
