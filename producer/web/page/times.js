// Shows moments in the time zone of the reader, and reads the ones she types.

const shown = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "short" });

/** Return a moment as she writes it. */
export const shownTime = (moment) => shown.format(new Date(moment));

/** The name of her time zone. */
export const timeZone = Intl.DateTimeFormat().resolvedOptions().timeZone;

/** Return a moment as the value of a field for date and time, in her time zone. */
export function fieldValue(moment) {
  const time = new Date(moment);
  return new Date(time.getTime() - time.getTimezoneOffset() * 60_000).toISOString().slice(0, 16);
}
