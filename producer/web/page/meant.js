// Knows which ids may be meant by a number that a spreadsheet has changed.

const NUMBER = /^0*([1-9][0-9]*)(?:\.0+)?$/;
const ID = /^0*([1-9][0-9]*)$/;

/** Return whether a text may mean an id: a number that differs from it in zeros in front or has `.0` at the end. */
export function mayMean(text, sisId) {
  if (text.trim() === sisId) return false;
  const number = NUMBER.exec(text.trim())?.[1];
  return number !== undefined && number === ID.exec(sisId)?.[1];
}

/** Return whether a search has found only what may be meant, but not the text itself: the best match comes first. */
export const isOnlyMeant = (text, [best]) => Boolean(best) && mayMean(text, best.sis_id);
