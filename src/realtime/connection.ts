/**
 * One client's socket: frames in, one command accepted at a time and in order; frames out through its outbox.
 *
 * Promises: every frame is answered, a bad one with an error; a send is accepted when the writer has it, so that the next command does not wait for
 * its commit; no input makes it throw. Bounded: while too much waits, the socket is not read. Who sends what to whom is not decided here.
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { Logger } from 'pino';
import type { WebSocket } from 'ws';
import type { AccessTokens, Identity } from '../auth/access-tokens.js';
import type { Sessions } from '../auth/sessions.js';
import type { Config } from '../config.js';
import { closeCodes, type CloseReason } from '../protocol/close-codes.js';
import type { Stored } from '../chat/chat.service.js';
import { parseCommand, RefusedFrame, type Command, type CommandId } from '../protocol/commands.js';
import { encode, encodeAck, encodeError, type ServerEvents } from '../protocol/encode.js';
import { ClientError } from '../protocol/errors.js';
import { limits, wireLimits } from '../protocol/limits.js';
import type { Push } from '../protocol/pushes.js';
import type { Reply } from '../protocol/replies.js';
import type { RealtimeCounters } from './counters.js';
import { Outbox } from './outbox.js';
import { rawSocketOf } from './raw-socket.js';
import { RoomStreams, type Join, type StreamParts } from './room-streams.js';
import { Turn, type UserSockets } from './user-sockets.js';

/**
 * How old the last look-up of a session may be for a command to be accepted on its behalf: of a session that ended nothing is accepted
 * after that. SessionWatch looks up once a second.
 */
const proofMaxAgeMs = 2_000;
/** Until the look-up is so old commands wait for another one; then they are refused, as sends are that could not be stored for so long. */
const unprovenMaxMs = 10_000;
const proofRetryMs = 500;

/** Commands of one socket that may wait for the one before them; above it the socket is not read. */
const queueMax = 64;

export interface ConnectionParts extends StreamParts {
  readonly config: Config;
  readonly nodeName: string;
  readonly tokens: AccessTokens;
  readonly sessions: Pick<Sessions, 'noteUse' | 'prove'>;
  readonly userSockets: UserSockets;
  readonly log: Logger;
  readonly counters: RealtimeCounters;
}

export class Connection {
  readonly outbox: Outbox;
  private streams: RoomStreams;
  private helloEpoch = '';
  private identity: Identity | undefined;
  /** Its user, or candidate, is known by a cookie alone, which the browser added: `auth` wins over it. */
  private isByCookie = false;
  /** Since when it has no user, by performance.now(), and how it is closed if that goes on. */
  private nobodySince = performance.now();
  private nobodyBecause: CloseReason = 'authTimeout';
  /** Of a valid token whose session is being looked up; no command is accepted meanwhile. */
  private candidate: Identity | undefined;
  /** The look-up failed and is tried again: a ping is answered meanwhile, so that the client does not take the connection for dead. */
  private isProofLate = false;
  /** As of when the session of `identity` is known to be live, by performance.now(). */
  private provenAt = 0;
  private queue: string[] = [];
  private queuedChars = 0;
  /** Taken off the queue, and waits for what came before it. */
  private next: Command | RefusedFrame | undefined;
  private accepting = false;
  private unanswered = 0;
  /** Of these, by room; made for who sends. */
  private unansweredIn: Map<string, number> | undefined;
  private badFrames = 0;
  private closing = false;
  private released = false;
  private stopped = false;
  private missedPongs = 0;
  /** Its own until it is authenticated, then that of its user. */
  private turn = new Turn();
  private readonly goOn = (): void => this.acceptMore();
  private pingData: Buffer | undefined;

  constructor(
    readonly id: string,
    private readonly socket: WebSocket,
    private readonly parts: ConnectionParts,
    /** A room to join as soon as the connection is authenticated, before any other command. */
    private readonly firstRoomId?: string,
  ) {
    this.outbox = new Outbox(rawSocketOf(socket), parts.config.SOCKET_BUFFER_BYTES, () => this.drained(), parts.counters);
    this.streams = this.newStreams();
    socket.on('message', (data, isBinary) => this.receive(data as Buffer, isBinary));
    socket.on('ping', (data) => this.pong(data));
    socket.on('pong', () => {
      this.missedPongs = 0;
      this.countFrame();
    });
    // ws answers a violation of its protocol with the right close code itself; what is left is to say so.
    socket.on('error', (error) => parts.log.debug({ connection: id, err: error.message }, 'a socket failed'));
  }

