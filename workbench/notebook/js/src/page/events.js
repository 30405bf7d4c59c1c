// Server-sent events from the body of a fetch; EventSource can neither POST nor send headers.

const SILENCE_MS = 60_000; // the server sends a comment every 15 s: after so long the connection is dead

/**
 * Yield the events of a stream as lists of parsed data, one list for what arrived together. Only `data:` lines hold
 * something of ours; a comment only says that the server is there.
 */
export async function* eventsOf(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let open = "";
  try {
    while (true) {
      const { value, done } = await inTime(reader.read());
      if (done) return;
      const lines = (open + value).split("\n");
      open = lines.pop();
      const events = lines.filter((line) => line.startsWith("data:")).map((line) => JSON.parse(line.slice(5)));
      if (events.length > 0) yield events;
    }
  } finally {
    reader.cancel().catch(() => {}); // it is broken already, or at its end
  }
}

async function inTime(read) {
  let timer;
  const silence = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`nothing came for ${SILENCE_MS / 1000} s`)), SILENCE_MS);
  });
  try {
    return await Promise.race([read, silence]);
  } finally {
    clearTimeout(timer);
  }
}
