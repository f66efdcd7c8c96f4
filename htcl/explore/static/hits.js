// The list of hits: one entry a song, kept while the order changes, so that nothing flickers.

import * as player from "./player.js";

const list = document.getElementById("hits");
const template = document.getElementById("hit");
const entries = new Map(); // track id -> element
let acts = { like() {}, point() {} };

export const asThing = ({ song }) => ({ key: song.track_id, track: song.track_id, title: song.title, by: song.artist });

/** Say what the buttons do: like(hit), point(hit or null). */
export function connect(callbacks) {
  acts = callbacks;
}

/** A song's second line: artist, genre with its colour, year. */
export function byLine(song, colours) {
  const parts = [];
  if (song.artist) parts.push(document.createTextNode(song.artist));
  if (song.genre) {
    const genre = document.createElement("span");
    const dot = document.createElement("i");
    dot.className = `dot g${colours[song.genre] ?? 7}`;
    genre.append(dot, song.genre);
    parts.push(genre);
  }
  if (song.year) parts.push(document.createTextNode(song.year));
  return parts.flatMap((part, number) => (number ? [document.createTextNode(" · "), part] : [part]));
}

function create(hit, colours) {
  const { song } = hit, element = template.content.firstElementChild.cloneNode(true);
  const set = (selector, text) => { element.querySelector(selector).textContent = text; };
  set(".title", song.title);
  element.querySelector(".by").append(...byLine(song, colours));
  set(".tags", song.tags.join(", "));
  const play = element.querySelector(".play"), like = element.querySelector(".like");
  Object.assign(play.dataset, { key: song.track_id, title: song.title });
  play.addEventListener("click", () => player.flip(asThing(hit)));
  like.setAttribute("aria-label", `More like ${song.title}`);
  like.addEventListener("click", () => acts.like(hit));
  for (const event of ["pointerenter", "focusin"]) element.addEventListener(event, () => acts.point(hit));
  for (const event of ["pointerleave", "focusout"]) element.addEventListener(event, () => acts.point(null));
  return element;
}

function fill(element, hit) {
  element.querySelector(".play").hidden = !hit.audio;
  element.querySelector(".gone").hidden = hit.audio;
  element.querySelector(".bars").hidden = hit.score === null;
  if (hit.score === null) return;
  for (const space of ["meaning", "taste"]) {
    const row = element.querySelector(`.bars .${space}`);
    row.querySelector("b").style.width = `${100 * Math.max(0, Math.min(1, hit[space]))}%`;
    row.querySelector(".num").textContent = hit[space].toFixed(2).replace("-", "−");
  }
}

/** Show hits, in their order. */
export function showHits(hits, colours) {
  const wanted = new Set(hits.map((hit) => hit.song.track_id));
  for (const [track, element] of entries) {
    if (wanted.has(track)) continue;
    element.remove();
    entries.delete(track);
  }
  hits.forEach((hit, number) => {
    const track = hit.song.track_id;
    if (!entries.has(track)) entries.set(track, create(hit, colours));
    const element = entries.get(track);
    fill(element, hit);
    // An element that is moved loses the focus: move only what is not in its place.
    if (list.children[number] !== element) list.insertBefore(element, list.children[number] ?? null);
  });
  showPlaying();
}

/** Mark the song under the pointer on the map, or none. */
export function mark(track) {
  for (const [other, element] of entries) element.classList.toggle("marked", other === track);
}

/** Let every play button say what it does now. */
export function showPlaying() {
  const { key, sounds } = player.state();
  for (const button of document.querySelectorAll(".play")) {
    const own = button.dataset.key === key, on = sounds && own;
    button.classList.toggle("sounds", on);
    button.setAttribute("aria-label", `${on ? "Pause" : "Play"} ${button.dataset.title}`);
    button.closest("li")?.classList.toggle("current", own);
  }
}
