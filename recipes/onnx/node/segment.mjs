// Label every pixel of a JPEG photograph with exported files, in Node, by onnxruntime-web (WebAssembly) alone.
//
//   clippy export onnx --out DIR
//   npm install
//   node segment.mjs DIR photo.jpg "sky,grass|meadow,cow" labels.pgm
//
// labels.pgm is a grey picture with the number of the label at every pixel, from 0. The functions below run in a
// browser as well; only reading and writing files is Node's. The photograph is taken as it is stored: turn it upright
// first if its EXIF orientation says so.
//
// Shapes: H/W pixel, h/w grid, D embedding, K word, L token.

import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { Tokenizer } from "@huggingface/tokenizers";
import jpeg from "jpeg-js";
import * as ort from "onnxruntime-web";

/** One unit vector a word, the mean over the model's templates: Float32Array of K × D. */
export async function embed(words, session, tokenizer, sheet) {
  const { templates, embedding: width, max_tokens: most } = sheet;
  const texts = words.flatMap((word) => templates.map((template) => template.replaceAll("{}", word)));
  const rows = texts.map((text) => shorten(tokenizer.encode(text).ids, most));
  const longest = Math.max(...rows.map((row) => row.length));
  const ids = new BigInt64Array(rows.length * longest);
  const mask = new BigInt64Array(rows.length * longest);
  rows.forEach((row, number) =>
    row.forEach((id, place) => {
      ids[number * longest + place] = BigInt(id);
      mask[number * longest + place] = 1n;
    }),
  );
  const shape = [rows.length, longest];
  const { embeddings } = await session.run({
    ids: new ort.Tensor("int64", ids, shape),
    mask: new ort.Tensor("int64", mask, shape),
  });
  const sums = new Float32Array(words.length * width);
  embeddings.data.forEach((value, index) => {
    const word = Math.floor(index / width / templates.length);
    sums[word * width + (index % width)] += value;
  });
  for (let word = 0; word < words.length; word++) {
    const row = sums.subarray(word * width, (word + 1) * width);
    const length = Math.hypot(...row);
    row.forEach((value, channel) => (row[channel] = value / length));
  }
  return sums;
}

/** At most so many tokens, the last one kept, which ends a text. */
function shorten(ids, most) {
  return ids.length <= most ? ids : [...ids.slice(0, most - 1), ids.at(-1)];
}

/** The picture as the image tower takes it: {pixels: Float32Array 3 × height × width, height, width}. */
export function prepare(picture, sheet) {
  const { size, mean, std } = sheet.preprocessing;
  const scale = size / Math.min(picture.width, picture.height);
  const [width, height] = [picture.width, picture.height].map((side) =>
    Math.max(sheet.stride, Math.round((side * scale) / sheet.stride) * sheet.stride),
  );
  // Averaging blocks first, down to three times the target, is what the model's own preparation does.
  const factors = [picture.width / width, picture.height / height].map((ratio) => Math.floor(ratio / 3) || 1);
  const blocks = reduce(picture, ...factors);
  const across = resample(blocks.data, blocks.height, blocks.width, picture.width / factors[0], width);
  const turned = transpose(across, blocks.height, width);
  const down = resample(turned, width, blocks.height, picture.height / factors[1], height);
  const pixels = new Float32Array(3 * height * width);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      for (let channel = 0; channel < 3; channel++) {
        const value = down[(x * height + y) * 3 + channel] / 255;
        pixels[(channel * height + y) * width + x] = (value - mean[channel]) / std[channel];
      }
    }
  }
  return { pixels, height, width };
}

/** Averages of blocks of RGB, rounded to whole numbers; blocks at the edge may be smaller. */
function reduce({ data, width, height }, factorX, factorY) {
  const channels = data.length / width / height;
  const [columns, rows] = [Math.ceil(width / factorX), Math.ceil(height / factorY)];
  const found = new Float32Array(rows * columns * 3);
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      const bottom = Math.min(height, (row + 1) * factorY);
      const right = Math.min(width, (column + 1) * factorX);
      const count = (bottom - row * factorY) * (right - column * factorX);
      for (let channel = 0; channel < 3; channel++) {
        let sum = 0;
        for (let y = row * factorY; y < bottom; y++) {
          for (let x = column * factorX; x < right; x++) sum += data[(y * width + x) * channels + channel];
        }
        found[(row * columns + column) * 3 + channel] = Math.round(sum / count);
      }
    }
  }
  return { data: found, width: columns, height: rows };
}

