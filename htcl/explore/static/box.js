// The search box: words on Enter, songs of that name as a list below, and sound files, chosen or dropped.

import { suggest } from "./server.js";

const find = (id) => document.getElementById(id);
const input = find("words"), panel = find("suggestions"), list = panel.querySelector("ul");
let songs = [], active = -1, timer = 0, request = null;

/** Say what happens: words(text), song(track id), file(File). */
export function connect({ words, song, file }) {
  const close = () => {
    clearTimeout(timer);
    request?.abort();
    panel.hidden = true;
    active = -1;
    input.setAttribute("aria-expanded", "false");
    input.removeAttribute("aria-activedescendant");
  };

  const activate = (number) => {
    active = (number + songs.length + 1) % (songs.length + 1); // one more place: none, which is the text itself
    [...list.children].forEach((option, place) => option.setAttribute("aria-selected", String(place === active)));
    if (active < songs.length) input.setAttribute("aria-activedescendant", list.children[active].id);
    else input.removeAttribute("aria-activedescendant");
  };

  const choose = (number) => {
    const { track_id: track } = songs[number];
    close();
    song(track);
  };

  const show = (found) => {
    songs = found;
    list.replaceChildren(...found.map((each, number) => {
      const option = document.createElement("li"), title = document.createElement("b");
      option.id = `suggestion-${number}`;
      option.setAttribute("role", "option");
      option.setAttribute("aria-selected", "false");
      title.textContent = each.title;
      option.append(title, ` ${each.artist}`);
      option.addEventListener("click", () => choose(number));
      return option;
    }));
    active = songs.length;
    panel.hidden = !songs.length;
    input.setAttribute("aria-expanded", String(!panel.hidden));
  };

  const look = async () => {
    request?.abort();
    request = new AbortController();
    const text = input.value.trim();
    if (text.length < 2) return close();
    try {
      show(await suggest(text, request.signal));
    } catch { /* a list that does not come is no trouble: the search itself will say what is wrong */ }
  };

  input.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(look, 150);
  });
  input.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && !panel.hidden) {
      event.preventDefault();
      close();
    }
    if (panel.hidden || !["ArrowDown", "ArrowUp"].includes(event.key)) return;
    event.preventDefault();
    activate(active + (event.key === "ArrowDown" ? 1 : -1));
  });
  input.addEventListener("blur", close);
  panel.addEventListener("pointerdown", (event) => event.preventDefault()); // the focus stays in the box

  find("ask").addEventListener("submit", (event) => {
    event.preventDefault();
    if (!panel.hidden && active < songs.length) return choose(active);
    close();
    words(input.value);
  });

  find("file").addEventListener("change", ({ target }) => {
    if (target.files.length) file(target.files[0]);
    target.value = ""; // the same file may be chosen again
  });
  takeDrops(file);
}

function takeDrops(file) {
  const drop = find("drop");
  const brings = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
  let depth = 0; // every element on the way fires of its own
  const count = (step) => (event) => {
    if (!brings(event)) return;
    event.preventDefault();
    depth = Math.max(0, depth + step);
    drop.hidden = depth === 0;
  };
  addEventListener("dragenter", count(1));
  addEventListener("dragleave", count(-1));
  addEventListener("dragover", count(0));
  addEventListener("drop", (event) => {
    if (!brings(event)) return;
    event.preventDefault();
    depth = 0;
    drop.hidden = true;
    if (event.dataTransfer.files.length) file(event.dataTransfer.files[0]);
  });
}
