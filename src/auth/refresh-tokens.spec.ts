import fc from 'fast-check';
import { loadConfig } from '../config.js';
import { RefreshTokens } from './refresh-tokens.js';

const tokens = (secret = 'a secret of the tests, of more than 32 bytes') => new RefreshTokens(loadConfig({ JWT_ACCESS_SECRET: secret }));
const sessionId = '01890000-0000-7000-8000-000000000002';

it('a token and all its successors are of its session, and each is another', () => {
  const chain = [tokens().first(sessionId)];
  for (let n = 0; n < 5; n++) chain.push(tokens().successor(chain[n] ?? ''));
  expect(new Set(chain).size).toBe(6);
  for (const token of chain) expect([token, tokens().sessionOf(token)]).toEqual([expect.stringMatching(/^[\w-]{86}$/), sessionId]);
  expect(tokens().first(sessionId)).not.toBe(chain[0]);
});

it('the successor is the same on every node with the same key, and another with another', () => {
  const token = tokens().first(sessionId);
  expect(tokens().successor(token)).toBe(tokens().successor(token));
  expect(tokens('another secret, also of more than 32 bytes').successor(token)).not.toBe(tokens().successor(token));
});

it('what we did not make, or another key made, is of no session', () => {
  const token = tokens().first(sessionId);
  expect(tokens().sessionOf(tokens('another secret, also of more than 32 bytes').first(sessionId))).toBeUndefined();
  const changed = fc
    .tuple(fc.nat(token.length - 1), fc.constantFrom('A', 'Q', 'g', 'w', '_', '-', '.', '='))
    .map(([n, c]) => token.slice(0, n) + c + token.slice(n + 1));
  fc.assert(
    fc.property(
      fc.oneof(changed, fc.string(), fc.base64String(), fc.constantFrom(`${token}=`, `${token}A`, token.slice(1), '')),
      (text) => {
        expect(tokens().sessionOf(text)).toBe(text === token ? sessionId : undefined);
      },
    ),
  );
});
