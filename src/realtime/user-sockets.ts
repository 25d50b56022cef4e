/** Frames of one user in one turn of the event loop, by all its sockets; the next come after all others had theirs, however fast they are sent. */
const framesPerTurn = 64;
/** Characters that count as a frame: a large one takes as long to read and store as many. */
const charactersPerFrame = 4_096;

/** After a turn with large frames, the next one begins so much later for each 4 KiB of them: by as much as they cost others several times over. */
const pauseMsPerLargeFrame = 4;

/** How much of a turn of the event loop is left to the sockets that share it. */
export class Turn {
  private left = framesPerTurn;
  private pauseMs = 0;
  /** Sockets that wait for the next one, each by what lets it go on. */
  private readonly waiting = new Set<() => void>();

  get isOver(): boolean {
    return this.left <= 0;
  }

  /** Counts a frame. */
  count(characters: number): void {
    if (this.isOver) return;
    const more = Math.floor(characters / charactersPerFrame);
    this.left -= 1 + more;
    this.pauseMs += more * pauseMsPerLargeFrame;
    if (!this.isOver) return;
    if (this.pauseMs > 0) setTimeout(() => this.begin(), this.pauseMs);
    else setImmediate(() => this.begin());
  }

  /** Lets the socket go on in the next turn, after those that wait already. */
  await(goOn: () => void): void {
    this.waiting.add(goOn);
  }

  leave(goOn: () => void): void {
    this.waiting.delete(goOn);
  }

  private begin(): void {
    this.left = framesPerTurn;
    this.pauseMs = 0;
    for (const goOn of this.waiting) {
      if (this.isOver) return;
      this.waiting.delete(goOn);
      goOn();
    }
  }
}

/** The sockets of each user on this node. A user who may not have one more is told so by the close code; the limit over all users is the gateway's. */
export class UserSockets {
  private readonly users = new Map<string, { count: number; readonly turn: Turn }>();

  constructor(private readonly max: number) {}

  /** @returns the turn that all sockets of the user share; undefined, with nothing counted, where the user has as many sockets as it may */
  add(userId: string): Turn | undefined {
    const user = this.users.get(userId) ?? { count: 0, turn: new Turn() };
    if (user.count >= this.max) return undefined;
    user.count++;
    this.users.set(userId, user);
    return user.turn;
  }

  remove(userId: string): void {
    const user = this.users.get(userId);
    if (user !== undefined && --user.count === 0) this.users.delete(userId);
  }
}
