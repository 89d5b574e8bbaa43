"use strict";
// Draws a generator's scales one after the other, an ONNX model for each, or all
// at once.

const byId = (id) => document.getElementById(id);
const number = (id) => Number(byId(id).value);
const scales = MODEL.segments.filter(({ name }) => name.startsWith("scale_"));
const sessions = {};
let shown = 1;
let queue = Promise.resolve();

function bytes(text) {
  return Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
}

function load(name) {
  return new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = `${name}.js`;
    script.onload = resolve;
    script.onerror = () => reject(new Error(`${name}.js is missing`));
    document.head.append(script);
  });
}

async function session({ name, hash }) {
  if (!sessions[name]) {
    byId("status").textContent = `Loading ${name.replace("scale_", "")} …`;
    await load(name);
    const model = bytes(SEGMENTS[name]);
    delete SEGMENTS[name];
    const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", model));
    const hex = [...digest].map((v) => v.toString(16).padStart(2, "0")).join("");
    if (hex !== hash) throw new Error(`${name}.js is damaged`);
    const item = document.createElement("li");
    item.textContent = `${name}: ${hex} agrees`;
    byId("hashes").append(item);
    sessions[name] = await ort.InferenceSession.create(model);
  }
  return sessions[name];
}

async function run(segment, given) {
  const feed = {};
  for (const [name, ...shape] of segment.inputs) {
    if (name.startsWith("noise_")) {
      const map = noise(number("noise"), Number(name.slice(6)), shape);
      feed[name] = new ort.Tensor("float32", map, [1, ...shape]);
    } else {
      feed[name] = given[name];
    }
  }
  return (await session(segment)).run(feed);
}

// The first segment maps z, labels and psi to w or to x, if there is one.
async function start(seed, blend) {
  const z = latents(seed, blend);
  const given = { z: new ort.Tensor("float32", z, [1, MODEL.latentSize]) };
  const first = MODEL.segments[0];
  if (first.name !== "latent") return { x: given.z };
  given.labels = new ort.Tensor("int32", [number("class")], [1]);
  given.psi = new ort.Tensor("float32", [number("psi")], []);
  const { w, next } = await run(first, given);
  return w ? { w } : { x: next };
}

function mix(coarse, fine) {
  const layer = Number(byId("crossover").value);
  const [, layers, size] = coarse.dims;
  const mixed = Float32Array.from(coarse.data);
  mixed.set(fine.data.subarray(layer * size, layers * size), layer * size);
  return new ort.Tensor("float32", mixed, coarse.dims);
}

function canvas(name, height, width) {
  if (!byId(name)) {
    const figure = document.createElement("figure");
    const made = Object.assign(document.createElement("canvas"),
      { id: name, width, height });
    made.setAttribute("role", "img");
    made.setAttribute("aria-label", `The image at ${height} by ${width}`);
    const caption = document.createElement("figcaption");
    caption.textContent = `${height} × ${width}`;
    figure.append(made, caption);
    byId("scales").append(figure);
  }
  return byId(name).getContext("2d", { willReadFrequently: true });
}

function draw(name, { data, dims: [, height, width, channels] }) {
  const context = canvas(name, height, width);
  const pixels = context.createImageData(width, height);
  const bands = MODEL.bands.length ? MODEL.bands : [...Array(channels).keys()];
  for (let i = 0; i < height * width; i++) {
    for (let c = 0; c < 4; c++) {
      // 1 band is gray, 4 are RGB and alpha.
      const band = bands.length < 3 ? bands[0] : bands[c];
      const value = c === 3 && bands.length < 4 ? 1 : data[i * channels + band];
      pixels.data[4 * i + c] = Math.round((value + 1) * 127.5);
    }
  }
  context.putImageData(pixels, 0, 0);
}

async function render() {
  let given = await start(number("seed"), number("blend"));
  if (MODEL.stylegan && byId("style").value !== "") {
    given.w = mix(given.w, (await start(number("style"), 0)).w);
  }
  for (const segment of scales.slice(0, shown)) {
    const out = await run(segment, given);
    for (const image of segment.images) draw(image, out[image]);
    given = { ...given, ...out, x: out.next };
  }
  const done = shown === scales.length;
  byId("grow").disabled = done;
  byId("psi-value").textContent = byId("psi").value;
  byId("status").textContent = done ? "All scales are drawn."
    : `${shown} of ${scales.length} scales; the next one is not loaded yet.`;
}

function update() {
  queue = queue.then(render).catch((error) => {
    stop();
    byId("status").textContent = `Stopped: ${error.message}`;
  });
  return queue;
}

// Inputs change faster than images are drawn: one more drawing is enough.
let waiting = false;
function updateSoon() {
  if (waiting) return;
  waiting = true;
  queue.then(() => { waiting = false; update(); });
}

function stop() {
  byId("play").setAttribute("aria-pressed", "false");
}

async function walk() {
  while (byId("play").getAttribute("aria-pressed") === "true") {
    let blend = number("blend") + 0.02;
    if (blend >= 1) {
      byId("seed").value = number("seed") + 1;
      blend = 0;
    }
    byId("blend").value = blend;
    await update();
    await new Promise(requestAnimationFrame);
  }
}

function fillPage() {
  for (const [name, value] of MODEL.card) {
    const [term, text] = ["dt", "dd"].map((tag) => document.createElement(tag));
    term.textContent = name;
    text.textContent = value;
    byId("card").append(term, text);
  }
  byId("grow").hidden = scales.length === 1;
  byId("pairs").hidden = !MODEL.pairs;
  if (MODEL.pairs) {
    byId("pairs-image").src = `data:image/webp;base64,${MODEL.pairs}`;
  }
  byId("class-box").hidden = !MODEL.classes.length;
  MODEL.classes.forEach((name, label) => {
    byId("class").append(new Option(name, label));
  });
  for (const box of document.querySelectorAll(".style")) {
    box.hidden = !MODEL.stylegan;
  }
  for (const image of scales.flatMap(({ images }) => images)) {
    const side = image.replace("image_", "");
    const layer = 2 * Math.log2(parseInt(side, 10) / 4);
    byId("crossover").append(new Option(side, layer, false, side === "16x16"));
  }
}

function startRuntime() {
  // A name relative to a blob is no address; with wasmBinary none is fetched.
  const glue = new TextDecoder().decode(bytes(RUNTIME.mjs))
    .replaceAll("import.meta.url", "'file:///'");
  ort.env.wasm.numThreads = 1;
  ort.env.wasm.wasmBinary = bytes(RUNTIME.wasm).buffer;
  ort.env.wasm.wasmPaths = {
    mjs: URL.createObjectURL(new Blob([glue], { type: "text/javascript" })),
  };
}

fillPage();
startRuntime();
byId("controls").addEventListener("submit", (event) => event.preventDefault());
byId("controls").addEventListener("input", updateSoon);
byId("grow").addEventListener("click", () => {
  byId("grow").disabled = true;
  shown++;
  update();
});
byId("dice").addEventListener("click", () => {
  byId("seed").value = Math.floor(Math.random() * 1e6);
  update();
});
byId("play").addEventListener("click", () => {
  const on = byId("play").getAttribute("aria-pressed") === "true";
  byId("play").setAttribute("aria-pressed", String(!on));
  walk();
});
update();