  /** True while live frames are kept from it, because it does not take what waits. */
  get isLagging(): boolean {
    return this.outbox.fullSince !== undefined;
  }

  get userId(): string {
    return this.identity?.userId ?? '';
  }

  /** Undefined before it is authenticated. */
  get sessionId(): string | undefined {
    return this.identity?.sessionId;
  }

  /** True when all that was read is answered. */
  get isIdle(): boolean {
    return this.unanswered === 0 && !this.streams.isJoining && !this.accepting && !this.hasQueued;
  }

  /**
   * Says hello as soon as the session of a valid token is known to be live. Until then the token's expiry is the only limit in time.
   * @param isByCookie the client did not say so itself
   */
  authenticate(identity: Identity, isByCookie: boolean, id?: CommandId): void {
    this.isByCookie = isByCookie;
    const turn = this.parts.userSockets.add(identity.userId);
    if (turn === undefined) return this.turnAway('rateLimited');
    this.takeTurnsIn(turn);
    void this.prove(identity).then((isProven) => isProven && this.greet(id));
  }

  /** The session was live at that time, by performance.now(). */
  proven(at: number): void {
    this.provenAt = Math.max(this.provenAt, at);
    if (this.next !== undefined) this.acceptMore();
  }

  /** Closes what has outlived its token, its chance to authenticate, or its time to take what waits for it. Called about once a second. */
  sweep(): void {
    const now = performance.now(); // but for the token's time, whatever is done to the system's clock
    const { identity, candidate } = this;
    if (identity === undefined && candidate === undefined) {
      if (now - this.nobodySince >= limits.authDeadlineMs) this.close(this.nobodyBecause);
    } else if (Date.now() >= Math.max(identity?.expiresAtMs ?? 0, candidate?.expiresAtMs ?? 0)) {
      if (identity === undefined) this.turnAway('tokenExpired');
      else this.close('tokenExpired');
    } else if (now - (this.outbox.fullSince ?? now) > this.parts.config.SLOW_SOCKET_TIMEOUT_MS) this.close('slowConsumer');
    else if (this.next !== undefined) this.acceptMore(); // to be refused, if it has waited for too long
  }

  /** Pings; a peer that answered none of the last two is gone. Called once a heartbeat. */
  heartbeat(): void {
    if (this.missedPongs >= 2) return this.socket.terminate();
    this.missedPongs++;
    this.socket.ping();
  }

  push<Event extends keyof Push>(event: Event, data: ServerEvents[Event]): void {
    this.outbox.put(encode(event, data));
  }

  /** Ends the connection after what waits was written, and cuts it when the peer does not take part in that. */
  close(reason: CloseReason): void {
    if (this.closing) return;
    this.closing = true;
    this.release();
    this.outbox.close();
    this.socket.resume(); // else the peer's part of the handshake is never read
    const { code, meaning } = closeCodes[reason];
    const { closed } = this.parts.counters;
    closed[reason] = (closed[reason] ?? 0) + 1;
    this.parts.log.info({ connection: this.id, user: this.userId, code, reason }, 'closing a socket');
    this.socket.close(code, meaning);
  }

  /** Reads no more commands; what was read already is accepted and answered. */
  stopAccepting(): void {
    this.stopped = true;
    this.socket.pause();
  }

  /** Gives back what it holds of the hub. Called when the socket is closed, by whomever. */
  release(): void {
    const identity = this.identity ?? this.candidate;
    if (identity !== undefined && !this.released) this.parts.userSockets.remove(identity.userId);
    this.released = true;
    this.closing = true;
    this.turn.leave(this.goOn);
    this.queue = [];
    this.queuedChars = 0;
    this.next = undefined;
    this.streams.close();
  }

  private newStreams(): RoomStreams {
    return new RoomStreams(this.parts, this.outbox, (error, command, roomId) => this.replyError(error, command, roomId));
  }

  private takeTurnsIn(turn: Turn): void {
    this.turn.leave(this.goOn);
    this.turn = turn;
  }

  /** Has no user any more: its streams end. What it sent stays that user's, and is answered. */
  private forgetUser(): void {
    const user = this.identity ?? this.candidate;
    this.isByCookie = false;
    this.nobodySince = performance.now();
    if (user === undefined) return;
    this.parts.userSockets.remove(user.userId);
    this.takeTurnsIn(new Turn());
    this.identity = undefined;
    this.candidate = undefined;
    this.streams.close();
    this.streams = this.newStreams();
  }

