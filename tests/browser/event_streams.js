// Reads one stream of the server in two ways, as it comes and again in pieces of so many bytes.
async (sizes) => {
  const { createParser } = await import("/eventsource-parser/parse.js")
  const response = await fetch("/chat/stream", {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ message: "hi" }),
  })
  const chunks = []
  const parsed = parsing()
  const live = new TextDecoder()
  const reading = byHand()
  const reader = response.body.getReader()
  for (let next = await reader.read(); !next.done; next = await reader.read()) {
    chunks.push(next.value)
    const text = live.decode(next.value, { stream: true })
    parsed.feed(text)
    reading.feed(text)
  }
  const raw = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(await new Blob(chunks).arrayBuffer())
  return {
    status: response.status,
    type: response.headers.get("content-type"),
    raw,
    parsed: parsed.events,
    parsed_in_pieces: sizes.map((size) => inPieces(chunks, size, parsing)),
    by_hand: reading.events,
    by_hand_in_pieces: sizes.map((size) => inPieces(chunks, size, byHand)),
  }

  function parsing() {
    const events = []
    const parser = createParser({
      onEvent: ({ event, id, data }) => events.push({ event: event ?? "message", id: id ?? null, data }),
      onError: (error) => events.push({ event: `unreadable: ${error.message}` }),
    })
    return { events, feed: (text) => parser.feed(text) }
  }

  // as people write it who know only this server: events end in an empty line and are one line of data
  function byHand() {
    const events = []
    let rest = ""
    const feed = (text) => {
      const parts = (rest + text).split("\n\n")
      rest = parts.pop()
      for (const part of parts) {
        if (part.startsWith("data: ")) events.push({ event: "message", id: null, data: part.slice(6) })
        else if (part !== ": ping") events.push({ event: `unreadable: ${part}` })
      }
    }
    return { events, feed }
  }

  function inPieces(chunks, size, reading) {
    const decoder = new TextDecoder()
    const reader = reading()
    for (const chunk of chunks)
      for (let at = 0; at < chunk.length; at += size)
        reader.feed(decoder.decode(chunk.subarray(at, at + size), { stream: true }))
    return reader.events
  }
}
