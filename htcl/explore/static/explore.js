// The page: a view (question, slider, filters) is shown, and whatever the visitor does makes another view.

import * as box from "./box.js";
import * as catalog from "./catalog.js";
import * as filters from "./filters.js";
import * as hits from "./hits.js";
import * as player from "./player.js";
import * as server from "./server.js";
import { addressOf, emptyView, questionOf, readView } from "./view.js";

const find = (id) => document.getElementById(id);
const facts = JSON.parse(find("facts").textContent);
const weight = find("weight"), words = find("words"), trouble = find("trouble"), said = find("said");
const STEP = 20;
const sounds = new Map(); // key of an uploaded file -> {name, url, note}
const wide = matchMedia("(min-width: 64rem)"); // as in explore.css
let view = readView(location.search), wanted = STEP, request = null, timer = 0, about = null;
const known = new Map(); // every song that was shown, as a hit
const upload = document.querySelector("label[for=file]"), uploadText = upload.textContent;
let listening = 0; // files that are being heard

// ---- from view to page

/** Ask the server for the view and show what it answers; an older question that is still on its way is given up. */
async function refresh({ focus = false } = {}) {
  request?.abort();
  const own = (request = new AbortController());
  const slow = setTimeout(() => { said.textContent = "Searching…"; }, 400);
  try {
    const answer = await server.search(questionOf(view, wanted), own.signal);
    if (own !== request) return;
    showAnswer(answer);
    if (focus) find("heading").focus({ preventScroll: true });
    if (focus && !wide.matches) find("heading").scrollIntoView();
  } catch (error) {
    if (own === request && error.name !== "AbortError") showFailure(error);
  } finally {
    clearTimeout(slow);
  }
}

/** Put the view into the fields; words that are being typed stay, unless the question is another now. */
function showView(asked) {
  if (asked) words.value = view.kind === "words" ? view.value : "";
  weight.value = view.weight;
  weight.style.setProperty("--share", `${view.weight}%`);
  weight.setAttribute("aria-valuetext", `${100 - view.weight} % meaning, ${view.weight} % taste`);
  filters.show(view.filters);
}

function showAnswer(answer) {
  trouble.hidden = true;
  about = answer.about;
  for (const hit of [about, ...answer.hits]) if (hit) known.set(hit.song.track_id, hit);
  filters.showCounts(answer, facts.songs);
  hits.showHits(answer.hits, facts.colours);
  catalog.showAnswer(answer);
  showChosen();
  showHeading(answer);
  find("welcome").hidden = view.kind !== "browse" || answer.hits.length > 0;
  find("more").hidden = answer.hits.length < wanted || wanted >= facts.mostHits;
}

function showHeading(answer) {
  const filtered = Object.keys(view.filters).length > 0, count = answer.hits.length;
  const headings = {
    words: `“${view.value}”`,
    song: `Like ${answer.about?.song.title}`,
    sound: `Like ${sounds.get(view.value)?.name ?? "your sound file"}`,
    browse: filtered ? "Songs that fit the filters" : "What would you like to hear?",
  };
  find("heading").textContent = headings[view.kind];
  document.title = view.kind === "browse" ? "HTCL explore" : `${headings[view.kind]} · HTCL explore`;
  const songs = (number) => `${number.toLocaleString("en").replaceAll(",", "\u202f")} ${number === 1 ? "song" : "songs"}`;
  if (!answer.matching) said.textContent = "No song fits the filters; clear one of them.";
  else if (view.kind === "browse") said.textContent = filtered ? `${songs(answer.matching)}, the first ${count} of them` : "";
  else said.textContent = `${songs(count)}, nearest first${filtered ? `, of ${songs(answer.matching)} that fit the filters` : ""}`;
  showAbout(answer);
}

/** Ring the song that is in the player, else the one that is asked about. */
function showChosen() {
  catalog.setChosen(known.get(player.state().key) ?? about);
}

