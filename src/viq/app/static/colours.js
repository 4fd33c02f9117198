// A colour for each code, the same wherever the code occurs.

const cache = { distinct: new Map(), alike: new Map() };

// Far apart in hue and in lightness for codes that are near in value, so that colour-blind eyes see
// borders, too: a sequence that fills a cube evenly (powers of 1 / 1.2207, the root of x^4 = x + 1).
function distinct(code) {
  const [hue, light, chroma] = [0.8191725134, 0.6710436067, 0.5497004779].map(
    (step) => (0.5 + code * step) % 1,
  );
  return oklch(0.38 + 0.5 * light, 0.06 + 0.09 * chroma, hue * 2 * Math.PI);
}

// Digits are ordered values, so codes with like digits get like colours.
function alike(code, levels) {
  const axes = [0, 0, 0];
  const counts = [0, 0, 0];
  levels.forEach((level, place) => {
    const digit = code % level;
    code = Math.floor(code / level);
    axes[place % 3] += (digit / (level - 1)) * 2 - 1;
    counts[place % 3] += 1;
  });
  const [l, a, b] = axes.map((sum, i) => sum / Math.max(1, counts[i]));
  return oklab(0.64 + 0.28 * l, 0.13 * a, 0.13 * b);
}

export function colour(code, kind, levels) {
  const known = cache[kind];
  const key = kind === "alike" ? `${code},${levels}` : code;
  if (!known.has(key)) known.set(key, kind === "alike" ? alike(code, levels) : distinct(code));
  return known.get(key);
}

function oklch(light, chroma, hue) {
  return oklab(light, chroma * Math.cos(hue), chroma * Math.sin(hue));
}

// To sRGB bytes (https://bottosson.github.io/posts/oklab/), cut to what a screen shows.
function oklab(light, a, b) {
  const l = (light + 0.3963377774 * a + 0.2158037573 * b) ** 3;
  const m = (light - 0.1055613458 * a - 0.0638541728 * b) ** 3;
  const s = (light - 0.0894841775 * a - 1.291485548 * b) ** 3;
  return [
    4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * s,
    -1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * s,
    -0.0041960863 * l - 0.7034186147 * m + 1.707614701 * s,
  ].map((value) => {
    const cut = Math.min(1, Math.max(0, value));
    const curved = cut <= 0.0031308 ? 12.92 * cut : 1.055 * cut ** (1 / 2.4) - 0.055;
    return Math.round(255 * curved);
  });
}
