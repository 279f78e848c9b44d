// A video in the detail dialog: from its clip's beginning to its end, and the strip of its moments.
import { all, closest, find, get } from "./dom.js";
import { playFilm, prefersStillness } from "./film.js";

const FILM_SIDE = 960;

/** @typedef {{ segment: string, start: number, end: number }} Clip Seconds; the end may be infinite. */
/** @typedef {{ show: (wanted: Clip, plays: boolean) => void }} Player */

let stopFilm = () => {};
let loops = false; // Stays as it is from one video to the next.

/** Whether a clip plays that will end by itself. @param {HTMLElement} viewer */
export function isPlaying(viewer) {
  const video = find(".rz-stage video", HTMLVideoElement, viewer);
  if (!video || loops) return false;
  const film = viewer.querySelector(".rz-film");
  return video.hidden ? film?.dataset.playing === "yes" : !video.paused;
}

/**
 * Plays the clip; where the browser cannot play the video, its frames are shown instead.
 * @param {HTMLVideoElement} video
 */
export function startVideo(video) {
  const stage = /** @type {HTMLElement} */ (video.closest(".rz-stage"));
  const moments = [...stage.querySelectorAll(".rz-strip button")];
  /** @type {Player} */
  let player = videoPlayer(video);
  let clip = clipOf(video);
  /** @param {Clip} wanted */
  const show = (wanted, plays = true) => {
    clip = wanted;
    player.show(clip, plays);
  };
  video.addEventListener("error", () => {
    if (!video.hasAttribute("src")) return; // Stopped by us.
    video.hidden = true;
    get(".rz-frame", HTMLElement, stage).hidden = false;
    player = filmPlayer(stage);
    show(clip, !prefersStillness());
  });
  for (const moment of moments) {
    moment.addEventListener("click", () => {
      moments.forEach((each) => each.setAttribute("aria-current", each === moment));
      show(clipOf(moment));
    });
  }
  for (const lines of all(".rz-lines", HTMLElement, stage.closest(".rz-detail") ?? stage)) {
    lines.addEventListener("click", (event) => {
      const line = closest(event, ".rz-line");
      if (!line || !getSelection()?.isCollapsed) return; // Text is being selected.
      const said = clipOf(line);
      show(video.hidden ? said : { ...said, end: Infinity });
    });
    const first = lines.querySelector(".rz-matching");
    if (first) lines.scrollTop = first.offsetTop - 60;
  }
  const loop = get(".rz-loop", HTMLElement, stage);
  loop.setAttribute("aria-pressed", loops);
  loop.addEventListener("click", () => {
    loops = !loops;
    loop.setAttribute("aria-pressed", loops);
    if (loops) show(clip);
  });
  const shown = moments.find((moment) => moment.getAttribute("aria-current") === "true");
  shown?.scrollIntoView({ block: "nearest", inline: "center" });
  show(clip, !prefersStillness());
}

/**
 * The clip that a video or a moment stands for.
 * @param {HTMLElement} place
 * @returns {Clip}
 */
function clipOf({ dataset }) {
  return { segment: dataset.clip ?? "", start: Number(dataset.start), end: Number(dataset.end) || Infinity };
}

/** @param {HTMLVideoElement} video @returns {Player} */
function videoPlayer(video) {
  let clip = clipOf(video);
  const seek = () => {
    if (Math.abs(video.currentTime - clip.start) > 0.25) video.currentTime = clip.start;
  };
  video.addEventListener("loadedmetadata", seek, { once: true });
  video.addEventListener("seeking", () => {
    // Who leaves the clip wants to see more than it.
    const left = video.currentTime < clip.start - 0.5 || video.currentTime > clip.end;
    if (left) clip = { ...clip, end: Infinity };
  });
  const atEnd = () => {
    if (loops) {
      video.currentTime = clip.start;
      video.play().catch(() => {});
    } else {
      video.pause();
      clip = { ...clip, end: Infinity }; // Play goes on from here.
    }
  };
  video.addEventListener("timeupdate", () => {
    if (!video.paused && video.currentTime >= clip.end) atEnd();
  });
  video.addEventListener("ended", () => loops && atEnd());
  return {
    show(wanted, plays) {
      clip = wanted;
      if (video.readyState) video.currentTime = clip.start;
      if (plays) video.play().catch(() => {});
    },
  };
}

/** @param {HTMLElement} stage @returns {Player} */
function filmPlayer(stage) {
  const picture = get(".rz-frame img", HTMLImageElement, stage);
  const button = get(".rz-film", HTMLElement, stage);
  /** @type {Clip} */
  let clip;
  const play = () => {
    stopFilm();
    button.dataset.playing = "yes";
    const onEnd = () => (loops ? play() : pause());
    stopFilm = playFilm(picture, { ...clip, seconds: clip.end - clip.start, side: FILM_SIDE, onEnd });
  };
  const pause = () => {
    stopFilm();
    button.dataset.playing = "";
  };
  button.addEventListener("click", () => {
    if (button.dataset.playing) pause();
    else play();
  });
  return {
    show(wanted, plays) {
      clip = wanted;
      picture.src = `thumbnail/${clip.segment}`;
      if (plays) play();
    },
  };
}

/**
 * Stops loading: a video that is taken from the page would go on.
 * @param {HTMLVideoElement} video
 */
export function stopVideo(video) {
  stopFilm();
  video.pause();
  video.removeAttribute("src");
  video.load();
}
