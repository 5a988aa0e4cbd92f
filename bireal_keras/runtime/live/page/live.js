// Asks for a frame, shows it, asks for the next. A page that is paused or not to be seen does not
// ask, and then the camera rests.
"use strict";

const RETRY_MILLISECONDS = 1500;

const element = (id) => document.getElementById(id);

let socket = null;
let paused = false;
let asked = false; // Whether a frame is on its way.
let state = null; // Of the frame whose picture comes next.
let shown = null; // The state and the JPEG on the screen.

function connect() {
  const address = new URL("frames", location.href);
  address.protocol = address.protocol.replace("http", "ws");
  socket = new WebSocket(address);
  socket.binaryType = "blob";
  asked = false;
  socket.onopen = () => {
    if (paused) say("paused", "paused", "");
    ask();
  };
  socket.onmessage = ({ data }) => (typeof data === "string" ? hear(JSON.parse(data)) : see(data));
  socket.onclose = () => {
    say("lost", "no connection", "bireal-live does not answer. Trying again.");
    setTimeout(connect, RETRY_MILLISECONDS);
  };
}

function ask() {
  if (socket.readyState !== WebSocket.OPEN || asked || paused || document.hidden) return;
  asked = true;
  socket.send("next");
}

// What comes before a picture, or without one.
function hear(message) {
  if ("title" in message) {
    element("title").textContent = message.title;
    document.title = `${message.title} · bireal-live`;
  } else if ("error" in message) {
    asked = false;
    if (!paused) say("error", "no picture", `${message.error} Trying again.`);
    ask();
  } else {
    state = message;
  }
}

async function see(jpeg) {
  const current = state;
  asked = false;
  ask(); // The next one travels while this one is drawn.
  if (paused) return;
  const address = URL.createObjectURL(jpeg);
  const next = new Image();
  next.src = address;
  try {
    await next.decode();
  } catch {
    return; // It came too late for a page that is being left.
  } finally {
    URL.revokeObjectURL(address);
  }
  if (paused) return;
  shown = { state: current, jpeg };
  next.id = "picture";
  next.alt = element("picture").alt;
  element("picture").replaceWith(next);
  element("snapshot").disabled = false;
  say("live", "live", "");
  tell(current);
  frame(current.box);
}

function tell({ classes, milliseconds, frames_per_second: rate }) {
  const [best] = classes;
  element("answer").textContent = best.label;
  element("certainty").textContent = `${percent(best.probability)} sure`;
  const speed = rate === null ? "" : ` · ${rate.toFixed(1)} pictures/s`;
  element("speed").textContent = `${milliseconds.toFixed(1)} ms${speed}`;
  const list = element("classes");
  while (list.children.length > classes.length) list.lastChild.remove();
  while (list.children.length < classes.length) list.append(row());
  classes.forEach(({ label, probability }, index) => {
    const [name, share, bar] = list.children[index].children;
    name.textContent = label;
    share.textContent = percent(probability);
    bar.firstChild.style.transform = `translateX(${100 * (Math.min(1, probability) - 1)}%)`;
  });
}

function row() {
  const item = document.createElement("li");
  for (const kind of ["name", "share", "bar"]) {
    const part = document.createElement("span");
    part.className = kind;
    item.append(part);
  }
  item.lastChild.append(document.createElement("i"));
  return item;
}

// Marks what the model sees, in the picture as it is drawn: its sides may be left free.
function frame(shares) {
  const image = element("picture");
  const scale = Math.min(
    image.clientWidth / image.naturalWidth,
    image.clientHeight / image.naturalHeight,
  );
  const width = image.naturalWidth * scale;
  const height = image.naturalHeight * scale;
  const [left, top, right, bottom] = shares;
  const style = element("box").style;
  style.left = `${image.offsetLeft + (image.clientWidth - width) / 2 + left * width}px`;
  style.top = `${image.offsetTop + (image.clientHeight - height) / 2 + top * height}px`;
  style.width = `${(right - left) * width}px`;
  style.height = `${(bottom - top) * height}px`;
  element("box").hidden = false;
}

function say(kind, status, notice) {
  if (document.body.dataset.state !== kind) {
    document.body.dataset.state = kind;
    element("status").textContent = status;
  }
  element("notice").textContent = notice;
}

function percent(share) {
  return `${(100 * share).toFixed(share > 0.9995 || share < 0.0005 ? 0 : 1)} %`;
}

function pause() {
  paused = !paused;
  element("pause").setAttribute("aria-pressed", paused);
  element("pause").textContent = paused ? "Resume" : "Pause";
  if (paused) say("paused", "paused", "");
  else say("waiting", "waiting for the camera", "");
  ask();
}

// Saves what is on the screen, under a name that says what it was taken for.
function snapshot() {
  if (shown === null) return;
  const [{ label, probability }] = shown.state.classes;
  const time = new Date().toISOString().slice(0, 19).replaceAll(":", "-");
  const name = label.replace(/[^\p{L}\p{N}]+/gu, "_").slice(0, 40);
  const link = document.createElement("a");
  link.href = URL.createObjectURL(shown.jpeg);
  link.download = `${name}-${Math.round(100 * probability)}-${time}.jpg`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

element("pause").onclick = pause;
element("snapshot").onclick = snapshot;
document.onkeydown = (event) => {
  // On a button, the space bar presses it.
  const elsewhere = event.target instanceof HTMLButtonElement && event.key === " ";
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || elsewhere) return;
  if (event.key === " ") pause();
  else if (event.key === "s") snapshot();
  else return;
  event.preventDefault();
};
document.onvisibilitychange = ask;
onresize = () => shown && frame(shown.state.box);

connect();
