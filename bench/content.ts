const sentence = ' This is what people say to each other in a room. ';

/** Makes contents of so many characters: the moment of the send in front, in µs, which room-frames.ts reads, then ASCII without quotes or braces. */
export function contentsOf(chars: number): (sentAt: number) => string {
  const filler = sentence.repeat(Math.ceil(chars / sentence.length));
  return (sentAt) => `${Math.round(sentAt)}${filler}`.slice(0, chars);
}
