import { eventually } from '../../test/support/eventually.js';
import { BatchedReads } from './batched-reads.js';

/** Reads that are answered when the test says so; each answer is the number of the read it came from. */
function held(options: { questionsMax?: number; readsMax?: number; waitingMax?: number; apartMs?: number } = {}) {
  const sent: { questions: readonly string[]; answer: () => void; fail: (error: Error) => void }[] = [];
  const reads = new BatchedReads<string, string>({
    ask: (questions) =>
      new Promise((answered, failed) => {
        const n = sent.length;
        sent.push({ questions, answer: () => answered(questions.map((question) => `${question} of read ${n}`)), fail: failed });
      }),
    questionsMax: 100,
    readsMax: 1,
    apartMs: 0,
    ...options,
  });
  return { reads, sent, asked: () => sent.map(({ questions }) => questions) };
}
const turn = () => new Promise((over) => setImmediate(over));

it('what is asked in one turn, or while a read is under way, goes together, in order, and each gets its own answer', async () => {
  const { reads, sent, asked } = held();
  const first = [reads.ask('a'), reads.ask('b')];
  expect(asked()).toEqual([]);
  await turn();
  const second = [reads.ask('c'), reads.ask('d'), reads.ask('e')];
  await turn();
  expect(asked()).toEqual([['a', 'b']]);
  sent[0]?.answer();
  expect(await Promise.all(first)).toEqual(['a of read 0', 'b of read 0']);
  await turn();
  expect(asked()).toEqual([
    ['a', 'b'],
    ['c', 'd', 'e'],
  ]);
  sent[1]?.answer();
  expect(await Promise.all(second)).toEqual(['c of read 1', 'd of read 1', 'e of read 1']);
});

it('nobody is given an answer that was under way when it asked', async () => {
  const { reads, sent } = held({ readsMax: 2 });
  const before = reads.ask('the same');
  await turn();
  const after = reads.ask('the same');
  await turn();
  sent[0]?.answer();
  sent[1]?.answer();
  expect(await Promise.all([before, after])).toEqual(['the same of read 0', 'the same of read 1']);
});

it('no more reads are under way than allowed, and none has more questions', async () => {
  const { reads, sent, asked } = held({ questionsMax: 2, readsMax: 2 });
  const answers = Promise.all(['a', 'b', 'c', 'd', 'e', 'f', 'g'].map((question) => reads.ask(question)));
  for (let n = 0; n < 5; n++) await turn();
  expect(asked()).toEqual([
    ['a', 'b'],
    ['c', 'd'],
  ]);
  for (let n = 0; n < 4; n++) {
    sent[n]?.answer();
    for (let k = 0; k < 5; k++) await turn();
  }
  expect(asked().slice(2)).toEqual([['e', 'f'], ['g']]);
  expect(await answers).toHaveLength(7);
});

it('a read that fails fails those who were in it alone, and the next one goes on', async () => {
  const { reads, sent } = held();
  const first = reads.ask('a');
  await turn();
  const second = reads.ask('b');
  sent[0]?.fail(new Error('away'));
  await expect(first).rejects.toThrow('away');
  await turn();
  sent[1]?.answer();
  expect(await second).toBe('b of read 1');
});

it('refuses a question where as many wait as may, and takes the next when there is room again', async () => {
  const { reads, sent } = held({ questionsMax: 1, waitingMax: 2 });
  const first = reads.ask('a');
  await turn();
  const waiting = [reads.ask('b'), reads.ask('c')];
  await expect(reads.ask('d')).rejects.toMatchObject({ code: 'overloaded', temporary: true });
  sent[0]?.answer();
  expect(await first).toBe('a of read 0');
  await turn();
  await turn();
  waiting.push(reads.ask('e'));
  for (const n of [1, 2, 3]) {
    sent[n]?.answer();
    await turn();
    await turn(); // the answer, then the next read
  }
  expect(await Promise.all(waiting)).toEqual(['b of read 1', 'c of read 2', 'e of read 3']);
});

it('reads begin so far apart, after a lone question a tenth of that, and the first waits for nothing', async () => {
  const apartMs = 500;
  const { reads, sent, asked } = held({ readsMax: 4, apartMs });
  const began = performance.now();
  const answers = [reads.ask('a')];
  await turn();
  answers.push(reads.ask('b'), reads.ask('c'));
  await turn();
  expect(asked()).toEqual([['a']]);
  await eventually(() => sent.length === 2);
  answers.push(reads.ask('d'));
  await turn();
  answers.push(reads.ask('e'));
  expect(asked()).toEqual([['a'], ['b', 'c']]);
  await eventually(() => sent.length === 3);
  expect(performance.now() - began).toBeGreaterThanOrEqual(1.1 * apartMs - 4); // each of two timers may be early by its last ms, and by the clock's
  expect(asked().at(-1)).toEqual(['d', 'e']);
  for (const { answer } of sent) answer();
  expect(await Promise.all(answers)).toHaveLength(5);
});

it('where what waits for its time becomes a whole read, it waits no longer', async () => {
  const { reads, sent, asked } = held({ questionsMax: 3, readsMax: 4, apartMs: 60_000 });
  const answers = [reads.ask('a'), reads.ask('b')];
  await turn();
  answers.push(reads.ask('c'), reads.ask('d'));
  await turn();
  expect(asked()).toEqual([['a', 'b']]);
  answers.push(reads.ask('e'));
  await turn();
  expect(asked()).toEqual([
    ['a', 'b'],
    ['c', 'd', 'e'],
  ]);
  for (const { answer } of sent) answer();
  expect(await Promise.all(answers)).toHaveLength(5);
});

it('where enough wait for a whole read, it waits no longer', async () => {
  const { reads, sent, asked } = held({ questionsMax: 2, readsMax: 4, apartMs: 60_000 });
  const answers = Promise.all(['a', 'b', 'c', 'd', 'e', 'f'].map((question) => reads.ask(question)));
  for (let n = 0; n < 5; n++) await turn();
  expect(asked()).toEqual([
    ['a', 'b'],
    ['c', 'd'],
    ['e', 'f'],
  ]);
  for (const { answer } of sent) answer();
  expect(await answers).toHaveLength(6);
});
