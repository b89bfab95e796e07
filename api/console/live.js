// What the service tells by itself: one socket for the whole console. Where there is none, the console asks again and again.

import { Live } from "/page/live.js";

const listeners = new Set();
let live = null;

// Opens the socket, or opens it anew after somebody has logged in again.
export function startLive() {
  if (live) live.restart();
  else live = new Live({ hello: () => ({ side: "agent" }), onFrame: (frame) => listeners.forEach((hear) => hear(frame)) });
}

export const isLive = () => Boolean(live?.isOpen);

// Calls `hear` with every frame, until what this gives is called.
export function listenLive(hear) {
  listeners.add(hear);
  return () => listeners.delete(hear);
}

export const follow = (session, after) => live?.follow(session, after);
export const leave = (session) => live?.leave(session);
export const typing = (session) => live?.typing(session);
export const markSeen = (session, seq) => live?.mark(session, seq, !document.hidden);
