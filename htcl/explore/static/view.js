// What the page shows, and the address that brings it back: question, slider and filters.

export const MIDDLE = 50;
export const FILTERS = ["genre", "language", "artist", "tag", "year_from", "year_to"];
const KINDS = { words: "q", song: "song", sound: "sound" };

/** A view asks one `kind` of question (words, song, sound, browse) with a value, a slider's place 0..100, and filters. */
export function emptyView() {
  return { kind: "browse", value: "", weight: MIDDLE, filters: {} };
}

/** The view behind an address. */
export function readView(search) {
  const told = new URLSearchParams(search), view = emptyView();
  for (const [kind, name] of Object.entries(KINDS)) {
    if (told.get(name)) [view.kind, view.value] = [kind, told.get(name)];
  }
  const weight = Number(told.get("taste") ?? NaN);
  if (weight >= 0 && weight <= 100) view.weight = weight;
  for (const name of FILTERS) if (told.get(name)) view.filters[name] = told.get(name);
  return view;
}

/** The address of a view, without what is as at the start. */
export function addressOf(view) {
  const told = new URLSearchParams();
  if (KINDS[view.kind]) told.set(KINDS[view.kind], view.value);
  if (view.weight !== MIDDLE) told.set("taste", view.weight);
  for (const name of FILTERS) if (view.filters[name]) told.set(name, view.filters[name]);
  return told.size ? `?${told}` : location.pathname;
}

/** The question of a view, as the server takes it. */
export function questionOf(view, k) {
  const filters = {};
  for (const [name, value] of Object.entries(view.filters)) {
    if (!name.startsWith("year")) filters[name] = value;
    else if (Number.isInteger(Number(value))) filters[name] = Number(value);
  }
  return { kind: view.kind, value: view.value, weight: view.weight / 100, k, filters };
}
