/**
 * Text of others for this terminal. Whoever writes a message chooses its characters, and a terminal obeys some of them: escape sequences move
 * the cursor, rename the window or answer on the keyboard's behalf, and marks of direction make a line read as another.
 */
import type { Message } from '../../src/protocol/message.js';
import type { RoomEvent } from '../../src/protocol/room-event.js';

/** Controls (C0, DEL, C1) but the line feed, line separators, and marks of direction (Unicode Standard Annex 9). */
// oxlint-disable-next-line no-control-regex -- these are what it is for
const obeyed = /[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/gu;

/** One line of text, whatever was in it. */
export const plainText = (text: string): string => text.replace(obeyed, '').replaceAll('\n', ' ');

/** `HH:MM name: text`; where the text has lines, the others stand below its first, so that none can pass for a message. */
export function messageLines({ username, content, created_at }: Message): string {
  const head = `${clock(created_at)} ${plainText(username)}: `;
  return (
    head +
    content
      .replace(/\r\n?/g, '\n')
      .replace(obeyed, '')
      .replaceAll('\n', `\n${' '.repeat(head.length)}`)
  );
}

export function eventLine({ kind, username, created_at }: RoomEvent): string {
  const who = plainText(username ?? 'somebody');
  const what: Record<string, string> = {
    joined: 'joined',
    left: 'left',
    kicked: 'was removed',
    banned: 'was banned',
    unbanned: 'may join again',
    role_changed: 'has another role',
    owner_changed: 'is the owner',
  };
  return `${clock(created_at)} * ${what[kind] === undefined ? plainText(kind) : `${who} ${what[kind]}`}`;
}

/** Hours and minutes where this terminal is. */
function clock(iso: string): string {
  const at = new Date(iso);
  if (Number.isNaN(at.getTime())) return '--:--';
  return [at.getHours(), at.getMinutes()].map((part) => String(part).padStart(2, '0')).join(':');
}