/** What a question by song or sound is about, with its own play button. */
function showAbout({ about }) {
  const place = find("about"), sound = view.kind === "sound" ? sounds.get(view.value) : null;
  place.hidden = !about && !sound;
  if (place.hidden) return place.replaceChildren();
  const thing = about ? hits.asThing(about) : { key: view.value, title: sound.name, by: "your file", url: sound.url };
  const play = document.createElement("button"), line = document.createElement("p");
  play.type = "button";
  play.className = "round play";
  Object.assign(play.dataset, { key: thing.key, title: thing.title });
  play.addEventListener("click", () => player.flip(thing));
  line.append(...(about ? hits.byLine(about.song, facts.colours) : [sound.note]));
  place.replaceChildren(...(about && !about.audio ? [line] : [play, line]));
  hits.showPlaying();
}

/** A question without an answer leaves nothing of the one before. */
function showFailure(error) {
  find("heading").textContent = "No answer";
  about = null;
  document.title = "No answer · HTCL explore";
  for (const id of ["welcome", "about", "more"]) find(id).hidden = true;
  hits.showHits([], facts.colours);
  catalog.clear();
  showTrouble(error);
}

function showTrouble(error) {
  trouble.textContent = error.message;
  trouble.hidden = false;
  said.textContent = "";
  if (!(error instanceof server.Refused)) throw error;
}

// ---- from visitor to view

/** Go to another view, which Back leaves again. */
function go(changes, options) {
  view = { ...view, ...changes };
  wanted = STEP;
  history.pushState(null, "", addressOf(view));
  showView("kind" in changes);
  find("results").scrollTop = 0;
  return refresh(options);
}

async function hear(file) {
  if (file.size > facts.mostBytes) return showTrouble(new server.Refused(facts.tooLarge));
  listening += 1;
  upload.textContent = "Listening…";
  said.textContent = `Listening to ${file.name}…`;
  trouble.hidden = true;
  try {
    const heard = await server.sendSound(file);
    const note = `${heard.cut ? "the first " : ""}${Math.round(heard.seconds)} seconds of your file were heard`;
    sounds.set(heard.sound, { name: file.name, url: URL.createObjectURL(file), note });
    await go({ kind: "sound", value: heard.sound }, { focus: true });
  } catch (error) {
    showTrouble(error);
  } finally {
    listening -= 1;
    if (!listening) upload.textContent = uploadText;
  }
}

async function chooseOnMap(track) {
  try {
    const hit = known.get(track) ?? (await server.song(track));
    known.set(track, hit);
    player.play(hits.asThing(hit));
  } catch (error) {
    showTrouble(error);
  }
}

weight.addEventListener("input", () => {
  view = { ...view, weight: Number(weight.value) };
  showView(false);
  clearTimeout(timer);
  timer = setTimeout(() => {
    history.replaceState(null, "", addressOf(view));
    if (view.kind !== "browse") refresh();
  }, 60);
});

box.connect({
  words: (text) => (text.trim() ? go({ kind: "words", value: text.trim() }) : showTrouble(new server.Refused(facts.empty))),
  song: (track) => go({ kind: "song", value: track }),
  file: hear,
});
filters.connect((set) => {
  if (JSON.stringify(set) !== JSON.stringify(view.filters)) go({ filters: set });
});
hits.connect({ like: (hit) => go({ kind: "song", value: hit.song.track_id }, { focus: true }), point: catalog.point });
player.onChange(() => {
  hits.showPlaying();
  showChosen();
});
find("now-like").addEventListener("click", () => go({ kind: "song", value: player.track() }, { focus: true }));
find("more").addEventListener("click", () => {
  wanted = Math.min(facts.mostHits, wanted + STEP);
  refresh();
});
for (const chip of document.querySelectorAll(".chip")) {
  chip.addEventListener("click", () => go({ kind: "words", value: chip.textContent.trim() }, { focus: true }));
}
addEventListener("popstate", () => {
  view = readView(location.search);
  wanted = STEP;
  showView(true);
  refresh();
});

catalog.draw({ choose: chooseOnMap, hover: hits.mark });
showView(true);
refresh();
