// Files of the user as a request carries them: pictures and recordings, made smaller here.
//
// A picture is drawn anew, so that neither its size nor what the camera wrote into it (place, time)
// leaves the browser; a recording becomes 16 kHz mono, which is what models hear.

const MAX_FILE = 100_000_000; // bytes
const MAX_PIXELS = 1280 * 960; // more costs minutes on a processor and reads little better
const RATE = 16_000; // samples a second
export const MAX_SECONDS = 900; // 29 MB
const URLS = { image: /^data:image\/(?:png|jpeg);base64,[\w+/]+=*$/, audio: /^data:audio\/wav;base64,[\w+/]+=*$/ };

/** Why a file is not taken: the key of a string. */
export class MediaError extends Error {}

/** Is this the text of a file as `readMedia` gives it? */
export function isMediaUrl(kind, url) {
  return typeof url === "string" && Object.hasOwn(URLS, kind) && URLS[kind].test(url);
}

/** "image" or "audio" by what the browser takes a file for; null for others. */
export function kindOf(file) {
  const [kind] = file.type.split("/");
  return Object.hasOwn(URLS, kind) ? kind : null;
}

/** A file as { kind, name, url }. */
export async function readMedia(kind, file, name) {
  if (file.size > MAX_FILE) throw new MediaError("mediaTooLarge");
  const blob = kind === "image" ? await drawn(file) : await heard(file);
  return { kind, name, url: await dataUrl(blob) };
}

/** The part of a message that holds it. */
export function mediaPart({ kind, url }) {
  if (kind === "image") return { type: "image_url", image_url: { url } };
  return { type: "input_audio", input_audio: { data: url.slice(url.indexOf(",") + 1), format: "wav" } };
}

async function drawn(file) {
  const picture = await createImageBitmap(file).catch(() => {
    throw new MediaError("pictureUnread");
  });
  const scale = Math.min(1, Math.sqrt(MAX_PIXELS / (picture.width * picture.height)));
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(picture.width * scale));
  canvas.height = Math.max(1, Math.round(picture.height * scale));
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.fillStyle = "#fff"; // under what is transparent
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(picture, 0, 0, canvas.width, canvas.height);
  picture.close();
  // Text on a screen stays sharp; a photograph stays small.
  const type = file.type === "image/jpeg" ? "image/jpeg" : "image/png";
  const blob = await new Promise((resolve) => canvas.toBlob(resolve, type, 0.92));
  if (!blob) throw new MediaError("pictureUnread");
  return blob;
}

async function heard(file) {
  const context = new OfflineAudioContext(1, 1, RATE);
  const sound = await context.decodeAudioData(await file.arrayBuffer()).catch(() => {
    throw new MediaError("recordingUnread");
  });
  if (sound.duration > MAX_SECONDS) throw new MediaError("recordingTooLong");
  return new Blob([wav(mono(sound))], { type: "audio/wav" });
}

// The mean of the channels; decodeAudioData has brought them to the rate of its context.
function mono(sound) {
  const mean = new Float32Array(sound.length);
  for (let channel = 0; channel < sound.numberOfChannels; channel += 1) {
    const samples = sound.getChannelData(channel);
    for (let index = 0; index < mean.length; index += 1) mean[index] += samples[index] / sound.numberOfChannels;
  }
  return mean;
}

// 16-bit PCM with the header of 44 bytes.
function wav(samples) {
  const view = new DataView(new ArrayBuffer(44 + 2 * samples.length));
  const text = (at, letters) => [...letters].forEach((letter, index) => view.setUint8(at + index, letter.charCodeAt(0)));
  text(0, "RIFF");
  view.setUint32(4, 36 + 2 * samples.length, true);
  text(8, "WAVEfmt ");
  view.setUint32(16, 16, true);
  view.setUint16(20, 1, true); // PCM
  view.setUint16(22, 1, true); // channels
  view.setUint32(24, RATE, true);
  view.setUint32(28, 2 * RATE, true);
  view.setUint16(32, 2, true);
  view.setUint16(34, 16, true);
  text(36, "data");
  view.setUint32(40, 2 * samples.length, true);
  samples.forEach((sample, index) => {
    const clipped = Math.max(-1, Math.min(1, sample));
    view.setInt16(44 + 2 * index, Math.round(clipped * 32767), true);
  });
  return view.buffer;
}

function dataUrl(blob) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.addEventListener("load", () => resolve(reader.result));
    reader.addEventListener("error", () => reject(new MediaError("fileUnread")));
    reader.readAsDataURL(blob);
  });
}
