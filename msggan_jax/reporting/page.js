"use strict";
// One slider: every strip shows its newest picture up to a time in training.
const slider = document.getElementById("time");
if (slider) {
  const strips = [...document.querySelectorAll(".frames")].map((x) => [...x.children]);
  const kimg = (frame) => Number(frame.dataset.kimg);
  const times = [...new Set(strips.flat().map(kimg))].sort((a, b) => a - b);
  const show = () => {
    const now = times[slider.value];
    slider.ariaValueText = `${now} kimg`;
    for (const frames of strips) {
      const last = frames.filter((frame) => kimg(frame) <= now).length - 1;
      frames.forEach((frame, i) => { frame.hidden = i !== Math.max(last, 0); });
    }
  };
  slider.max = times.length - 1;
  slider.value = slider.max;
  slider.addEventListener("input", show);
  slider.parentElement.hidden = false;
  show();
}
