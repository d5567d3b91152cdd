"use strict";
// The player: one slider moves all panels of a field; frames are data addresses inside the page.
for (const player of document.querySelectorAll("[data-player]")) {
  const { labels, frames, paper } = JSON.parse(player.querySelector("script").textContent);
  const images = player.querySelectorAll("img");
  const slider = player.querySelector("input");
  const button = player.querySelector("button");
  const output = player.querySelector("output");
  const last = labels.length - 1;
  const pause = Math.max(60, Math.min(300, 7000 / labels.length));
  let timer = null;
  let untouched = true;

  const show = (frame) => {
    images.forEach((image, panel) => { image.src = frames[panel][frame]; });
    slider.value = String(frame);
    slider.setAttribute("aria-valuetext", `${labels[frame]}, frame ${frame + 1} of ${last + 1}`);
    output.textContent = labels[frame];
  };
  const stop = () => {
    clearInterval(timer);
    timer = null;
    button.textContent = "▶ Play";
  };
  const step = () => {
    const next = Number(slider.value) + 1;
    if (next > last) { stop(); } else { show(next); }
  };
  const play = () => {
    if (untouched || Number(slider.value) >= last) { show(0); }
    untouched = false;
    timer = setInterval(step, pause);
    button.textContent = "❚❚ Pause";
  };
  button.addEventListener("click", () => (timer === null ? play() : stop()));
  slider.addEventListener("input", () => { untouched = false; stop(); show(Number(slider.value)); });
  player.querySelector(".controls").hidden = false;
  show(Number(slider.getAttribute("value")));

  // Paper cannot be played: it gets some frames, made now, so that they are decoded when somebody prints.
  const stills = document.createElement("div");
  stills.className = "stills";
  for (const frame of paper) {
    const row = player.querySelector(".row").cloneNode(true);
    row.querySelectorAll("img").forEach((image, panel) => { image.src = frames[panel][frame]; });
    const when = document.createElement("p");
    when.className = "name";
    when.textContent = labels[frame];
    stills.append(when, row);
  }
  player.querySelector(".row").after(stills);
}
// On paper everything is open.
window.addEventListener("beforeprint", () => {
  for (const each of document.querySelectorAll("details")) { each.open = true; }
});