  /** The credentials can't be taken. Those of a cookie count as none: `auth` may still come, and what it says may be good. */
  private turnAway(reason: CloseReason): void {
    if (!this.isByCookie) return this.close(reason);
    this.forgetUser();
    this.nobodyBecause = reason;
    this.acceptMore();
  }

  private greet(id?: CommandId): void {
    this.hello(id);
    if (this.firstRoomId !== undefined) this.streams.join([{ room_id: this.firstRoomId }]);
    this.acceptMore();
  }

  private hello(id?: CommandId): void {
    const { parts, identity } = this;
    if (identity === undefined) return;
    this.helloEpoch = parts.feed.epoch;
    this.reply(
      'hello',
      {
        connection_id: this.id,
        user_id: identity.userId,
        node: parts.nodeName,
        epoch: this.helloEpoch,
        heartbeat_ms: parts.config.HEARTBEAT_MS,
        token_expires_at: new Date(identity.expiresAtMs).toISOString(),
        limits: { ...wireLimits, rooms_per_socket_max: parts.config.ROOMS_PER_SOCKET_MAX },
      },
      id,
    );
  }

  /**
   * Looks the session of a token up, for as long as it takes, and has the token's identity from then on. A session that is over closes the socket.
   * @param untilMs of performance.now(), when to give up
   * @returns false where it was closed, or another token was given, meanwhile; @throws ClientError `unavailable`
   */
  private async prove(identity: Identity, untilMs = Number.POSITIVE_INFINITY): Promise<boolean> {
    const { sessions, noteBug } = this.parts;
    this.candidate = identity;
    this.isProofLate = false;
    while (!this.closing && this.candidate === identity) {
      const askedAt = performance.now();
      try {
        const isLive = await sessions.prove(identity);
        if (isLive) sessions.noteUse(identity.sessionId);
        if (this.closing || this.candidate !== identity) break;
        if (!isLive) {
          this.turnAway('sessionRevoked');
          break;
        }
        this.candidate = undefined;
        this.identity = longer(this.identity, identity);
        this.provenAt = askedAt;
        this.streams.user = identity;
        return true;
      } catch (error) {
        if (!(error instanceof ClientError && error.temporary)) noteBug(error);
        if (performance.now() > untilMs) {
          this.candidate = undefined;
          throw unproven();
        }
        this.isProofLate = true;
        this.acceptMore();
        await delay(proofRetryMs * (0.5 + Math.random()), undefined, { ref: false });
      }
    }
    return false;
  }

  private receive(data: Buffer, isBinary: boolean): void {
    if (this.closing) return;
    this.parts.counters.framesIn++;
    this.parts.counters.bytesIn += data.length;
    if (isBinary) return this.refuse(new RefusedFrame(new ClientError('invalid_frame', 'The frame is binary: send JSON as text.')));
    const text = data.toString();
    this.queue.push(text);
    this.queuedChars += text.length;
    if (this.accepting) this.holdOrRead();
    else this.acceptQueued();
  }

  /** Answers the last ping of a turn only, as RFC 6455 lets it (section 5.5.3): a flood of them costs one write a turn. */
  private pong(data: Buffer): void {
    if (this.pingData === undefined) {
      setImmediate(() => {
        this.socket.pong(this.pingData);
        this.pingData = undefined;
        this.holdOrRead();
      });
    }
    this.pingData = data;
    this.countFrame();
  }

  /** Counts a frame that is answered without being queued. */
  private countFrame(): void {
    this.turn.count(0);
    this.holdOrRead();
  }

  /** The socket has taken all that waited for it. */
  private drained(): void {
    if (this.closing) return;
    this.acceptMore();
    void this.streams.catchUp();
  }

  /** Backpressure: TCP makes the client wait where we stop to read. */
  private holdOrRead(): void {
    if (this.turn.isOver && !this.closing) this.turn.await(this.goOn);
    const full =
      this.stopped ||
      this.turn.isOver ||
      this.queue.length >= queueMax ||
      this.queuedChars >= limits.frameMaxBytes ||
      this.unanswered >= limits.unansweredSendsMax ||
      !this.outbox.hasRoom; // who does not take the answers may not ask
    if (full === this.socket.isPaused || this.socket.readyState !== this.socket.OPEN) return;
    if (full) this.socket.pause();
    else this.socket.resume();
  }

