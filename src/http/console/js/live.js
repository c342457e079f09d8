// The live feed: one WebSocket, reconnected with back-off, and at once when the server is back. It reports its state and hands on
// frames; it keeps no readings. A connection whose other end has gone without a word stays open in the browser: a feed that is silent
// asks the server, which answers any text, and takes a connection without an answer for lost.
import { currentToken } from "./api.js";
import { noteSilence, onBack } from "./connection.js";

const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 15_000;
const OFFLINE_AFTER = 4;
const LOOK_MS = 1000;
/** A silence after which the server is asked, and how long it may take to answer. */
const ASK_AFTER_MS = 4000;
const ANSWER_WITHIN_MS = 5000;

/** `onFrame(frame)` for each JSON frame; `onState({state, retryAt, attempts})`, state: connecting, live, reconnecting or offline. */
export class LiveFeed {
  constructor(path, { onFrame, onState }) {
    this.path = path;
    this.onFrame = onFrame;
    this.onState = onState;
    this.socket = null;
    this.attempts = 0;
    this.timer = null;
    this.watchdog = null;
    this.heardAt = 0;
    this.askedAt = null;
    this.stopWaiting = onBack(() => this.reconnectNow());
  }

  connect() {
    clearTimeout(this.timer);
    const socket = openSocket(this.path);
    this.socket = socket;
    socket.onopen = () => {
      this.attempts = 0;
      this.heard();
      clearInterval(this.watchdog);
      this.watchdog = setInterval(() => this.look(socket), LOOK_MS);
      this.onState({ state: "live", retryAt: null, attempts: 0 });
    };
    socket.onmessage = (message) => this.socket === socket && this.receive(message.data);
    socket.onclose = () => {
      if (this.socket === socket) this.retryLater();
    };
  }

  heard() {
    this.heardAt = Date.now();
    this.askedAt = null;
  }

  /** Asks a server that is silent, and gives up one that does not answer. Timers of a hidden page are late: the answer counts from the question. */
  look(socket) {
    if (this.socket !== socket || socket.readyState !== WebSocket.OPEN) return;
    const now = Date.now();
    if (this.askedAt === null) {
      if (now - this.heardAt < ASK_AFTER_MS) return;
      this.askedAt = now;
      socket.send("ping");
    } else if (now - this.askedAt >= ANSWER_WITHIN_MS) {
      this.socket = null;
      socket.close();
      this.retryLater();
    }
  }

  /** Tries again at once instead of waiting for the back-off. */
  reconnectNow() {
    if (this.socket?.readyState === WebSocket.OPEN) return;
    this.socket?.close();
    this.connect();
  }

  /** Ends it for good. */
  close() {
    clearTimeout(this.timer);
    clearInterval(this.watchdog);
    this.stopWaiting();
    const socket = this.socket;
    this.socket = null;
    socket?.close();
  }

  receive(text) {
    this.heard();
    let frame;
    try {
      frame = JSON.parse(text);
    } catch {
      return;
    }
    if (frame && typeof frame === "object" && frame.type !== "ack") this.onFrame(frame);
  }

  retryLater() {
    clearInterval(this.watchdog);
    this.attempts += 1;
    const ceiling = Math.min(FIRST_WAIT_MS * 2 ** (this.attempts - 1), LONGEST_WAIT_MS);
    const wait = ceiling * (0.5 + Math.random() / 2);
    const state = this.attempts >= OFFLINE_AFTER ? "offline" : "reconnecting";
    this.onState({ state, retryAt: Date.now() + wait, attempts: this.attempts });
    this.timer = setTimeout(() => this.connect(), wait);
    noteSilence();
  }
}

// Browsers cannot set headers on a WebSocket, and addresses end up in logs: a token travels as a subprotocol where its
// characters allow that.
function openSocket(path) {
  const url = new URL(path, location.href);
  url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  const token = currentToken();
  if (token && /^[\w!#$%&'*+.^`|~-]+$/.test(token)) return new WebSocket(url, ["streamward.v1", `bearer.${token}`]);
  if (token) url.searchParams.set("access_token", token);
  return new WebSocket(url);
}
