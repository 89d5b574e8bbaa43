"use strict";
// Mulberry32 makes uniform numbers, pairs of them normal ones (Box-Muller).
function normals(seed, count) {
  let state = seed >>> 0;
  const uniform = () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return (((t ^ (t >>> 14)) >>> 0) + 0.5) / 2 ** 32;
  };
  return Array.from({ length: count }, () => {
    const radius = Math.sqrt(-2 * Math.log(uniform()));
    return radius * Math.cos(2 * Math.PI * uniform());
  });
}

// Blend 0 is the seed, 1 the next seed; between them a circle's arc.
function latents(seed, blend) {
  let z = normals(seed, MODEL.latentSize);
  if (blend) {
    const other = normals(seed + 1, MODEL.latentSize);
    const angle = (blend * Math.PI) / 2;
    z = z.map((v, i) => Math.cos(angle) * v + Math.sin(angle) * other[i]);
  }
  const norm = Math.sqrt(z.reduce((sum, v) => sum + v * v, 0));
  const factor = MODEL.normalize ? Math.sqrt(MODEL.latentSize) / norm : 1;
  return Float32Array.from(z, (v) => v * factor);
}

function noise(seed, layer, shape) {
  const count = shape.reduce((a, b) => a * b, 1);
  return Float32Array.from(normals(seed + 7919 * (layer + 1), count));
}
