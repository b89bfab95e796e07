// Asks again and again, but only while somebody looks.

import { complain } from "./notice.js";

// Does `work` now and again some milliseconds after it ended. While the tab is hidden it rests, or keeps to a slower pace;
// when the tab is seen again it is done at once. `milliseconds` may be a function, asked before each pause.
export function poll(milliseconds, work, whileHidden = Infinity) {
  let timer = 0;
  let stopped = false;
  let running = false;
  let again = false;

  const later = () => {
    clearTimeout(timer);
    const usual = typeof milliseconds === "function" ? milliseconds() : milliseconds;
    const pause = document.hidden ? whileHidden : usual;
    if (!stopped && pause !== Infinity) timer = setTimeout(now, pause);
  };

  async function now() {
    if (stopped) return;
    if (running) {
      again = true;
      return;
    }
    running = true;
    do {
      again = false;
      try { await work(); } catch (failure) { complain(failure); }
    } while (again && !stopped);
    running = false;
    later();
  }

  const seen = () => (document.hidden ? later() : now());
  document.addEventListener("visibilitychange", seen);
  now();
  return {
    now,
    stop() {
      stopped = true;
      clearTimeout(timer);
      document.removeEventListener("visibilitychange", seen);
    },
  };
}
