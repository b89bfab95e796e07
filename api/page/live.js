// Sessions over a WebSocket, for the chat page and the console. A connection may break at any time: it is opened again, what was
// missed is asked for by its number, and what was said and not answered is said again under the same id.

const FIRST_PAUSE = 500;
const LONGEST_PAUSE = 15000;
// A sign of typing counts for six seconds.
const TYPING_EVERY = 3000;
// Waits before a message that was refused because the service is busy is sent again.
const BUSY_PAUSES = [1000, 2000, 4000];
const BUSY = new Set(["busy", "timeout", "stopping"]);
// Refusals of the first frame after which the same key is not tried again.
const NOT_LET_IN = 4401;

// `hello()` gives what the first frame says besides its type; `onFrame` gets every frame that is not the answer to something;
// `onChange` is called when the connection is there, or no more.
export class Live {
  constructor({ hello, onFrame, onChange = () => {} }) {
    this.hello = hello;
    this.onFrame = onFrame;
    this.onChange = onChange;
    // By session: number of the last turn that came.
    this.followed = new Map();
    // By session: what was said and not answered, the first of it on its way.
    this.outbox = new Map();
    this.typedAt = new Map();
    this.isOpen = false;
    this.isStopped = false;
    this.pause = FIRST_PAUSE;
    this.connect();
  }

  connect() {
    clearTimeout(this.timer);
    if (this.isStopped) return;
    this.socket?.close();
    let socket;
    try {
      socket = new WebSocket((location.protocol === "https:" ? "wss://" : "ws://") + location.host + "/v1/live");
    } catch {
      // A policy of the browser: the page goes on without.
      return;
    }
    this.socket = socket;
    socket.addEventListener("open", () => socket.send(JSON.stringify({ type: "hello", ...this.hello() })));
    socket.addEventListener("message", (event) => {
      if (socket === this.socket) this.hear(JSON.parse(event.data));
    });
    socket.addEventListener("close", (event) => {
      if (socket !== this.socket) return;
      this.change(false);
      if (this.isStopped || event.code === NOT_LET_IN) return;
      this.timer = setTimeout(() => this.connect(), this.pause * (0.5 + Math.random() / 2));
      this.pause = Math.min(this.pause * 2, LONGEST_PAUSE);
    });
  }

  // Once more from the beginning, with what `hello` says now.
  restart() {
    this.pause = FIRST_PAUSE;
    this.connect();
  }

  stop() {
    this.isStopped = true;
    clearTimeout(this.timer);
    this.socket?.close();
  }

  change(isOpen) {
    if (this.isOpen === isOpen) return;
    this.isOpen = isOpen;
    this.onChange(isOpen);
  }

  send(frame) {
    if (this.isOpen && this.socket.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(frame));
  }

  hear(frame) {
    if (frame.type === "welcome") {
      this.pause = FIRST_PAUSE;
      this.change(true);
      for (const [session, after] of this.followed) this.send({ type: "follow", session_id: session, after });
      for (const session of this.outbox.keys()) this.sayNext(session);
      return;
    }
    if (frame.type === "answer") {
      this.settle(frame, (said) => said.resolve(frame.answer));
      return;
    }
    if (frame.type === "error" && frame.message_id) {
      this.refuse(frame);
      return;
    }
    if (frame.type === "turn") {
      const known = this.followed.get(frame.session_id);
      if (known === undefined || frame.turn.seq <= known) return;
      this.followed.set(frame.session_id, frame.turn.seq);
    }
    this.onFrame(frame);
  }

  // Wants every turn of a session after number `after`, for as long as it is followed.
  follow(session, after) {
    this.followed.set(session, after);
    this.send({ type: "follow", session_id: session, after });
  }

  leave(session) {
    this.followed.delete(session);
    this.send({ type: "leave", session_id: session });
  }

  // Gives the answer to a message, which has an id. Those of a session are sent one after the other.
  say(message) {
    const queue = this.outbox.get(message.session_id) || [];
    this.outbox.set(message.session_id, queue);
    return new Promise((resolve, reject) => {
      queue.push({ message, resolve, reject, refusals: 0 });
      if (queue.length === 1) this.sayNext(message.session_id);
    });
  }

  sayNext(session) {
    const said = this.outbox.get(session)?.[0];
    if (said) this.send({ type: "say", message: said.message });
  }

  settle(frame, end) {
    const queue = this.outbox.get(frame.session_id);
    // The answer to something that was said twice comes twice.
    if (queue?.[0]?.message.message_id !== frame.message_id) return;
    end(queue.shift());
    if (queue.length) this.sayNext(frame.session_id);
    else this.outbox.delete(frame.session_id);
  }

  refuse(frame) {
    const said = this.outbox.get(frame.session_id)?.[0];
    if (BUSY.has(frame.error.code) && said?.message.message_id === frame.message_id && said.refusals < BUSY_PAUSES.length) {
      setTimeout(() => this.sayNext(frame.session_id), BUSY_PAUSES[said.refusals]);
      said.refusals += 1;
      return;
    }
    this.settle(frame, (refused) => refused.reject(frame.error));
  }

  // Gives back what waits to be said, because it is sent another way.
  takeOutbox() {
    const waiting = [...this.outbox.values()].flat();
    this.outbox.clear();
    return waiting;
  }

  typing(session) {
    if (Date.now() - (this.typedAt.get(session) || 0) < TYPING_EVERY) return;
    this.typedAt.set(session, Date.now());
    this.send({ type: "typing", session_id: session });
  }

  // All turns up to `seq` have come, or have been seen.
  mark(session, seq, isSeen) {
    this.send({ type: isSeen ? "read" : "received", session_id: session, seq });
  }
}
