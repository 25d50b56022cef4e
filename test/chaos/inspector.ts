import WebSocket from 'ws';

interface Answer {
  readonly id?: number;
  readonly error?: { readonly message: string };
}

/** The debugger's way into a running node: what no client can do is done to it from outside, and the product has no hook for it. */
export class Inspector {
  private calls = 0;
  private readonly waiting = new Map<number, { answered: () => void; failed: (error: Error) => void }>();

  private constructor(private readonly socket: WebSocket) {
    socket.on('message', (data) => this.take(JSON.parse((data as Buffer).toString()) as Answer));
    socket.on('error', () => undefined); // seen as a close
    socket.on('close', () => {
      for (const { failed } of this.waiting.values()) failed(new Error('the node went away'));
    });
  }

  /** @param url as Node tells it at its start: ws://… */
  static async with<T>(url: string, act: (inspector: Inspector) => Promise<T>): Promise<T> {
    const socket = new WebSocket(url, { perMessageDeflate: false, handshakeTimeout: 10_000 });
    await new Promise<void>((open, failed) => socket.once('open', open).once('error', failed));
    try {
      return await act(new Inspector(socket));
    } finally {
      socket.terminate();
    }
  }

  /** Keeps the event loop busy: nothing else runs in the node meanwhile. Resolves when it is over. */
  block(ms: number): Promise<void> {
    return this.call('Runtime.evaluate', { expression: `for (const end = performance.now() + ${ms}; performance.now() < end; );` });
  }

  /** What is still in the heap after this is held by somebody. */
  collectGarbage(): Promise<void> {
    return this.call('HeapProfiler.collectGarbage');
  }

  private call(method: string, params: object = {}): Promise<void> {
    const id = ++this.calls;
    const answer = new Promise<void>((answered, failed) => this.waiting.set(id, { answered, failed }));
    this.socket.send(JSON.stringify({ id, method, params }));
    return answer;
  }

  private take({ id, error }: Answer): void {
    const call = this.waiting.get(id ?? 0);
    if (call === undefined) return;
    this.waiting.delete(id ?? 0);
    if (error === undefined) call.answered();
    else call.failed(new Error(error.message));
  }
}
