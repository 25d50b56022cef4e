import fc from 'fast-check';
import { createTestDatabase, type TestDatabase } from '../../test/support/test-database.js';
import { int4Array, textArray, uuidArray } from './binary-arrays.js';

let test: TestDatabase;
beforeAll(async () => {
  test = await createTestDatabase('empty');
});
afterAll(() => test.drop());

it('arrays arrive as they were, with whatever is in them', async () => {
  const text = fc.string({ unit: 'binary', maxLength: 20 }).map((any) => any.replaceAll('\0', '0'));
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 })),
      fc.array(fc.oneof(text, fc.constantFrom('', 'NULL', '{}', '"', '\\', ','))),
      fc.array(fc.option(fc.uuid(), { nil: undefined })),
      async (ints, texts, uuids) => {
        const { rows } = await test.sql.query('SELECT $1::int[] AS ints, $2::text[] AS texts, $3::uuid[]::text[] AS uuids', [
          int4Array(ints),
          textArray(texts),
          uuidArray(uuids),
        ]);
        expect(rows).toEqual([{ ints, texts, uuids: uuids.map((uuid) => uuid ?? null) }]);
      },
    ),
  );
});

it.each(['', 'x', '0190aaaa-aaaa-7aaa-8aaa-aaaaaaaaaaa', '0190aaaa-aaaa-7aaa-8aaa-aaaaaaaaaaag', '0190aaaa-aaaa-7aaa-8aaa-aaaaaaaaaaaa00'])(
  'what is no UUID is not sent as one: %j',
  (text) => {
    expect(() => uuidArray([text])).toThrow('is no UUID');
  },
);
