// The one player of the page: every play button starts this one, so that one song sounds at a time.

import { audioOf, whySilent } from "./server.js";

const find = (id) => document.getElementById(id);
const audio = find("audio"), seek = find("seek"), toggle = find("toggle");
let playing = null;
let changed = () => {};
let held = false;

const clock = (seconds) => (Number.isFinite(seconds) ? `${Math.floor(seconds / 60)}:${String(Math.floor(seconds % 60)).padStart(2, "0")}` : "–:––");

/** The key of what is in the player, and whether it sounds. */
export const state = () => ({ key: playing?.key ?? null, sounds: playing !== null && !audio.paused });

/** Call back whenever `state` changes. */
export function onChange(callback) {
  changed = callback;
}

/** Play something, from its start unless it is in the player already and well: {key, title, by, url?, track?}. */
export function play(thing) {
  if (playing?.key !== thing.key || audio.error) {
    playing = thing;
    find("player").hidden = false;
    find("now-title").textContent = thing.title;
    find("now-by").textContent = thing.by;
    find("now-trouble").textContent = "";
    find("now-like").hidden = !thing.track;
    audio.src = thing.url ?? audioOf(thing.track);
  }
  audio.play().catch(() => {}); // another choice interrupts this one; errors come as an event
  show();
}

/** Play, or pause what sounds. */
export function flip(thing) {
  if (playing?.key === thing.key && !audio.paused) audio.pause();
  else play(thing);
}

/** What the button "More like this" of the player asks about. */
export const track = () => playing?.track ?? null;

export function close() {
  playing = null;
  audio.pause();
  audio.removeAttribute("src");
  find("player").hidden = true;
  show();
}

function show() {
  const { sounds } = state();
  toggle.classList.toggle("sounds", sounds);
  toggle.setAttribute("aria-label", sounds ? "Pause" : "Play");
  changed();
}

function showTime() {
  const known = Number.isFinite(audio.duration);
  find("now-at").textContent = clock(audio.currentTime);
  find("now-of").textContent = clock(audio.duration);
  seek.disabled = !known;
  if (!held) seek.value = known ? (seek.max * audio.currentTime) / audio.duration : 0;
  seek.style.setProperty("--share", `${(100 * seek.value) / seek.max}%`);
  seek.setAttribute("aria-valuetext", `${clock(audio.currentTime)} of ${clock(audio.duration)}`);
}

for (const event of ["play", "pause", "ended"]) audio.addEventListener(event, show);
for (const event of ["timeupdate", "durationchange", "emptied"]) audio.addEventListener(event, showTime);
audio.addEventListener("error", async () => {
  if (!playing) return;
  const asked = playing;
  show();
  const reason = asked.url ? "This browser cannot play it." : await whySilent(audioOf(asked.track));
  if (playing === asked) find("now-trouble").textContent = reason;
});
seek.addEventListener("input", () => {
  held = true;
  if (Number.isFinite(audio.duration)) audio.currentTime = (seek.value / seek.max) * audio.duration;
});
seek.addEventListener("change", () => { held = false; });
toggle.addEventListener("click", () => playing && flip(playing));
find("now-close").addEventListener("click", close);
