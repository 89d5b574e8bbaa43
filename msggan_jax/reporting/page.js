"use strict";
document.documentElement.classList.add("js");
const together = document.getElementById("together");
const strips = [...document.querySelectorAll(".strip")]
  .filter((strip) => strip.querySelector("input"))
  .map((strip) => ({
    slider: strip.querySelector("input"),
    output: strip.querySelector("output"),
    frames: [...strip.querySelectorAll(".frame")],
  }));
const kimgOf = (frame) => Number(frame.dataset.kimg.replaceAll(",", ""));

function show(strip, place) {
  strip.frames.forEach((frame, i) =>
    frame.classList.toggle("current", i === place));
  const text = `${strip.frames[place].dataset.kimg} kimg`;
  strip.slider.value = place;
  strip.slider.setAttribute("aria-valuetext", text);
  strip.output.textContent = text;
}

function nearest(strip, kimg) {
  const away = strip.frames.map((frame) => Math.abs(kimgOf(frame) - kimg));
  return away.indexOf(Math.min(...away));
}

for (const strip of strips) {
  show(strip, strip.frames.length - 1);
  strip.slider.addEventListener("input", () => {
    const place = Number(strip.slider.value);
    show(strip, place);
    if (!together.checked) return;
    const kimg = kimgOf(strip.frames[place]);
    for (const other of strips) {
      if (other !== strip) show(other, nearest(other, kimg));
    }
  });
}
