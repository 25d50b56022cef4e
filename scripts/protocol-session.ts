/**
 * Records the worked session of docs/protocol.md from a node that runs at BASE_URL: `npm start`, then `npm run docs:session`. Ids, tokens and times
 * are replaced by ones that are the same in every run, so that a test can record it anew and compare.
 */
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { readFile, writeFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { WebSocket } from 'ws';
import { withSection } from './markdown.js';

const frameTimeoutMs = 10_000;

type Body = Readonly<Record<string, unknown>>;
interface Frame {
  readonly event: string;
  readonly data: Readonly<Record<string, unknown>>;
}

/** What was said, with names in the place of what differs from run to run. */
class Tape {
  private readonly lines: string[] = [];
  private readonly names = new Map<string, string>();

  name(value: string, name: string): string {
    this.names.set(value, name);
    return value;
  }

  note(text: string): void {
    this.lines.push(...(this.lines.length > 0 ? [''] : []), `# ${text}`);
  }

  write(prefix: string, value: unknown): void {
    this.lines.push(`${prefix} ${JSON.stringify(value, (key, part: unknown) => this.stable(key, part))}`);
  }

  get text(): string {
    return this.lines.map((line) => [...this.names].reduce((text, [value, name]) => text.replaceAll(value, name), line)).join('\n');
  }

  private stable(key: string, value: unknown): unknown {
    if (key === 'id' && typeof value === 'number') return 1_025; // of a message
    if (typeof value !== 'string') return value;
    if (key === 'accessToken' || key === 'token') return 'eyJhbGciOi…';
    if (key === 'refreshToken') return 'trl1.…';
    if (key === 'node') return 'node-1';
    if (key === 'epoch') return '7301…-1-0';
    if (/^[0-9a-f]{8}-[0-9a-f-]{27}$/.test(value) && !this.names.has(value)) {
      this.names.set(value, `0193a5c0-0000-7000-8000-${String(this.names.size + 1).padStart(12, '0')}`);
    }
    return /^\d{4}-\d\d-\d\dT.*Z$/.test(value) ? '2026-01-31T12:00:00.000Z' : value;
  }
}

class Rest {
  constructor(
    private readonly url: string,
    private readonly tape: Tape,
  ) {}

  async post(path: string, body: Body, token?: string): Promise<Frame['data']> {
    this.tape.write(`POST ${path}`, body);
    const answer = await fetch(`${this.url}${path}`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', ...(token !== undefined && { authorization: `Bearer ${token}` }) },
      body: JSON.stringify(body),
    });
    const parsed = (await answer.json()) as Frame['data'];
    this.tape.write(`     ${answer.status}`, parsed);
    return parsed;
  }
}

class Socket {
  private readonly received: Frame[] = [];
  private arrived: () => void = () => undefined;

  private constructor(
    private readonly socket: WebSocket,
    private readonly tape: Tape,
  ) {
    socket.on('message', (data) => {
      this.received.push(JSON.parse((data as Buffer).toString()) as Frame);
      this.arrived();
    });
  }

  static async open(url: string, tape: Tape): Promise<Socket> {
    const socket = new WebSocket(`${url.replace('http', 'ws')}/ws`);
    const opened = new Socket(socket, tape);
    await once(socket, 'open');
    return opened;
  }

  send(event: string, id: string, data: Body): void {
    const frame = { event, id, data };
    this.tape.write('→', frame);
    this.socket.send(JSON.stringify(frame));
  }

  /** The next frames are these, in whatever order. @throws Error where they are others */
  async frames(...events: string[]): Promise<Frame[]> {
    const timeout = AbortSignal.timeout(frameTimeoutMs);
    while (this.received.length < events.length) {
      await new Promise<void>((arrived, late) => {
        this.arrived = arrived;
        timeout.addEventListener('abort', () => late(new Error(`no ${events.join(', ')}, but ${JSON.stringify(this.received)}`)));
      });
    }
    const next = this.received.splice(0, events.length);
    return events.map((event) => {
      const frame = next.find((other) => other.event === event);
      if (frame === undefined) throw new Error(`expected ${events.join(', ')}, received ${JSON.stringify(next)}`);
      this.tape.write('←', frame);
      return frame;
    });
  }

  cut(): void {
    this.socket.terminate();
  }
}

/** Goes through a session on a node, and returns what was said. */
export async function recordSession(url: string): Promise<string> {
  const tape = new Tape();
  const rest = new Rest(url, tape);
  const suffix = randomUUID().slice(0, 8);
  const person = async (name: string) => {
    const username = tape.name(`${name}-${suffix}`, name);
    const answer = await rest.post('/auth/register', { username, email: `${username}@example.org`, password: 'correct horse battery' });
    return (answer['tokens'] as { accessToken: string }).accessToken;
  };

  tape.note('Ann makes herself an account and a room, by REST. She is its first member.');
  const ann = await person('ann');
  const room = await rest.post('/rooms', { name: tape.name(`lobby-${suffix}`, 'lobby') }, ann);
  const room_id = room['id'] as string;

  tape.note('She opens a socket to /ws, says who she is, and follows the room. Nobody else is online; then she is.');
  const first = await Socket.open(url, tape);
  first.send('auth', 'a', { token: ann });
  await first.frames('hello');
  first.send('join_room', 'b', { room_id });
  const [joined] = await first.frames('joined_room', 'presence');

  tape.note('She sends. The ack and the message may come in either order.');
  first.send('send_message', 'c', { room_id, content: 'Is anybody here?', client_msg_id: randomUUID() });
  const [ack] = await first.frames('message_ack', 'new_message_batch');

  tape.note('Her connection is lost. Meanwhile Bob joins the room and says something, by REST.');
  first.cut();
  const bob = await person('bob');
  await rest.post(`/rooms/${room_id}/join`, {}, bob);
  await rest.post(`/rooms/${room_id}/messages`, { content: 'I am!' }, bob);

  tape.note('She connects anew, to any node, and says what she holds: the highest seq, and the epoch that came with it.');
  const second = await Socket.open(url, tape);
  second.send('auth', 'a', { token: ann });
  await second.frames('hello');
  second.send('join_room', 'b', { room_id, last_seen_seq: ack?.data['seq'], epoch: joined?.data['epoch'] });
  await second.frames('joined_room', 'history');

  tape.note('That was the last page: from here on the stream is live.');
  await rest.post(`/rooms/${room_id}/messages`, { content: 'Welcome back.' }, bob);
  await second.frames('new_message_batch');
  second.cut();
  return tape.text;
}

/** @throws Error when the document has lost its markers. */
export const withSession = (text: string, session: string): string => withSection(text, 'session', `\`\`\`text\n${session}\n\`\`\``);

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const document = resolve(import.meta.dirname, '../docs/protocol.md');
  const session = await recordSession(process.env['BASE_URL'] ?? 'http://localhost:3000');
  await writeFile(document, withSession(await readFile(document, 'utf8'), session));
}
