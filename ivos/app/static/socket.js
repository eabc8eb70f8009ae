// The WebSocket connection, which reconnects automatically and resends strokes and edits without acknowledgement.

const FORGET = { 1009: "too long for the server" }; // close codes after which a message is not sent again
const AGAIN = 3000; // milliseconds until a stroke that could not be saved is sent again

export class Connection extends EventTarget {
  constructor(path) {
    super();
    this.path = path;
    this.page = "";
    this.seq = 0;
    this.asked = new Map(); // seq -> {resolve, reject}
    this.unsaved = new Map(); // id -> stroke or edit, until the server has written it to disk
    this.key = "";
    this.tries = 0;
    this.open();
  }

  open() {
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    const socket = new WebSocket(`${scheme}://${location.host}${this.path}`);
    this.socket = socket;
    socket.binaryType = "arraybuffer";
    socket.onopen = () => {
      this.tries = 0;
      this.ask("hello", { page: this.page }).catch(() => {});
    };
    socket.onmessage = (event) => this.receive(event.data);
    socket.onclose = (event) => this.lost(event);
  }

  get ready() {
    return this.socket.readyState === WebSocket.OPEN;
  }

  receive(data) {
    if (typeof data !== "string") {
      this.emit("binary", data);
      return;
    }
    const message = JSON.parse(data);
    if (message.type === "ack" || (message.type === "error" && message.seq >= 0)) {
      const asked = this.asked.get(message.seq);
      this.asked.delete(message.seq);
      if (asked) message.type === "ack" ? asked.resolve() : asked.reject(new Error(message.message));
      return;
    }
    if (message.type === "welcome") {
      this.page = message.page;
      this.key = `ivos:${message.id}`;
      this.restore();
    }
    if (message.type === "state" && message.role === "writer" && message.phase !== "loading" && !message.writing) this.resend();
    this.emit(message.type, message);
  }

  lost(event) {
    for (const { reject } of this.asked.values()) reject(new Error("the connection was lost"));
    this.asked.clear();
    if (FORGET[event.code] && this.last) { // the server would refuse the message again
      this.unsaved.delete(this.last);
      this.store();
      this.emit("error", { message: `a message was ${FORGET[event.code]}` });
    }
    this.resent = false;
    this.tries += 1;
    this.emit("lost", { tries: this.tries });
    setTimeout(() => this.open(), Math.min(3000, 200 * 1.6 ** this.tries));
  }

  // Send a message, and return a promise that is resolved when the server acknowledges it.
  ask(type, content = {}) {
    if (!this.ready) return Promise.reject(new Error("not connected; try again in a moment"));
    const seq = ++this.seq;
    return new Promise((resolve, reject) => {
      this.asked.set(seq, { resolve, reject });
      this.socket.send(JSON.stringify({ type, seq, ...content }));
    });
  }

  // Send a stroke or an edit, and keep it in the browser's storage until the server has written it to disk.
  save(type, content) {
    const item = { ...content };
    Object.defineProperty(item, "type", { value: type });
    this.unsaved.set(content.id, item);
    this.store();
    return this.send(item);
  }

  async send(item) {
    this.last = item.id;
    try {
      await this.ask(item.type ?? (item.runs ? "edit" : "stroke"), item);
      this.done(item.id);
      this.emit("saved", { id: item.id });
    } catch (error) {
      if (!this.ready) return; // the item is sent again after the connection is restored
      if (/take over|being read|being written/i.test(error.message)) { // send it again with the next suitable state
        this.resent = false;
        this.emit("error", { message: error.message });
        return;
      }
      if (/journal/i.test(error.message)) { // the server's disk is full or read-only
        this.emit("error", { message: error.message });
        setTimeout(() => { if (this.ready && this.unsaved.has(item.id)) this.send(item); }, AGAIN);
        return;
      }
      this.done(item.id);
      this.emit("refused", { id: item.id, edit: Boolean(item.runs), frame: item.frame, message: error.message });
    }
  }

  // Wait until all strokes and edits are acknowledged.
  async settled() {
    while (this.unsaved.size && this.ready) await new Promise((done) => setTimeout(done, 5));
  }

  done(id) {
    this.unsaved.delete(id);
    this.store();
  }

  resend() {
    if (this.resent) return;
    this.resent = true;
    for (const stroke of this.unsaved.values()) this.send(stroke);
  }

  store() {
    try {
      if (this.unsaved.size) localStorage.setItem(this.key, JSON.stringify([...this.unsaved.values()]));
      else localStorage.removeItem(this.key);
    } catch { /* a private window has no storage; the strokes stay in memory */ }
  }

  restore() {
    try {
      for (const stroke of JSON.parse(localStorage.getItem(this.key) || "[]")) this.unsaved.set(stroke.id, stroke);
    } catch { /* the stored strokes are unreadable */ }
  }

  emit(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}
