// The map of the catalog: brings the answer onto it, and its legend.

import { waitForMap } from "./server.js";

const find = (id) => document.getElementById(id);
let map = null, told = null, answer = null, chosen = null;

const bytes = (base64) => Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
const numbers = (base64) => new Uint16Array(bytes(base64).buffer);

/** Draw the map as soon as the server has it; chosen(track id) and hovered(track id or null) say what happens there. */
export async function draw({ choose, hover }) {
  try {
    told = await waitForMap();
  } catch (error) {
    told = { failure: error.message };
  }
  if (told.failure) {
    find("drawing").textContent = told.failure;
    return;
  }
  find("drawing").remove();
  map = createCatalogMap(find("map"), {
    x: numbers(told.x),
    y: numbers(told.y),
    colours: told.colours,
    name: `Map of ${told.songs.length} songs; arrows move, plus and minus zoom, 0 shows all, Enter plays the song nearest the middle.`,
    label(index) {
      const [, title, artist, genre] = told.songs[index];
      return { title, detail: [artist, genre].filter(Boolean).join(" · ") };
    },
    onHover: (index) => hover(index === null ? null : told.songs[index][0]),
    onChoose: (index) => choose(told.songs[index][0]),
  });
  if (told.songs.length < told.of) find("about-map").prepend(`${told.songs.length} of ${told.of} songs, drawn by lot. `);
  drawLegend();
  showAnswer(answer);
  map.setChosen(chosen?.place ?? null);
}

function drawLegend() {
  find("legend").replaceChildren(...told.legend.map(({ colour, name, count }) => {
    const item = document.createElement("li"), button = document.createElement("button");
    const dot = document.createElement("i"), number = document.createElement("span");
    button.type = "button";
    button.setAttribute("aria-pressed", "true");
    dot.className = `dot g${colour}`;
    number.className = "soft";
    number.textContent = count;
    button.append(dot, `${name} `, number);
    button.addEventListener("click", () => {
      const gone = button.getAttribute("aria-pressed") === "true";
      button.setAttribute("aria-pressed", String(!gone));
      map.setHidden(colour, gone);
    });
    item.append(button);
    return item;
  }));
}

/** Highlight the hits of an answer, and grey out what its filters leave out. */
export function showAnswer(newest) {
  answer = newest;
  if (!map || !answer) return;
  const passing = bytes(answer.passing);
  const mask = Uint8Array.from(told.songs, (_, place) => !((passing[place >> 3] >> (place & 7)) & 1));
  map.setDimmed(mask.includes(1) ? mask : null);
  // Songs that no question has found stand out by not being grey.
  const found = answer.hits.filter((hit) => hit.score !== null), shown = answer.about ? [answer.about, ...found] : found;
  map.setHighlighted(shown.map((hit) => hit.place).filter((place) => place !== null));
}

/** Neither highlights nor grey points. */
export function clear() {
  answer = null;
  map?.setDimmed(null);
  map?.setHighlighted([]);
}

/** Ring a song's point: {place}, or null for none. */
export function setChosen(hit) {
  const moved = hit?.place !== chosen?.place;
  chosen = hit;
  if (!map) return;
  map.setChosen(hit?.place ?? null);
  if (moved && hit && hit.place !== null) map.reveal(hit.place);
}

/** Show a song's point as if the pointer were there. */
export function point(hit) {
  map?.point(hit?.place ?? null);
}