  /** Something that held it up may be over: accepts what waits, or reads on. */
  private acceptMore(): void {
    if (!this.accepting && this.hasQueued) this.acceptQueued();
    else if (this.socket.isPaused) this.holdOrRead();
  }

  private get hasQueued(): boolean {
    return this.next !== undefined || this.queue.length > 0;
  }

  private acceptQueued(): void {
    this.accepting = true;
    while (
      (this.candidate === undefined || this.isProofLate || this.isByCookie) &&
      this.hasQueued &&
      !this.turn.isOver &&
      this.unanswered < limits.unansweredSendsMax &&
      this.outbox.hasRoom
    ) {
      const command = (this.next ??= this.takeQueued());
      // Rooms are joined beside each other; whatever else there is waits for the joins before it.
      if (this.streams.isJoining && !this.streams.mayJoin(roomsToJoin(command)))
        return void this.streams.joined().then(() => this.acceptQueued());
      if (this.isAfterSends(command)) break; // each answer to a send comes back here
      const may = this.mayAccept(command);
      if (may === 'later') break;
      this.next = undefined;
      if (may === 'yes') this.answer(command);
      else this.replyError(unproven(), command.id);
    }
    this.accepting = false;
    this.holdOrRead();
  }

  private takeQueued(): Command | RefusedFrame {
    const text = this.queue.shift() ?? '';
    this.queuedChars -= text.length;
    this.turn.count(text.length);
    return read(text);
  }

  /** What begins or ends the stream of a room is answered after the sends to it that came before. */
  private isAfterSends(command: Command | RefusedFrame): boolean {
    const { unansweredIn } = this;
    if (this.unanswered === 0 || unansweredIn === undefined || command instanceof RefusedFrame) return false;
    if (command.event === 'leave_room') return unansweredIn.has(command.data.room_id);
    return roomsToJoin(command).some((room) => unansweredIn.has(room.room_id));
  }

  /** Whether a command may be accepted, as far as its session goes: `later` is judged anew after the next look-up, and once a second. */
  private mayAccept(command: Command | RefusedFrame): 'yes' | 'later' | 'no' {
    const isAuth = !(command instanceof RefusedFrame) && command.event === 'auth';
    if (this.candidate !== undefined && this.isByCookie && isAuth) return 'yes';
    if (this.candidate !== undefined && !this.isProofLate) return 'later';
    if (command instanceof RefusedFrame || command.event === 'ping') return 'yes';
    if (this.candidate !== undefined) return 'later';
    if (this.identity === undefined || command.event === 'leave_room') return 'yes';
    const ageMs = performance.now() - this.provenAt;
    return ageMs <= proofMaxAgeMs ? 'yes' : ageMs < unprovenMaxMs ? 'later' : 'no';
  }

  private answer(command: Command | RefusedFrame): void {
    if (command instanceof RefusedFrame) return this.refuse(command);
    this.badFrames = 0;
    try {
      this.accept(command);
    } catch (error) {
      this.replyError(error, command.id);
    }
  }

  private accept(command: Command): undefined {
    if (command.event === 'auth') return this.acceptAuth(command.data.token, command.id);
    if (command.event === 'ping') return this.reply('pong', {}, command.id);
    if (this.identity === undefined) throw new ClientError('unauthenticated', 'Send {"event":"auth","data":{"token":…}} first.');
    switch (command.event) {
      case 'send_message':
        return this.acceptSend(command);
      case 'join_room':
      case 'join_rooms':
        return this.streams.join(roomsToJoin(command), command.id);
      case 'leave_room':
        return this.streams.leave(command.data.room_id, command.id);
      case 'refresh_token':
        return this.acceptRefresh(command.data.token, this.identity, command.id);
      case 'typing_start':
      case 'typing_stop':
        return this.streams.typing(command.data.room_id, command.event === 'typing_start');
      default:
        return command satisfies never;
    }
  }

