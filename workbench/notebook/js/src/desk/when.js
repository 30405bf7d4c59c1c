// When a chat was last used.

/** The time of day, with "yesterday" for that day's; of older ones the date, with the year if it was another one. */
export function when(at, now = new Date(), locale = undefined) {
  const date = new Date(at);
  const time = date.toLocaleTimeString(locale, { timeStyle: "short" });
  const midnight = new Date(now.getFullYear(), now.getMonth(), now.getDate());
  const before = new Date(now.getFullYear(), now.getMonth(), now.getDate() - 1); // 23 or 25 hours, some days
  if (date >= midnight) return time;
  if (date >= before) return `yesterday ${time}`;
  const year = date.getFullYear() === now.getFullYear() ? undefined : "numeric";
  return date.toLocaleDateString(locale, { day: "numeric", month: "short", year });
}
