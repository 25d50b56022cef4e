import { jest } from '@jest/globals';
import { limits } from '../protocol/limits.js';
import { Typing, type TypingFrame } from './typing.js';

const room = '018f0000-0000-7000-8000-000000000001';
const ann = '018f0000-0000-7000-8000-00000000000a';
const bob = '018f0000-0000-7000-8000-00000000000b';

function harness() {
  const put: string[] = [];
  const pushed: TypingFrame[][] = [];
  const state = { onItsWay: false };
  const typing = new Typing({
    put: ({ userId, isOn }) => put.push(`${isOn ? '+' : '-'}${userId}`),
    cancel: () => state.onItsWay,
    push: (_, frames) => pushed.push([...frames]),
  });
  const told = () =>
    pushed.flat().map(({ text }) => {
      const { data } = JSON.parse(text) as { data: { user_id: string; is_typing: boolean } };
      return `${data.is_typing ? '+' : '-'}${data.user_id}`;
    });
  return { put, pushed, told, state, typing };
}

const on = (userId: string) => ({ room_id: room, on: [[userId, 'name']] as [string, string][], off: [] });
const off = (userId: string) => ({ room_id: room, on: [], off: [userId] });
const message = (userId: string, content = 'hello') => ({
  seq: 1,
  json: `{"room_id":"${room}","seq":1,"id":1,"user_id":"${userId}","username":"x","content":${JSON.stringify(content)}}`,
});

describe('typing', () => {
  beforeEach(() => {
    jest.useFakeTimers();
  });
  afterEach(() => {
    jest.useRealTimers();
  });

  it('is passed on when it begins, at most every two seconds while it goes on, and when it ends', () => {
    const { put, typing } = harness();
    const socket = {};
    for (let now = 0; now < 5_000; now += 100) typing.start(room, ann, 'Ann', socket, now);
    expect(put).toEqual([`+${ann}`, `+${ann}`, `+${ann}`]);
    typing.stop(room, ann, socket, 5_000);
    typing.stop(room, ann, socket, 5_000);
    expect(put.slice(3)).toEqual([`-${ann}`]);
  });

  it('goes on while one socket of the user types, and needs no end when it has expired', () => {
    const { put, typing } = harness();
    const [one, two] = [{}, {}];
    typing.start(room, ann, 'Ann', one, 0);
    typing.start(room, ann, 'Ann', two, 0);
    typing.stop(room, ann, one, 1);
    expect(put).toEqual([`+${ann}`]);
    typing.stop(room, ann, two, limits.typingExpiryMs);
    expect(put).toEqual([`+${ann}`]);
  });

  it('is told at its beginning and at its end, not when it is renewed, and never to the typist', async () => {
    const { pushed, told, typing } = harness();
    for (let n = 0; n < 5; n++) typing.signal(on(ann));
    typing.signal(off(ann));
    typing.signal(off(ann));
    await jest.advanceTimersByTimeAsync(1_000);
    expect(told()).toEqual([`+${ann}`, `-${ann}`]);
    expect(new Set(pushed.flat().map(({ exceptUserId }) => exceptUserId))).toEqual(new Set([ann]));
    expect(jest.getTimerCount()).toBe(0);
  });

  it('of many makes at most five pushes a second', async () => {
    const { pushed, typing } = harness();
    for (let n = 0; n < 100; n++) {
      for (const userId of [ann, bob]) typing.signal(n % 2 === 0 ? on(userId) : off(userId));
      await jest.advanceTimersByTimeAsync(10);
    }
    expect(pushed.length).toBeLessThanOrEqual(6);
  });

  it('expires by itself when it is not renewed', async () => {
    const { told, typing } = harness();
    typing.signal(on(ann), 0);
    typing.signal(on(bob), 0);
    typing.signal(on(bob), 3_000);
    typing.expire(limits.typingExpiryMs - 1);
    expect(typing.frames(room, '')).toHaveLength(2);
    typing.expire(limits.typingExpiryMs);
    await jest.advanceTimersByTimeAsync(1_000);
    expect(told()).toEqual([`+${ann}`, `+${bob}`, `-${ann}`]);
    typing.expire(3_000 + limits.typingExpiryMs);
    expect(typing.frames(room, '')).toEqual([]);
    typing.close(room);
  });

  it('ends with a message of the typist, not with another’s, whatever stands in it', async () => {
    const { told, typing } = harness();
    typing.signal(on(ann));
    typing.delivered(room, [message(bob, `"user_id":"${ann}"`)]);
    await jest.advanceTimersByTimeAsync(1_000);
    expect(told()).toEqual([`+${ann}`]);
    typing.delivered(room, [message(bob), message(ann)]);
    await jest.advanceTimersByTimeAsync(1_000);
    expect(told()).toEqual([`+${ann}`, `-${ann}`]);
  });

  it('that was not sent before the message is held back; what was on its way is taken back; and the next start is passed on at once', () => {
    const { put, state, typing } = harness();
    const socket = {};
    typing.start(room, ann, 'Ann', socket, 0);
    typing.delivered(room, [message(ann)]);
    expect(put).toEqual([`+${ann}`]);
    typing.start(room, ann, 'Ann', socket, 1);
    state.onItsWay = true;
    typing.delivered(room, [message(ann)]);
    expect(put).toEqual([`+${ann}`, `+${ann}`, `-${ann}`]);
  });

  it('of more than twenty is not shown', () => {
    const { typing } = harness();
    for (let n = 0; n < 30; n++) typing.signal(on(`user-${n}`));
    expect(typing.frames(room, '')).toHaveLength(limits.typingUsersMax);
    expect(typing.frames(room, 'user-0')).toHaveLength(limits.typingUsersMax - 1);
    typing.stopAll();
    expect(jest.getTimerCount()).toBe(0);
  });
});