  /**
   * What the client says itself wins over the cookie that its browser added. A token that is no good does so too: nothing that follows it may be
   * taken for what the cookie's user said.
   */
  private acceptAuth(token: string, id?: CommandId): undefined {
    let said: Identity;
    try {
      said = this.parts.tokens.verify(token);
    } catch (error) {
      if (this.isByCookie) this.forgetUser();
      throw error;
    }
    const isSameUser = this.identity?.userId === said.userId;
    if (isSameUser) return this.renew(said, () => this.hello(id), id);
    if (this.identity !== undefined && !this.isByCookie)
      throw new ClientError('conflict', 'This connection is authenticated as another user: open another one.');
    this.forgetUser();
    this.authenticate(said, false, id);
  }

  private acceptRefresh(token: string, { userId }: Identity, id?: CommandId): undefined {
    const renewed = this.parts.tokens.verify(token);
    if (renewed.userId !== userId) throw new ClientError('forbidden', 'The token is of another user.');
    this.renew(
      renewed,
      ({ expiresAtMs }) => this.reply('token_refreshed', { token_expires_at: new Date(expiresAtMs).toISOString() }, id),
      id,
    );
  }

  /** Takes another token of its user. */
  private renew(token: Identity, answer: (identity: Identity) => void, id?: CommandId): undefined {
    this.isByCookie = false;
    this.prove(token, performance.now() + unprovenMaxMs)
      .then((isProven) => isProven && this.identity !== undefined && answer(this.identity))
      .catch((error: unknown) => this.replyError(error, id))
      .finally(() => this.acceptMore());
  }

  private acceptSend({ data, id }: Command & { event: 'send_message' }): undefined {
    const clientMsgId = data.client_msg_id ?? undefined;
    const { room_id: roomId } = data;
    const unansweredIn = (this.unansweredIn ??= new Map());
    this.unanswered++;
    unansweredIn.set(roomId, (unansweredIn.get(roomId) ?? 0) + 1);
    this.parts.chat.submit({ roomId, userId: this.userId, content: data.content, clientMsgId }, (result) => {
      this.unanswered--;
      const left = (unansweredIn.get(roomId) ?? 1) - 1;
      if (left === 0) unansweredIn.delete(roomId);
      else unansweredIn.set(roomId, left);
      if (result instanceof ClientError) this.replyError(result, id);
      else if (id !== undefined || clientMsgId !== undefined) this.replyAck(roomId, clientMsgId, result, id);
      this.acceptMore();
    });
  }

  private replyAck(
    roomId: string,
    clientMsgId: string | undefined,
    { id, seq, createdAt, duplicate }: Stored,
    commandId?: CommandId,
  ): void {
    const key = clientMsgId !== undefined && { client_msg_id: clientMsgId };
    const { epoch } = this.parts.feed;
    const ack = { room_id: roomId, ...key, id, seq, created_at: createdAt, duplicate, ...(epoch !== this.helloEpoch && { epoch }) };
    this.outbox.put(encodeAck(ack, commandId));
  }

  private reply<Event extends keyof Reply>(event: Event, data: ServerEvents[Event], id?: CommandId): undefined {
    this.outbox.put(encode(event, data, id));
  }

  private refuse({ error, id }: RefusedFrame): void {
    this.replyError(error, id);
    if (++this.badFrames >= limits.badFramesMax) this.close('badFrames');
  }

  private replyError(error: unknown, id?: CommandId, roomId?: string): void {
    const isKnown = error instanceof ClientError && error.code !== 'internal';
    if (!isKnown) this.parts.log.error({ connection: this.id, err: error }, 'a command failed');
    const answer = isKnown ? error : new ClientError('internal');
    const { errors } = this.parts.counters;
    errors[answer.code] = (errors[answer.code] ?? 0) + 1;
    this.outbox.put(encodeError(answer, id, roomId));
  }
}

/** The token that was given last; of two tokens of one session that which is good for longer. */
const longer = (held: Identity | undefined, given: Identity): Identity =>
  held?.sessionId === given.sessionId && held.expiresAtMs > given.expiresAtMs ? held : given;

const unproven = (): ClientError =>
  new ClientError('unavailable', 'The database is away: whether your session goes on is not known.', { retryAfterMs: 1_000 });

function read(text: string): Command | RefusedFrame {
  try {
    return parseCommand(text);
  } catch (error) {
    return error instanceof RefusedFrame ? error : new RefusedFrame(new ClientError('internal', undefined, { cause: error }));
  }
}

function roomsToJoin(command: Command | RefusedFrame): readonly Join[] {
  if (command instanceof RefusedFrame) return [];
  return command.event === 'join_room' ? [command.data] : command.event === 'join_rooms' ? command.data.rooms : [];
}
