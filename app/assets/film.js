// A clip as frames from the server: where the browser cannot play the video, and on cards.

const FRAMES_PER_SECOND = 4; // As many as the server has.

export const prefersStillness = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

/**
 * Plays a clip in a picture, frame by frame; each is loaded before it is due.
 * @param {HTMLImageElement} picture
 * @param {{segment: string, seconds: number, side: number, onEnd?: () => void}} clip
 * @returns {() => void} Stops it.
 */
export function playFilm(picture, { segment, seconds, side, onEnd }) {
  let stopped = false;
  const play = async () => {
    const count = Math.max(1, Math.ceil(seconds * FRAMES_PER_SECOND));
    let due = performance.now();
    for (let number = 0; number < count; number += 1) {
      const frame = await loaded(`frame/${segment}?at=${number / FRAMES_PER_SECOND}&side=${side}`);
      await pause(due - performance.now());
      if (stopped || !frame) return;
      picture.src = frame.src;
      due = performance.now() + 1000 / FRAMES_PER_SECOND;
    }
    await pause(due - performance.now());
    if (!stopped) onEnd?.();
  };
  play();
  return () => {
    stopped = true;
  };
}

/**
 * Returns a promise of a picture that can be shown at once; of null if there is none.
 * @param {string} address @returns {Promise<HTMLImageElement | null>}
 */
async function loaded(address) {
  const frame = new Image();
  frame.src = address;
  return frame.decode().then(() => frame, () => null);
}

/** @param {number} ms @returns {Promise<void>} */
const pause = (ms) => new Promise((done) => setTimeout(done, Math.max(0, ms)));