/** Rows of RGB brought from `extent` of their `length` columns to `target`: bicubic, antialiased, whole numbers. */
function resample(data, rows, length, extent, target) {
  const scale = extent / target;
  const spread = Math.max(scale, 1);
  const found = new Float32Array(rows * target * 3);
  for (let x = 0; x < target; x++) {
    const centre = (x + 0.5) * scale;
    const first = Math.max(0, Math.floor(centre - 2 * spread + 0.5));
    const last = Math.min(length, Math.floor(centre + 2 * spread + 0.5));
    const weights = [];
    for (let place = first; place < last; place++) weights.push(cubic((place - centre + 0.5) / spread));
    const total = weights.reduce((sum, weight) => sum + weight, 0);
    for (let row = 0; row < rows; row++) {
      for (let channel = 0; channel < 3; channel++) {
        let sum = 0;
        weights.forEach((weight, step) => (sum += weight * data[(row * length + first + step) * 3 + channel]));
        found[(row * target + x) * 3 + channel] = Math.min(255, Math.max(0, Math.round(sum / total)));
      }
    }
  }
  return found;
}

/** Keys' cubic convolution with a = −0.5. */
function cubic(distance) {
  const x = Math.abs(distance);
  if (x < 1) return (1.5 * x - 2.5) * x * x + 1;
  return x < 2 ? -0.5 * (((x - 5) * x + 8) * x - 4) : 0;
}

function transpose(data, rows, columns) {
  const turned = new Float32Array(data.length);
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      for (let channel = 0; channel < 3; channel++) {
        turned[(column * rows + row) * 3 + channel] = data[(row * columns + column) * 3 + channel];
      }
    }
  }
  return turned;
}

/** For each of `side` pixels along `cells` cells: the lower cell, the upper one, and the share of the upper. */
function between(cells, side) {
  return Array.from({ length: side }, (_, pixel) => {
    const place = Math.min(Math.max(((pixel + 0.5) * cells) / side - 0.5, 0), cells - 1);
    const lower = Math.min(Math.floor(place), Math.max(cells - 2, 0));
    return [lower, Math.min(lower + 1, cells - 1), place - lower];
  });
}

/** The number of the label with the highest cosine at every pixel; `owner` says which label a word belongs to. */
export function labelPixels(logits, [rows, columns, words], owner, height, width) {
  const found = new Uint8Array(height * width);
  const [ys, xs] = [between(rows, height), between(columns, width)];
  for (let y = 0; y < height; y++) {
    const [top, bottom, down] = ys[y];
    for (let x = 0; x < width; x++) {
      const [left, right, across] = xs[x];
      let best = -Infinity;
      for (let word = 0; word < words; word++) {
        const at = (row, column) => logits[(row * columns + column) * words + word];
        const upper = at(top, left) * (1 - across) + at(top, right) * across;
        const lower = at(bottom, left) * (1 - across) + at(bottom, right) * across;
        const value = upper * (1 - down) + lower * down;
        if (value > best) {
          best = value;
          found[y * width + x] = owner[word];
        }
      }
    }
  }
  return found;
}

async function main([folder, photo, labels, out]) {
  const read = async (name) => JSON.parse(await readFile(join(folder, name), "utf-8"));
  const sheet = await read("onnx.json");
  const tokenizer = new Tokenizer(await read("tokenizer.json"), {});
  const open = async (name) => ort.InferenceSession.create(await readFile(join(folder, name)));
  const groups = labels.split(",").map((label) => label.split("|").map((word) => word.trim()));
  const owner = groups.flatMap((group, number) => group.map(() => number));
  const words = groups.flat();
  const picture = jpeg.decode(await readFile(photo), { useTArray: true });
  const { pixels, height, width } = prepare(picture, sheet);
  const { logits } = await (
    await open("segmenter.onnx")
  ).run({
    pixels: new ort.Tensor("float32", pixels, [1, 3, height, width]),
    labels: new ort.Tensor("float32", await embed(words, await open("text.onnx"), tokenizer, sheet), [
      words.length,
      sheet.embedding,
    ]),
  });
  const found = labelPixels(logits.data, logits.dims.slice(1), owner, picture.height, picture.width);
  await writeFile(out, Buffer.concat([Buffer.from(`P5\n${picture.width} ${picture.height}\n255\n`), found]));
  groups.forEach((group, number) => {
    const share = found.reduce((count, label) => count + (label === number), 0) / found.length;
    console.log(`${number} ${group.join("|")}: ${(100 * share).toFixed(1)}%`);
  });
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) await main(process.argv.slice(2));
