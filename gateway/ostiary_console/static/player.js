// Plays recorded terminals with the asciinema player. Its terminal runs in a worker, so the page needs no WebAssembly.
"use strict";

function style(href) {
  const link = document.createElement("link");
  link.rel = "stylesheet";
  link.href = href;
  return new Promise((done, failed) => {
    link.onload = done;
    link.onerror = () => failed(new Error(href));
    document.head.append(link);
  });
}

function script(src) {
  const made = document.createElement("script");
  made.src = src;
  return new Promise((done, failed) => {
    made.onload = done;
    made.onerror = () => failed(new Error(src));
    document.head.append(made);
  });
}

let loaded;

function choice(label, values, chosen, changed) {
  const outer = document.createElement("label");
  const select = document.createElement("select");
  for (const [value, text] of values) select.add(new Option(text, value, false, value === chosen));
  select.addEventListener("change", () => changed(select.value));
  outer.append(`${label} `, select);
  return outer;
}

function start(place, worker) {
  const cast = new URL(place.dataset.cast, location.href).href;
  const screen = document.createElement("div");
  screen.style.maxWidth = `${Number(place.dataset.columns) * 0.62 + 2}rem`; // as large as text, where there is room
  const tools = document.createElement("div");
  tools.className = "player-tools";
  const options = { speed: "1", idleTimeLimit: "2" };
  let player;

  async function show() {
    const at = player ? await player.getCurrentTime() : 0;
    player?.dispose();
    player = globalThis.AsciinemaPlayer.create({ url: cast }, screen, new URL(worker, location.href).href, {
      cols: Number(place.dataset.columns), rows: Number(place.dataset.rows), fit: "width", preload: true, controls: true,
      terminalFontSize: "14px", terminalFontFamily: getComputedStyle(document.documentElement).getPropertyValue("--mono"),
      speed: Number(options.speed), idleTimeLimit: Number(options.idleTimeLimit) || undefined,
      startAt: at || undefined, poster: "npt:0:0.5",
    });
    place.player = player;
  }

  tools.append(
    choice("Speed", [["0.5", "½"], ["1", "1×"], ["2", "2×"], ["4", "4×"], ["10", "10×"]], options.speed, (value) => {
      options.speed = value;
      show();
    }),
    choice("Pauses", [["0", "as they were"], ["5", "at most 5 s"], ["2", "at most 2 s"], ["0.5", "at most ½ s"]], options.idleTimeLimit, (value) => {
      options.idleTimeLimit = value;
      show();
    }),
  );
  place.replaceChildren(screen, tools);
  show();
}

export async function play(assets) {
  const places = [...document.querySelectorAll(".player[data-cast]:not([data-made])")];
  for (const place of places) place.dataset.made = "1";
  try {
    loaded ??= Promise.all([style(assets.style), script(assets.script)]);
    await loaded;
  } catch {
    for (const place of places) place.textContent = "The player could not be loaded. The text below is what the terminal showed.";
    return;
  }
  // A player is made when it comes into sight: a long session may have hundreds.
  const seen = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      seen.unobserve(entry.target);
      start(entry.target, assets.worker);
    }
  }, { rootMargin: "200px" });
  for (const place of places) seen.observe(place);
}
