// The live feed: one WebSocket, reconnected with back-off, and at once when the server is back. It reports its state and hands on
// frames; it keeps no readings.
import { currentToken } from "./api.js";
import { noteSilence, onBack } from "./connection.js";

const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 15_000;
const OFFLINE_AFTER = 4;

/** `onFrame(frame)` for each JSON frame; `onState({state, retryAt, attempts})`, state: connecting, live, reconnecting or offline. */
export class LiveFeed {
  constructor(path, { onFrame, onState }) {
    this.path = path;
    this.onFrame = onFrame;
    this.onState = onState;
    this.socket = null;
    this.attempts = 0;
    this.timer = null;
    this.stopWaiting = onBack(() => this.reconnectNow());
  }

  connect() {
    clearTimeout(this.timer);
    const socket = openSocket(this.path);
    this.socket = socket;
    socket.onopen = () => {
      this.attempts = 0;
      this.onState({ state: "live", retryAt: null, attempts: 0 });
    };
    socket.onmessage = (message) => this.socket === socket && this.receive(message.data);
    socket.onclose = () => {
      if (this.socket === socket) this.retryLater();
    };
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
    this.stopWaiting();
    const socket = this.socket;
    this.socket = null;
    socket?.close();
  }

  receive(text) {
    let frame;
    try {
      frame = JSON.parse(text);
    } catch {
      return;
    }
    if (frame && typeof frame === "object") this.onFrame(frame);
  }

  retryLater() {
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
