import fc from 'fast-check';
import { packSignals, readSignal, type Change } from './signals.js';

const uuids = Array.from({ length: 12 }, (_, n) => `018f0000-0000-7000-8000-0000000000${n.toString(16).padStart(2, '0')}`);
const change: fc.Arbitrary<Change> = fc.record({
  roomId: fc.constantFrom(...uuids.slice(0, 3)),
  userId: fc.constantFrom(...uuids),
  username: fc.string({ unit: 'binary', maxLength: 64 }).filter((name) => name.isWellFormed()),
  isOn: fc.boolean(),
});
const node = '018f0000-0000-7000-8000-00000000ffff';

it('whatever changes are packed come out of payloads that NOTIFY takes, each line with its room in the fixed place', () => {
  fc.assert(
    fc.property(fc.array(change, { maxLength: 300 }), fc.array(change, { maxLength: 300 }), (t, p) => {
      const out = { t: [] as string[], p: [] as string[] };
      for (const payload of packSignals(node, { t, p })) {
        expect(Buffer.byteLength(payload) + 32).toBeLessThan(8_000);
        expect(payload.startsWith('\n')).toBe(true);
        for (const line of payload.slice(1).split('\n')) {
          const signal = readSignal(line.slice(1));
          if (signal === undefined) throw new Error(`not read: ${line}`);
          expect(line.slice(13, 49)).toBe(signal.room_id);
          expect(signal.node).toBe(line.startsWith('p') ? node : undefined);
          const into = out[line.startsWith('p') ? 'p' : 't'];
          for (const [id, name] of signal.on) into.push(`${signal.room_id}+${id}${name}`);
          for (const id of signal.off) into.push(`${signal.room_id}-${id}`);
        }
      }
      const lines = (changes: readonly Change[]) =>
        changes.map(({ roomId, userId, username, isOn }) => (isOn ? `${roomId}+${userId}${username}` : `${roomId}-${userId}`)).toSorted();
      expect(out.t.toSorted()).toEqual(lines(t));
      expect(out.p.toSorted()).toEqual(lines(p));
    }),
    { numRuns: 100 },
  );
});

it('10,000 users of one room fit in 120 payloads', () => {
  const changes = Array.from({ length: 10_000 }, (_, n) => ({
    roomId: uuids[0] ?? '',
    userId: uuids[1] ?? '',
    username: `user-${n}`,
    isOn: true,
  }));
  expect(packSignals(node, { p: changes }).length).toBeLessThan(120);
});

it('what is no signal is read as none', () => {
  fc.assert(fc.property(fc.string(), (text) => void readSignal(text)));
  for (const text of [
    '',
    '{',
    'null',
    '{}',
    '{"room_id":"r"}',
    '{"room_id":"r","on":[["a"]],"off":[]}',
    '{"room_id":"r","on":[],"off":[1]}',
  ]) {
    expect(readSignal(text)).toBeUndefined();
  }
});
