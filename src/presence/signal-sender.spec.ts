import { jest } from '@jest/globals';
import { pino } from 'pino';
import { sendEveryMs, SignalSender } from './signal-sender.js';
import type { Change } from './signals.js';

const change = (userId: string, isOn = true): Change => ({ roomId: 'room', userId, username: userId, isOn });
const names = (changes: readonly Change[]) => changes.map(({ userId, isOn }) => `${isOn ? '+' : '-'}${userId}`);

function harness() {
  const sent: { presence: string[]; typing: string[] }[] = [];
  const state = { busy: false, answer: (): Promise<boolean> => Promise.resolve(true) };
  const sender = new SignalSender({
    isBusy: () => state.busy,
    log: pino({ level: 'silent' }),
    send: (presence, typing) => {
      sent.push({ presence: names(presence), typing: names(typing) });
      return state.answer();
    },
  });
  return { sent, state, sender };
}

describe('the way out of presence and typing', () => {
  beforeEach(() => {
    jest.useFakeTimers();
  });
  afterEach(() => {
    jest.useRealTimers();
  });

  it('sends the first change at once and then at most one statement in 200 ms, of each user the newest', async () => {
    const { sent, sender } = harness();
    sender.putTyping(change('ann'));
    await jest.advanceTimersByTimeAsync(0);
    expect(sent).toEqual([{ presence: [], typing: ['+ann'] }]);
    for (let n = 0; n < 100; n++) {
      sender.putTyping(change('ann', n % 2 === 0));
      sender.putPresence(change(`user-${n}`));
      await jest.advanceTimersByTimeAsync(10);
    }
    await jest.advanceTimersByTimeAsync(sendEveryMs);
    expect(sent.length).toBeLessThanOrEqual(1 + 1_000 / sendEveryMs + 1);
    expect(sent.flatMap(({ presence }) => presence)).toHaveLength(100);
    expect(sent.every(({ typing }) => typing.length <= 1)).toBe(true);
    expect(jest.getTimerCount()).toBe(0);
  });

  it('has one statement in flight, and what comes meanwhile is in the next', async () => {
    const { sent, state, sender } = harness();
    let answer: ((written: boolean) => void) | undefined;
    state.answer = () => new Promise((resolve) => (answer = resolve));
    sender.putPresence(change('ann'));
    await jest.advanceTimersByTimeAsync(0);
    sender.putPresence(change('bob'));
    sender.putPresence(change('ann', false));
    await jest.advanceTimersByTimeAsync(10_000);
    expect(sent).toHaveLength(1);
    answer?.(true);
    await jest.advanceTimersByTimeAsync(0);
    expect(sent[1]).toEqual({ presence: ['+bob', '-ann'], typing: [] });
  });

  it('while messages wait, drops typing, and lets presence through once in two seconds', async () => {
    const { sent, state, sender } = harness();
    state.busy = true;
    sender.putTyping(change('ann'));
    sender.putPresence(change('bob'));
    await jest.advanceTimersByTimeAsync(1_900);
    expect(sent).toEqual([]);
    expect(sender.counters.typingDropped).toBe(1);
    await jest.advanceTimersByTimeAsync(400);
    expect(sent).toEqual([{ presence: ['+bob'], typing: [] }]);
    sender.putPresence(change('bob', false));
    await jest.advanceTimersByTimeAsync(1_000);
    expect(sent).toHaveLength(1);
    state.busy = false;
    await jest.advanceTimersByTimeAsync(sendEveryMs);
    expect(sent[1]).toEqual({ presence: ['-bob'], typing: [] });
  });

  it('keeps presence that could not be written, unless there is newer, and drops typing', async () => {
    const { sent, state, sender } = harness();
    state.answer = () => Promise.reject(new Error('away'));
    sender.putPresence(change('ann'));
    sender.putPresence(change('bob'));
    sender.putTyping(change('bob'));
    await jest.advanceTimersByTimeAsync(0);
    sender.putPresence(change('ann', false));
    state.answer = () => Promise.resolve(true);
    await jest.advanceTimersByTimeAsync(1_000);
    expect(sent.slice(1)).toEqual([{ presence: ['-ann', '+bob'], typing: [] }]);
  });

  it('what was forgotten while it was sent does not come back when that fails', async () => {
    const { sent, state, sender } = harness();
    let answer: ((written: boolean) => void) | undefined;
    state.answer = () => new Promise((resolve) => (answer = resolve));
    sender.putPresence(change('ann', false));
    await jest.advanceTimersByTimeAsync(0);
    sender.forgetPresence();
    answer?.(false);
    await jest.advanceTimersByTimeAsync(5_000);
    expect(sent).toHaveLength(1);
  });

  it('bounds a statement and what waits of typing', async () => {
    const { sent, sender } = harness();
    for (let n = 0; n < 2_500; n++) {
      sender.putPresence(change(`user-${n}`));
      sender.putTyping(change(`user-${n}`));
    }
    await jest.advanceTimersByTimeAsync(2 * sendEveryMs);
    expect(sent.map(({ presence, typing }) => [presence.length, typing.length])).toEqual([
      [1_000, 500],
      [1_000, 0],
      [500, 0],
    ]);
    expect(sender.counters.typingDropped).toBe(2_000);
  });

  it('holds back typing that is not sent yet, and says when it is too late for that', async () => {
    const { sent, state, sender } = harness();
    sender.putTyping(change('ann'));
    expect(sender.cancelTyping('room', 'ann')).toBe(false);
    await jest.advanceTimersByTimeAsync(sendEveryMs);
    expect(sent).toEqual([]);
    state.answer = () => new Promise(() => undefined);
    sender.putTyping(change('ann'));
    await jest.advanceTimersByTimeAsync(sendEveryMs);
    expect(sender.cancelTyping('room', 'ann')).toBe(true);
  });
});
